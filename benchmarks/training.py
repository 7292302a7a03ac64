"""What training the DiT costs at scale: memory and traffic by preset, steps by workers and micro-batches.

    python benchmarks/training.py [--presets A,B] [--steps 8] [--batch 8] [--workers 1 2] [--micro-batches 0 2 1]
        [--precisions float32 bfloat16]

The first table is counted, not run: a float32 weight has its gradient, two moments of Adam, an average, and a place
in the buckets that DDP exchanges, 24 bytes in all; a ring all-reduce of n workers sends 2 (n - 1) / n of the gradient
from each worker in each step. The second one runs the training loop of the preset tiny on random rollouts, in plain
processes under gloo with a thread each. CPU time is that of worker 0, its data thread included; the first steps do not
count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from rich.console import Console
from rich.table import Table

from dyncity.checkpoint import build_dit, build_vae
from dyncity.conditions import COMMANDS
from dyncity.config import Config
from dyncity.config_file import override
from dyncity.hexplane import rollout_shape
from dyncity.models.conditioning import encode_conditions
from dyncity.presets import PRESETS, preset
from dyncity.training.dit_loop import DiTBatch, DiTObjective
from dyncity.training.loop import Metrics, Place, optimise
from dyncity.training.run_folder import prepare_run

_WARM_UP = 2
_RINGS = (2, 4, 8)


def counted(name: str) -> list[str]:
    """A row of the first table: the DiT, and the VAE beside it."""
    config = preset(name)
    vae, dit = (sum(p.numel() for p in build(config).parameters()) for build in (build_vae, build_dit))
    traffic = [f"{2 * (n - 1) / n * 4 * dit / 1e6:,.0f}" for n in _RINGS]
    return [name, f"{vae / 1e6:.1f}", f"{dit / 1e6:.1f}", f"{24 * dit / 1e9:.2f}", *traffic]


def rows_of(step: int, rows: range, config: Config, share: float) -> DiTBatch:
    """Random rows: the network takes as long for these as for any."""
    size = (len(rows), config.vae.latent_channels, *rollout_shape(config.latent_shape))
    conditions = encode_conditions(
        [COMMANDS[row % 4] for row in rows],
        [None] * len(rows),
        config.clip.frames,
        config.clip_grid,
        config.vae.downsample[1:3],
    )
    return DiTBatch(torch.randn(size), torch.randn(size), torch.rand(len(rows)), conditions, torch.zeros(size), share)


def work(rank: int, world: int, config: Config, folder: str) -> None:
    """One worker's whole run; worker 0 leaves its seconds a step behind."""
    torch.set_num_threads(1)
    out, settings = Path(folder), config.train_dit
    dist.init_process_group("gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=world)
    place = Place(rank, world)
    dit, parts, began = build_dit(config), place.parts(settings), [0.0, 0.0]

    def batch_of(step: int) -> list[DiTBatch]:
        if step == _WARM_UP + 1:  # asked for when the step before begins
            began[:] = time.process_time(), time.monotonic()
        return [rows_of(step, rows, config, settings.batch / world) for rows in parts]

    def evaluate(averaged: torch.nn.Module) -> Metrics:
        steps = settings.steps - _WARM_UP
        seconds = (time.process_time() - began[0]) / steps, (time.monotonic() - began[1]) / steps
        (out / "seconds").write_text(" ".join(map(str, seconds)))
        return {}

    optimise(
        out=out,
        config=settings,
        objective=DiTObjective(dit, config.dit.objective),
        parts=list(dit.blocks),
        place=place,
        batch_of=batch_of,
        evaluate=evaluate,
        ship=lambda averaged, metrics: None,
        report=lambda metrics: None,
    )
    dist.destroy_process_group()


def measured(world: int, micro_batch: int, precision: str, batch: int, steps: int) -> list[str]:
    """A row of the second table."""
    settings = [f"batch={batch}", f"micro_batch={micro_batch}", f"steps={steps + _WARM_UP}", "checkpoint_every=100000"]
    settings += ["eval_every=100000", f"precision={precision}"]
    config = override(preset("tiny"), [f"train_dit.{setting}" for setting in settings])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        prepare_run(out, config, resume=False, overwrite=False)
        torch.multiprocessing.spawn(work, (world, config, str(out)), nprocs=world)
        cpu, wall = map(float, (out / "seconds").read_text().split())
    clips = batch // world
    return [
        str(world),
        str(clips),
        str(micro_batch or clips),
        precision,
        f"{cpu:.3f}",
        f"{cpu / clips:.3f}",
        f"{1 / wall:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[0, 2, 1])
    parser.add_argument("--precisions", choices=["float32", "bfloat16"], nargs="+", default=["float32"])
    options = parser.parse_args()
    console = Console(width=160)
    rings = [f"MB sent a step, {n} workers" for n in _RINGS]
    shown = Table("preset", "VAE, M weights", "DiT, M weights", "DiT training state, GB", *rings)
    for name in filter(None, options.presets.split(",")):
        shown.add_row(*counted(name))
    console.print(shown)
    shown = Table("workers", "clips a worker", "at once", "precision", "CPU s a step", "CPU s a clip", "steps/s")
    for world, micro_batch, precision in product(options.workers, options.micro_batches, options.precisions):
        shown.add_row(*measured(world, micro_batch, precision, options.batch, options.steps))
    console.print(shown)


if __name__ == "__main__":
    main()
