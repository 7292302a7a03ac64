"""What a checkpoint reaches on seeds it never saw: reconstruction, and samples against the simulator.

    python benchmarks/checkpoint.py [CHECKPOINT] [--scenes 64]

Simulated scenes come from root seed 1001 (training corpora in the docs use seed 1).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dyncity.checkpoint import load_checkpoint, shipped_checkpoint
from dyncity.conditions import COMMANDS, Conditions
from dyncity.metrics.distribution import class_histogram, jensen_shannon
from dyncity.metrics.ego_path import ego_path
from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.taxonomy import NATIVE
from dyncity.training.vae_loop import reconstruction_metrics
from generators.diffusion import LatentDiffusion
from generators.procedural.city import ProceduralCity

SEED = 1001


def specs(count: int, seed: int) -> list[SceneSpec]:
    return [SceneSpec(i, seed, Conditions(COMMANDS[i % 4])) for i in range(count)]  # type: ignore[arg-type]


def summary(scenes: list[OccupancyScene]) -> dict[str, float]:
    paths = np.array([ego_path(scene) for scene in scenes]).mean(axis=0)
    shares = class_histogram(scenes, len(NATIVE))
    vehicles = shares[[NATIVE.id(n) for n in ("car", "truck", "bus", "other_vehicle", "trailer")]].sum()
    return {
        "ego path drivable": paths[0],
        "frames clear of movers": paths[1],
        "free": shares[0],
        "vehicles / occupied": vehicles / (1 - shares[0]),
        "pedestrians / occupied": shares[NATIVE.id("pedestrian")] / (1 - shares[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--scenes", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(2)
    loaded, console = load_checkpoint(options.checkpoint), Console()

    fixed = ProceduralCity(loaded.config, frame="world")
    clips = [fixed.generate([spec])[0].semantics for spec in specs(options.scenes, SEED)]
    table = Table("reconstruction, unseen seeds", "")
    for name, value in reconstruction_metrics(loaded.vae, clips, "native", torch.device("cpu")).items():
        table.add_row(name, f"{100 * value:.1f}")
    console.print(table)

    moving = ProceduralCity(loaded.config)
    real = [moving.generate([spec])[0] for spec in specs(options.scenes, SEED)]
    source = LatentDiffusion(options.checkpoint)
    wanted, samples, begun = specs(options.scenes, SEED), [], time.perf_counter()
    for first in range(0, len(wanted), source.micro_batch):
        samples += source.generate(wanted[first : first + source.micro_batch])
    seconds = (time.perf_counter() - begun) / len(wanted)
    table = Table("scenes", "simulated", "sampled")
    for (name, a), b in zip(summary(real).items(), summary(samples).values(), strict=True):
        table.add_row(name, f"{100 * a:.2f} %", f"{100 * b:.2f} %")
    half = len(real) // 2
    own = jensen_shannon(class_histogram(real[:half], 29), class_histogram(real[half:], 29))
    other = jensen_shannon(class_histogram(real, 29), class_histogram(samples, 29))
    table.add_row("class histogram, JS in bits", f"{own:.4f} (half against half)", f"{other:.4f}")
    table.add_row("seconds a scene, 2 threads", "", f"{seconds:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
