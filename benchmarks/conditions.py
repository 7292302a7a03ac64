"""How well a checkpoint obeys: layouts, longer scenes, one frame, inpainting; beside chance and beside real scenes.

    python benchmarks/conditions.py [CHECKPOINT] [--scenes 16] [--seed 3003] [--chunks 4] [--only-chunks] [--json FILE]

Layouts, given frames and scenes to edit are the simulator's; no training corpus of the docs uses the default seed.
``docs/conditions.md`` says what each row measures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dyncity.anchoring import anchored, ego_windows, frame_on
from dyncity.checkpoint import shipped_checkpoint
from dyncity.conditions import COMMANDS, LAYOUT_CLASSES, Conditions, Layout
from dyncity.layout import layout_of
from dyncity.metrics.adherence import mover_rows, poses_continuous, seam_rows, seams
from dyncity.metrics.borders import border_agreement
from dyncity.metrics.distribution import class_histogram
from dyncity.metrics.fid_bev import frechet_distance, patch_features
from dyncity.metrics.layout_adherence import layout_iou
from dyncity.metrics.registration import step_agreements
from dyncity.metrics.vehicles import movers_going_on
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.taxonomy import taxonomy
from generators.base import SceneGenerator
from generators.best_joined import best_joined
from generators.diffusion import LatentDiffusion
from generators.inpainting import known_around
from generators.long_scenes import LongScenes
from generators.procedural.city import ProceduralCity

Row = dict[str, float]


def specs(count: int, seed: int = 3003) -> list[SceneSpec]:
    return [SceneSpec(i, seed, Conditions(COMMANDS[i % 4])) for i in range(count)]  # type: ignore[arg-type]


def generated(source: SceneGenerator, wanted: list[SceneSpec]) -> list[OccupancyScene]:
    """The scenes of some specs, in micro-batches."""
    scenes: list[OccupancyScene] = []
    for first in range(0, len(wanted), source.micro_batch):
        batch = wanted[first : first + source.micro_batch]
        filled = batch + [SceneSpec(10**6 + k, wanted[0].seed) for k in range(source.micro_batch - len(batch))]
        scenes += source.generate(filled)[: len(batch)]
    return scenes


def asked(spec: SceneSpec, world: OccupancyScene, **conditions: object) -> SceneSpec:
    """The spec along the path of a real scene, under further conditions."""
    trajectory, grid_yaw = world.conditions.trajectory, world.conditions.grid_yaw
    known = Conditions(trajectory=trajectory, grid_yaw=grid_yaw, **conditions)  # type: ignore[arg-type]
    return replace(spec, conditions=known)


def layouts(source: LatentDiffusion, worlds: list[OccupancyScene], wanted: list[SceneSpec]) -> dict[str, Row]:
    """IoU from above of what was asked for: every class at once, each alone, and the same without being asked."""
    config = source.config
    views = [layout_of(world.semantics, world.taxonomy) for world in worlds]
    every = np.ones(len(LAYOUT_CLASSES), bool)

    def iou(scenes: list[OccupancyScene], given: NDArray[np.bool_]) -> Row:
        told = [
            replace(s, conditions=replace(s.conditions, layout=Layout(v.maps, given)))
            for s, v in zip(scenes, views, strict=True)
        ]
        return layout_iou(told, config.clip_grid)

    def sampled(given: NDArray[np.bool_] | None) -> list[OccupancyScene]:
        rows = zip(wanted, worlds, views, strict=True)
        return generated(
            source, [asked(s, w, layout=None if given is None else Layout(v.maps, given)) for s, w, v in rows]
        )

    alone: Row = {}
    for number, name in enumerate(LAYOUT_CLASSES):
        one = np.arange(len(LAYOUT_CLASSES)) == number
        alone |= {name: iou(sampled(one), one).get(name, float("nan"))}
    return {
        "all asked": iou(sampled(every), every),
        "asked alone": alone,
        "not asked": iou(sampled(None), every),
        "real": iou([ego_windows(world, config.grid) for world in worlds], every),
    }


def part(scene: OccupancyScene, start: int, end: int) -> OccupancyScene:
    """Frames ``[start, end)`` of a scene."""
    return replace(
        scene,
        semantics=scene.semantics[start:end],
        poses=scene.poses[start:end],
        timestamps_us=scene.timestamps_us[start:end],
        conditions=Conditions(),
        instances=None,
        boxes=None,
    )


def long_scenes(source: LatentDiffusion, wanted: list[SceneSpec], chunks: int, real: list[OccupancyScene]) -> Row:
    """Seams against the inside of chunks, and the last chunk against the first."""
    makes = LongScenes(source, chunks)
    scenes = generated(makes, wanted)
    length = source.config.clip.frames
    truth = patch_features(real)
    first, last = ([part(s, a, a + length) for s in scenes] for a in (0, scenes[0].frames - length))
    distance = [frechet_distance(patch_features(some), truth) for some in (first, last)]
    breaks = seams(length, chunks)
    row = seam_rows((step_agreements(scene), breaks) for scene in scenes)
    row |= mover_rows((movers_going_on(scene), breaks) for scene in scenes)
    classes = len(taxonomy(source.config.taxonomy))
    shares = [class_histogram(some, classes) for some in (first, last, real[::2], real[1::2])]
    return row | {
        "poses continuous, %": 100 * float(np.mean([poses_continuous(scene) for scene in scenes])),
        "FID_bev of the first clip": distance[0],
        "FID_bev last / first": distance[1] / distance[0],
        "class shares that differ, last and first, %": 50 * float(np.abs(shares[0] - shares[1]).sum()),
        "the same of two halves of as many real clips, %": 50 * float(np.abs(shares[2] - shares[3]).sum()),
    }


def from_frame(
    source: LatentDiffusion, worlds: list[OccupancyScene], wanted: list[SceneSpec], real: list[OccupancyScene]
) -> Row:
    """The first frame is given: is it kept, and how it goes on, against the steps after it and against real clips."""
    config = source.config
    windows = [ego_windows(world, config.grid) for world in worlds]
    rows = []
    for spec, world, window in zip(wanted, worlds, windows, strict=True):
        step = np.linalg.inv(world.poses[0]) @ world.grid_poses()[0]
        given = np.full(config.clip_shape, UNKNOWN, np.uint8)
        given[0] = frame_on(window.semantics[0], config.grid, config.clip_grid, step)
        rows.append(asked(spec, world, given=given))
    scenes = generated(source, rows)
    steps = np.array([step_agreements(scene) for scene in scenes])
    pairs = [(s.semantics[0], w.semantics[0]) for s, w in zip(scenes, windows, strict=True)]
    same = [(a == b)[(a != UNKNOWN) & (b != UNKNOWN) & ((a != 0) | (b != 0))] for a, b in pairs]
    half = config.clip.frames // 2
    own, others, truth = (
        patch_features([part(scene, half, config.clip.frames) for scene in some]) for some in (scenes, windows, real)
    )
    return {
        "voxels of the given frame that stay, %": 100 * float(np.mean(np.concatenate(same))),
        "agreement from the given frame to the next": float(steps[:, 0].mean()),
        "agreement of later frames": float(steps[:, 1:].mean()),
        "FID_bev of the second half / that of what really followed": frechet_distance(own, truth)
        / frechet_distance(others, truth),
    }


def inpainted(source: LatentDiffusion, worlds: list[OccupancyScene], wanted: list[SceneSpec]) -> Row:
    """A hole ahead on the left of scenes as the ego sees them: pairs of neighbours across its border that are of one
    class, against real ones.
    """
    config = source.config
    hole = np.zeros(config.clip_shape, bool)
    x, y = config.clip_shape[1:3]
    hole[:, x // 2 : x // 2 + x // 4, y // 2 : y // 2 + y // 4] = True
    rows, before = [], []
    for spec, world in zip(wanted, worlds, strict=True):
        fixed = anchored(ego_windows(world, config.grid), config.clip_grid).semantics
        before.append(fixed)
        rows.append(asked(spec, world, given=known_around(fixed, hole, config.taxonomy)))
    volumes: list[NDArray[np.uint8]] = []
    first_draws: list[NDArray[np.uint8]] = []
    for first in range(0, len(rows), source.micro_batch):
        batch = rows[first : first + source.micro_batch]
        asked_for = [source.conditions(spec) for spec in batch]
        first_draws += source.volumes(batch, asked_for)
        volumes += best_joined(source, batch, asked_for, [hole] * len(batch))
    same = [border_agreement(v, hole) for v in volumes]
    changed = [(v != b) & (b != UNKNOWN) & ~hole for v, b in zip(volumes, before, strict=True)]
    others = [np.where(hole, b, a) for a, b in zip(before, before[1:] + before[:1], strict=True)]
    return {
        "neighbours alike across the border": float(np.mean(same)),
        "in one draw": float(np.mean([border_agreement(v, hole) for v in first_draws])),
        "real": float(np.mean([border_agreement(v, hole) for v in before])),
        "with another scene's inside": float(np.mean([border_agreement(v, hole) for v in others])),
        "voxels outside that changed": float(np.sum(changed)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--seed", type=int, default=3003)
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--only-chunks", action="store_true", help="long scenes alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(2)
    source, console = LatentDiffusion(options.checkpoint), Console()
    wanted = specs(options.scenes, options.seed)
    worlds = [ProceduralCity(source.config, frame="world").generate([spec])[0] for spec in wanted]
    real = [ProceduralCity(source.config).generate([SceneSpec(s.index, 1001, s.conditions)])[0] for s in wanted]

    columns: dict[str, Row] = {}
    sections = {f"{options.chunks} chunks": long_scenes(source, wanted, options.chunks, real)}
    if not options.only_chunks:
        columns = layouts(source, worlds, wanted)
        table = Table("IoU from above, %", *columns, title=f"layouts, {options.scenes} scenes")
        for name in LAYOUT_CLASSES:
            table.add_row(name, *(f"{row.get(name, float('nan')):.1f}" for row in columns.values()))
        console.print(table)
        sections |= {
            "one frame": from_frame(source, worlds, wanted, real),
            "inpainting": inpainted(source, worlds, wanted),
        }
    for title, row in sections.items():
        table = Table(title, "")
        for name, value in row.items():
            table.add_row(name, f"{value:.4g}")
        console.print(table)
    if options.json:
        values = {"checkpoint": str(options.checkpoint), "scenes": options.scenes, "layouts": columns, **sections}
        options.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
