"""Quality against the work of sampling: samplers, steps, guidance and its interval, in one table.

    python benchmarks/few_steps.py [CHECKPOINT] [--scenes 32] [--samplers euler heun] [--steps 4 8 16 32]
                                   [--cfg-scale 1 2] [--cfg-interval 0,1] [--coarse-scale 0 2] [--skip-scale 0 0.8]
                                   [--time-shift 1 2] [--json FILE]

Evaluations are rows that the network answers for one scene: a guided step costs two, a step of Heun two of them, and a
weaker self the share of the blocks that it runs again.
Every setting samples the same specs (seed 1001) from the same noise; ``docs/metrics.md`` says what the columns measure.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from checkpoint import OTHER_SEED, SEED, Row, specs
from rich.console import Console
from rich.table import Table

from dyncity.checkpoint import shipped_checkpoint
from dyncity.config import SAMPLERS, DiTConfig, SamplingConfig
from dyncity.config_file import read_config
from dyncity.diffusion.ddpm import respaced_schedule
from dyncity.diffusion.flow import noise_levels
from dyncity.metrics.likeness import likeness, likeness_by_class, portrait_of
from dyncity.scene import OccupancyScene
from generators.diffusion import LatentDiffusion
from generators.procedural.city import ProceduralCity

COLUMNS = {
    "FID_bev / real to real": "FID_bev ratio",
    "agreement - real": "agreement - real",
    "command accuracy, %": "command, %",
    "trajectory error, voxels rms": "path, voxels",
    "ego path drivable, %": "drivable, %",
    "frames clear of movers, %": "clear, %",
    "vehicles that fit / real": "vehicles fit",
    "mean speed / real": "speed",
    "pieces of buildings / real": "building pieces",
}


def evaluations(sampling: SamplingConfig, dit: DiTConfig) -> float:
    """Rows that the network answers for one scene."""
    steps = sampling.steps
    if dit.objective == "flow":
        ends = np.array(noise_levels(steps, sampling.time_shift))
        levels = ends[:-1] if sampling.sampler == "euler" else np.concatenate([ends[:-1], ends[1:]])
    else:
        levels = np.asarray(respaced_schedule(steps).timesteps) / 1000
    low, high = sampling.cfg_interval
    guided = (levels >= low) & (levels <= high) & (sampling.cfg_scale != 1.0)
    low, high = sampling.skip_interval
    skipped = (levels >= low) & (levels <= high) & (sampling.skip_scale != 0.0)
    return float(len(levels) + guided.sum() + skipped.sum() * (dit.depth - 1 - sampling.skip_block) / dit.depth)


def interval(text: str) -> tuple[float, float]:
    """``0.1,0.8``."""
    low, high = map(float, text.split(","))
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--samplers", nargs="+", help="by default all that solve the checkpoint's objective")
    parser.add_argument("--steps", nargs="+", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--cfg-scale", nargs="+", type=float, default=[1.0, 2.0])
    parser.add_argument("--cfg-interval", nargs="+", type=interval, default=[(0.0, 1.0)])
    parser.add_argument("--coarse-scale", nargs="+", type=float, help="by default the checkpoint's")
    parser.add_argument("--skip-scale", nargs="+", type=float, help="by default the checkpoint's")
    parser.add_argument("--time-shift", nargs="+", type=float, help="by default the checkpoint's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(2)
    config, console = read_config(options.checkpoint / "config.json"), Console()
    wanted, city = specs(options.scenes, SEED), ProceduralCity(config)
    real = portrait_of([city.generate([spec])[0] for spec in wanted])
    others = portrait_of([city.generate([spec])[0] for spec in specs(options.scenes, OTHER_SEED)])

    rows: list[Row] = []
    table = Table("sampler", "steps", "guidance", "evaluations", *COLUMNS.values(), "s a scene")
    settings = [
        replace(
            config.sampling,
            sampler=sampler,
            steps=steps,
            time_shift=shift,
            cfg_scale=scale,
            cfg_interval=between,
            coarse_scale=coarse,
            skip_scale=skip,
        )
        for sampler in options.samplers or SAMPLERS[config.dit.objective]
        for steps in options.steps
        for shift in options.time_shift or [config.sampling.time_shift]
        for scale in options.cfg_scale
        for between in (options.cfg_interval if scale != 1.0 else [(0.0, 1.0)])
        for coarse in options.coarse_scale or [config.sampling.coarse_scale]
        for skip in options.skip_scale or [config.sampling.skip_scale]
    ]
    for sampling in settings:
        source, begun = LatentDiffusion(options.checkpoint, sampling), time.perf_counter()
        scenes: list[OccupancyScene] = []
        for first in range(0, len(wanted), source.micro_batch):
            scenes += source.generate(wanted[first : first + source.micro_batch])
        seconds = (time.perf_counter() - begun) / len(wanted)
        samples = portrait_of(scenes)
        row = samples.rows() | likeness(samples, real, others)
        classes = likeness_by_class(samples, real, others)
        row["pieces of buildings / real"] = classes["pieces / real"]["building"]
        count = evaluations(sampling, config.dit)
        guidance = f"{sampling.cfg_scale:g}" if sampling.cfg_scale != 1.0 else "none"
        if sampling.cfg_interval != (0.0, 1.0):
            guidance += " in {:g} to {:g}".format(*sampling.cfg_interval)
        if sampling.time_shift != 1.0:
            guidance += f", shift {sampling.time_shift:g}"
        guidance += f", coarse {sampling.coarse_scale:g}, block {sampling.skip_scale:g}"
        # Of few scenes some rows are missing: in those of two nobody may move.
        cells = [f"{row.get(name, float('nan')):.3g}" for name in COLUMNS]
        table.add_row(sampling.sampler, str(sampling.steps), guidance, f"{count:.3g}", *cells, f"{seconds:.2f}")
        console.print(f"{sampling.sampler} {sampling.steps} {guidance}: {' '.join(cells)}")
        rows.append({"evaluations": count, "steps": sampling.steps, "cfg_scale": sampling.cfg_scale, **row})
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps({"checkpoint": str(options.checkpoint), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
