"""What the exporters cost: rays a second through a grid, and seconds a frame of each tree.

    python benchmarks/export.py [--preset occ3d-nuscenes] [--frames 2] [--rounds 5] [--trees A,B] [--seed 0]

Time is CPU time of this process, the best of the rounds; run it with OMP_NUM_THREADS=1 for one core.
Scenes come from the procedural city. ``--trees none`` leaves the trees out.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dyncity.presets import PRESETS, preset
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from exporters.cameras import NUSCENES_CAMERAS
from exporters.formats import FORMATS, tree_format
from exporters.native_tree import TreeOptions
from exporters.raycast import cast_rays
from exporters.sensors import HDL_32E, HDL_64E
from generators.procedural.city import ProceduralCity


def best(work: Callable[[], object], rounds: int) -> float:
    """CPU seconds of the fastest of some rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def rays(scene: OccupancyScene, rounds: int, seed: int) -> Table:
    """Rays a second, hits and visibility together, for the sensors that exporters use."""
    semantics = scene.semantics[0]
    occupied = (semantics != 0) & (semantics != UNKNOWN)
    camera = NUSCENES_CAMERAS[0]
    cases = [
        ("HDL-32E", HDL_32E.position, HDL_32E.directions()),
        ("HDL-64E", HDL_64E.position, HDL_64E.directions()),
        ("CAM_FRONT, every 5th pixel", camera.position, camera.directions(5)),
        ("random directions", (0.0, 0.0, 2.0), np.random.default_rng(seed).normal(size=(100_000, 3))),
    ]
    grid = "x".join(map(str, scene.grid.shape))
    table = Table("rays", "number", "hit, %", "faces crossed a hit", "M rays/s", title=f"{grid}, one core")
    for name, position, directions in cases:
        origin = np.asarray(position)
        hits = cast_rays(occupied, scene.grid, origin, directions, 1.0)
        seconds = best(lambda o=origin, d=directions: cast_rays(occupied, scene.grid, o, d, 1.0), rounds)
        faces = (np.abs(hits.points - origin) / scene.grid.voxel_size).sum(axis=1).mean()
        share = 100 * len(hits.ray) / len(directions)
        table.add_row(
            name, f"{len(directions)}", f"{share:.0f}", f"{faces:.0f}", f"{len(directions) / seconds / 1e6:.2f}"
        )
    return table


def trees(scene: OccupancyScene, formats: list[str], rounds: int) -> Table:
    """CPU seconds and MB a frame of each tree."""
    table = Table("tree", "s a frame", "MB a frame", "files a frame", title="trees, one core")
    for name in formats:
        with tempfile.TemporaryDirectory() as folder:
            numbered = iter(range(rounds + 1))

            def write(name: str = name, folder: str = folder, numbered: object = numbered) -> None:
                out = Path(folder) / str(next(numbered))  # type: ignore[call-overload]
                out.mkdir()
                tree = tree_format(name).build(out, 1, TreeOptions())
                tree.add(scene)
                tree.finish()

            seconds = best(write, rounds)
            files = [path for path in (Path(folder) / "0").rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
        frames = scene.frames
        table.add_row(name, f"{seconds / frames:.2f}", f"{size / frames / 1e6:.2f}", f"{len(files) / frames:.1f}")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the exporters.")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="occ3d-nuscenes")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trees", default=",".join(FORMATS), help="formats, or none")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = preset(options.preset)
    config = dataclasses.replace(config, clip=dataclasses.replace(config.clip, frames=options.frames))
    scene = ProceduralCity(config).generate([SceneSpec(0, options.seed)])[0]
    console = Console()
    console.print(rays(scene, options.rounds, options.seed))
    if options.trees != "none":
        console.print(trees(scene, options.trees.split(","), max(1, options.rounds // 3)))


if __name__ == "__main__":
    main()
