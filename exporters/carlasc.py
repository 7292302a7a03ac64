"""CarlaSC trees: raw labels, hit counts, scans with labels and flow, poses and times, in its Cartesian layout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE, label_map
from exporters.compiled import compiled
from exporters.labels import frames_on_grid
from exporters.motion import moving_tracks, track_poses
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, check_folder, held_out
from exporters.sensors import CARLA_LIDAR, Scan, scan
from exporters.visibility import seen_over_time

LABELS = "carlasc"
SHAPE = (128, 128, 8)
LOWER, UPPER = (-25.6, -25.6, -2.0), (25.6, 25.6, 1.0)
_SIZE = (0.4, 0.4, 0.375)
# z counts from the LiDAR, 1.8 m above the road that ours counts from.
LIDAR_HEIGHT = CARLA_LIDAR.position[2]
# Learning id -> a raw id (CARLA's) that its readers map back: the remap table lists ids 0 to 22.
RAW_IDS = np.array([0, 1, 2, 3, 4, 5, 7, 22, 8, 9, 10], np.uint32)
# Native classes that have a raw id of their own.
_FINER = {"barrier": 17, "lane_marking": 6, "traffic_sign": 12, "traffic_light": 18, "terrain": 22, "parking": 14}
# Loaders find hit counts by replacing this word anywhere in a path.
_REPLACED = ("label",)


class CarlaScTree:
    """Writes ``<out>/Cartesian/{Train,Val,Test}/<town>/cartesian``, one scene a town, and nothing else in a town.

    The last 15 % of the scenes (rounded; at least one of two or more) are for testing, and of three or more as many
    before them for validation. Towns are named ``Town0001`` and so on.

    Args:
        lengths: frames of each scene.
        options: none of them.
    """

    def __init__(self, lengths: Sequence[int], options: TreeOptions | None = None) -> None:
        self.lengths = tuple(lengths)
        tested = held_out(len(lengths))
        validated = tested if len(lengths) > 2 else 0
        self.splits = ["Train"] * (len(lengths) - validated - tested) + ["Val"] * validated + ["Test"] * tested

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write one scene as one town."""
        folder = f"Cartesian/{self.splits[number]}/Town{number + 1:04d}/cartesian"
        write_town(scene, out / folder)
        return {"folder": folder}

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """Nothing is left to write."""
        missing = [split for split in ("Val", "Test") if split not in self.splits]
        notes = [f"fewer than three scenes: there is no {' and no '.join(missing)} split"] if missing else []
        if len(set(self.lengths)) > 1:
            notes.append("scenes differ in length: the published loader stacks towns and needs them equal")
        return Finished(notes=tuple(notes))


def raw_table(labels: str) -> NDArray[np.uint32]:
    """uint32 ``[256]``: class ids of a taxonomy to raw ids; unknown becomes 0."""
    learning = label_map(labels, LABELS)
    table = np.zeros(256, np.uint32)
    known = learning != UNKNOWN
    table[known] = RAW_IDS[learning[known]]
    if labels == "native":
        for name, raw in _FINER.items():
            table[NATIVE.id(name)] = raw
    return table


def carla_grid(frame_rate: float) -> GridSpec:
    """The data set's grid in OUR ego frame: its z range, moved up by the height of the LiDAR."""
    return GridSpec(SHAPE, _SIZE, (LOWER[0], LOWER[1], LOWER[2] + LIDAR_HEIGHT), frame_rate)


