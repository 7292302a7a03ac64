"""What the comparison of training with generated scenes is made of: corpora by the command line, and their scans.

A frame is the voxels that one turn of a LiDAR hits (the cast and the LiDAR of the exporter of SemanticKITTI, on the
scene's own grid) and the classes of all voxels, in CarlaSC's labels, 255 where nobody knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cli
from dyncity.config import Config
from dyncity.datasets.corpus import open_corpus
from dyncity.datasets.shards import OccupancyShards
from dyncity.metrics.components import components
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import CARLASC, label_map
from exporters.sensors import HDL_64E, scan

GROUND = [CARLASC.id(name) for name in ("road", "ground", "sidewalk")]
STRIDE = 2  # every second frame is learned from: a fifth of a second changes little
PEDESTRIAN = CARLASC.id("pedestrian")


def corpus(out: Path, *arguments: str) -> Path:
    """The corpus of ``dyncity ARGUMENTS --resume --out OUT``, run in this process: one by another plan is refused."""
    command = [*arguments, "--workers", "0", "--resume", "--out", str(out)]
    print("dyncity", *command, flush=True)
    try:
        cli.main(command)
    except SystemExit as ended:
        if ended.code:
            raise
    return out


def pedestrian_layout(file: Path, number: int, people: int, config: Config) -> Path:
    """A layout of pedestrians who walk along the street, 4 to 14 m beside the path of the ego; drawn by its number."""
    rng, reach = np.random.default_rng(number), 0.85 * config.grid.upper[0]
    last = config.clip.frames - 1
    way = 1.4 * last / config.grid.frame_rate  # metres
    agents = []
    for _ in range(people):
        x, y = rng.uniform(-reach, reach), rng.uniform(4, min(14, reach)) * rng.choice([-1, 1])
        ahead = rng.random() < 0.5
        path = [
            [frame, x + walked, y, 0 if ahead else np.pi] for frame, walked in ((0, 0), (last, way if ahead else -way))
        ]
        agents.append({"class": "pedestrian", "size": [0.8, 0.8], "path": np.round(path, 2).tolist()})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"agents": agents}, indent=1) + "\n")
    return file


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """The scans and classes of the frames of a corpus; as a ``transform`` it gives them in place of an item.

    Attributes:
        rows: the row of each (scene id, frame).
        scans: uint8 ``[n, x * y * z / 8]``, a bit a voxel: hit or not.
        targets: uint8 ``[n, x, y, z]`` CarlaSC's classes, 255 unknown.
        turning: bool ``[n]`` whether the scene turns left or right.
    """

    rows: dict[tuple[str, int], int]
    scans: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    turning: NDArray[np.bool_]

    def __call__(self, item: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The row of an item of ``OccupancyShards``."""
        return self.row(self.rows[item["scene_id"], int(item["first_frame"])])

    def row(self, number: int) -> dict[str, torch.Tensor]:
        """``scan`` float32 ``[z, x, y]`` (height as channels) and ``target`` uint8 ``[x, y, z]``."""
        target = self.targets[number]
        hit = np.unpackbits(self.scans[number])[: target.size].reshape(target.shape)
        return {"scan": torch.from_numpy(hit).permute(2, 0, 1).float(), "target": torch.from_numpy(target)}


def views(folder: Path, pasted: int = 0, judge: bool = False) -> Views:
    """The views of a corpus, made once and kept beside its shards.

    Args:
        folder: of the corpus.
        pasted: pedestrians that are pasted into each frame before rays are cast.
        judge: of each scene the last frame alone, not every second one: a turn shows by then.
    """
    kept = folder / f"views-{pasted}-{'judge' if judge else 'all'}.npz"
    scenes = open_corpus(folder)
    rows = {}
    for scene_id in scenes.scene_ids:
        length = scenes.frames(scene_id)
        for frame in (length - 1,) if judge else range(0, length, STRIDE):
            rows[scene_id, frame] = len(rows)
    if not kept.exists():
        stored = _cast([in_carlasc(scene) for scene in scenes.scenes()], rows, pasted)
        with kept.with_suffix(".part").open("wb") as file:
            np.savez_compressed(file, **stored)
        kept.with_suffix(".part").rename(kept)
    with np.load(kept, allow_pickle=False) as arrays:
        return Views(rows, arrays["scans"], arrays["targets"], arrays["turning"])


def clips(folder: Path, pasted: int = 0) -> OccupancyShards:
    """Single frames of a corpus, as training takes them."""
    return OccupancyShards(
        folder, frames=1, stride=STRIDE, labels="carlasc", columns=(), transform=views(folder, pasted)
    )


def in_carlasc(scene: OccupancyScene) -> OccupancyScene:
    """The scene in CarlaSC's labels, on the grid it has."""
    table = label_map(scene.taxonomy, "carlasc")
    return replace(scene, semantics=table[scene.semantics], taxonomy="carlasc", instances=None, boxes=None)


def _cast(
    scenes: list[OccupancyScene], rows: dict[tuple[str, int], int], pasted: int
) -> dict[str, NDArray[np.generic]]:
    """The arrays of ``Views``."""
    people = [shape for scene in scenes for shape in _people(scene.semantics[0])] if pasted else []
    scans, targets, turning = [], [], []
    by_name = {scene.scene_id: scene for scene in scenes}
    for (scene_id, frame), row in rows.items():
        scene = by_name[scene_id]
        if people:
            semantics = scene.semantics.copy()
            _paste(semantics[frame], people, pasted, np.random.default_rng(row))
            scene = replace(scene, semantics=semantics)
        hit = np.zeros(scene.grid.shape, np.bool_)
        hit[tuple(scan(scene, frame, HDL_64E).voxel.T)] = True
        scans.append(np.packbits(hit))
        targets.append(scene.semantics[frame])
        turning.append(scene.conditions.command in ("left", "right"))
    return {"scans": np.stack(scans), "targets": np.stack(targets), "turning": np.array(turning)}


def _people(semantics: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """The pedestrians of a frame ``[x, y, z]``: voxels ``[n, 3]`` relative to the lowest corner of each."""
    return [voxels - voxels.min(axis=0) for voxels in components(semantics == PEDESTRIAN)]


def _paste(semantics: NDArray[np.uint8], people: list[NDArray[np.int64]], count: int, rng: np.random.Generator) -> None:
    """Put pedestrians where a frame ``[x, y, z]`` has bare ground under a free column, in place."""
    occupied = (semantics != CARLASC.free)[..., ::-1]
    top = semantics.shape[2] - 1 - occupied.argmax(axis=-1)
    highest = np.take_along_axis(semantics, top[..., None], axis=-1)[..., 0]
    places = np.argwhere(occupied.any(axis=-1) & np.isin(highest, GROUND))
    for _ in range(count):
        shape, (x, y) = people[rng.integers(len(people))], places[rng.integers(len(places))]
        voxels = shape + np.array([x, y, top[x, y] + 1])
        if (voxels < semantics.shape).all() and (semantics[tuple(voxels.T)] == CARLASC.free).all():
            semantics[tuple(voxels.T)] = PEDESTRIAN