def write_town(scene: OccupancyScene, folder: Path) -> None:
    """Write one scene as the ``cartesian`` folder of a town; frame i is number i in all files."""
    raw = raw_table(scene.taxonomy)
    paths = track_poses(scene)
    grid = carla_grid(scene.grid.frame_rate)
    turns = [scan(scene, frame, CARLA_LIDAR, inset=min(_SIZE) / 2, onto=grid) for frame in range(scene.frames)]
    observed = scene.mask_lidar  # where the scene says it
    if observed is None:
        seen = np.stack([turn.seen for turn in turns])
        observed = seen_over_time(scene, seen, moving_tracks(scene, paths)).view(np.uint8)
    masked = dataclasses.replace(scene, instances=None, boxes=None, mask_camera=None, mask_lidar=observed)
    for name in ("evaluation", "velodyne", "labels", "predictions"):
        (folder / name).mkdir(parents=True)
    for frame, (turn, voxels) in enumerate(zip(turns, frames_on_grid(masked, grid), strict=True)):
        name, semantics = f"{frame:06d}", voxels["semantics"]
        on_disk = turn.points.astype("<f4")  # what is counted is what readers find: some points lie on a voxel's side
        counts = hit_counts(on_disk.astype(np.float64), (voxels["mask_lidar"] > 0) & (semantics != UNKNOWN))
        (folder / "evaluation" / f"{name}.label").write_bytes(raw[semantics].astype("<u4").tobytes())
        (folder / "evaluation" / f"{name}.bin").write_bytes(counts.astype("<f4").tobytes())
        semantic = raw[scene.semantics[frame][tuple(turn.voxel.T)]]
        points = np.empty((len(turn.points), 4), "<f4")
        points[:, :3], points[:, 3] = on_disk, np.exp(-0.004 * np.linalg.norm(turn.points, axis=1))
        (folder / "velodyne" / f"{name}.bin").write_bytes(points.data)
        (folder / "labels" / f"{name}.label").write_bytes(semantic.astype("<u4").tobytes())
        flow = point_flow(scene, frame, turn, paths)
        (folder / "predictions" / f"{name}.bin").write_bytes(flow.astype("<f4").tobytes())
    (folder / "evaluation" / "params.json").write_text(params_text(), encoding="ascii")
    mount = np.eye(4)
    mount[2, 3] = LIDAR_HEIGHT
    lidar = scene.poses @ mount
    lidar = np.linalg.inv(lidar[0]) @ lidar
    lidar[0] = np.eye(4)
    rows = lidar[:, :3].reshape(-1, 12) + 0.0
    lines = (" ".join(f"{value:.12e}" for value in row) for row in rows)
    (folder / "poses.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    seconds = (scene.timestamps_us - scene.timestamps_us[0]) / 1e6
    (folder / "times.txt").write_text("".join(f"{s:.6e}\n" for s in seconds), encoding="ascii")


def hit_counts(points: NDArray[np.float64], observed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """float32 ``[128, 128, 8]``: points of this frame's scan a voxel; at least 1 where it was observed at all.

    Readers take 0 as invalid and anything else as valid, so a voxel that rays only passed counts 1.
    """
    counts = np.zeros(SHAPE, np.float32)
    _count(points, np.array(LOWER), np.array(_SIZE), counts)
    return np.where(observed, np.maximum(counts, np.float32(1)), np.float32(0))


@compiled
def _count(
    points: NDArray[np.float64], lower: NDArray[np.float64], size: NDArray[np.float64], counts: NDArray[np.float32]
) -> None:
    """Add 1 for each point ``[n, 3]`` to the voxel that it lies in."""
    for n in range(len(points)):
        x = np.floor((points[n, 0] - lower[0]) / size[0])
        y = np.floor((points[n, 1] - lower[1]) / size[1])
        z = np.floor((points[n, 2] - lower[2]) / size[2])
        if 0 <= x < counts.shape[0] and 0 <= y < counts.shape[1] and 0 <= z < counts.shape[2]:
            counts[int(x), int(y), int(z)] += 1


def params_text() -> str:
    """``params.json``."""
    values = {
        "grid_size": [float(n) for n in SHAPE],
        "min_bound": list(LOWER),
        "max_bound": list(UPPER),
        "num_channels": 25,
        "coordinates": "cartesian",
    }
    return json.dumps(values) + "\n"


def point_flow(
    scene: OccupancyScene, frame: int, turn: Scan, paths: dict[int, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Flow ``[n, 3]`` of the points of a scan: metres they move over ground until the next frame, LiDAR frame.

    Zero for what has no track, and in the last frame.
    """
    flow = np.zeros_like(turn.points)
    if scene.instances is None or frame + 1 == scene.frames:
        return flow
    tracks = scene.instances[frame][tuple(turn.voxel.T)]
    tracked = np.flatnonzero(tracks)
    tracked = tracked[np.argsort(tracks[tracked], kind="stable")]
    found, first = np.unique(tracks[tracked], return_index=True)
    pose = scene.poses[frame].copy()
    pose[:3, 3] += pose[:3, :3] @ CARLA_LIDAR.position
    for track, which in zip(found.tolist(), np.split(tracked, first[1:]), strict=False):
        path = paths[track][[frame, frame + 1]]
        if np.isfinite(path).all():
            world = turn.points[which] @ pose[:3, :3].T + pose[:3, 3]
            step = path[1] @ np.linalg.inv(path[0])
            moved = world @ step[:3, :3].T + step[:3, 3]
            flow[which] = (moved - world) @ pose[:3, :3]
    return flow


TREE = TreeFormat(
    LABELS, "Cartesian", CarlaScTree, check=partial(check_folder, replaced=_REPLACED), covers=carla_grid(10.0)
)
