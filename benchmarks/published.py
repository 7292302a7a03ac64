"""Our models beside plain implementations of the published ones, in one process, with the same weights.

    python benchmarks/published.py [carlasc] [--grid X Y Z] [--frames T] [--repeats N] [--threads N] [--json FILE]

Batch 1, float32, random weights and voxels. The plain models (``tests/plain_vae.py``, ``tests/plain_dit.py``) compute
what the published implementation computes, as it computes it, and give its recorded numbers. Seconds are the fastest
of N runs, plain and ours taking turns, by the clock and of processor time: on a machine with other work only the
second says anything, and with one thread on an idle machine they are the same. The ratio is of processor time.
GFLOP as in ``benchmarks/model.py``. The deviation is the largest over all outputs, relative to the root mean square
of each; for class ids, the share of voxels that differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from model import FORMULAS
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dyncity.config import Config
from dyncity.config_file import override
from dyncity.hexplane import PLANES, plane_shapes, rollout_shape
from dyncity.models.conditioning import ConditionBatch
from dyncity.presets import PRESETS, preset
from dyncity.taxonomy import taxonomy

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from plain_dit import Given
from plain_pairs import dit_pair, vae_pair

# Of the plain one's time; GFLOP that the released implementation was measured to take at carlasc.
TARGETS = {"encode": (0.5, 384.5), "decode to class ids": (0.7, 507.8), "DiT forward": (0.8, 170.6)}
TARGETS["DiT forward, command and trajectory"] = TARGETS["DiT forward"]
Outputs = list[Tensor]
Run = Callable[[], Outputs]


def encode(config: Config) -> tuple[Run, Run]:
    classes = len(taxonomy(config.taxonomy))
    plain, ours = vae_pair(config, classes)
    ids = torch.randint(0, classes, (1, *config.clip_shape), dtype=torch.uint8)

    def run_plain() -> Outputs:
        mean, log_variance = plain.encode(ids)
        return [*mean.values(), *log_variance.values()]

    def run_ours() -> Outputs:
        posterior = ours.encode(ids)
        return [part[p] for part in (posterior.mean, posterior.log_variance) for p in PLANES]

    return run_plain, run_ours


def decode(config: Config) -> tuple[Run, Run]:
    classes = len(taxonomy(config.taxonomy))
    plain, ours = vae_pair(config, classes)
    latent = {p: torch.randn(1, config.vae.latent_channels, *s) for p, s in plane_shapes(config.latent_shape).items()}
    return lambda: [plain.decoder(latent)[:, :, :classes].argmax(2).to(torch.uint8)], lambda: [ours.decode(latent)]


def dit_forward(config: Config, conditional: bool) -> tuple[Run, Run]:
    config = override(config, [f"dit.{name}={str(conditional).lower()}" for name in ("command", "trajectory")])
    plain, ours = dit_pair(config)
    x, step = torch.randn(1, config.vae.latent_channels, *rollout_shape(config.latent_shape)), torch.tensor([500])
    command, trajectory = torch.tensor([1]), torch.randn(1, config.clip.frames, 3)
    vector = (trajectory * torch.tensor([0.1, 0.1, 1.0])).flatten(1)
    conditions = ConditionBatch(command, vector, torch.ones(1), torch.zeros(1, 0, 1, 1))
    return lambda: [plain(x, step, Given(command, trajectory))], lambda: [ours(x, step.float(), conditions)]


STAGES: dict[str, Callable[[Config], tuple[Run, Run]]] = {
    "encode": encode,
    "decode to class ids": decode,
    "DiT forward": lambda config: dit_forward(config, False),
    "DiT forward, command and trajectory": lambda config: dit_forward(config, True),
}


def deviation(ours: Outputs, plain: Outputs) -> float:
    if not plain[0].is_floating_point():
        return float((ours[0] != plain[0]).float().mean())
    return max(float((a - b).abs().max() / b.square().mean().sqrt()) for a, b in zip(ours, plain, strict=True))


@torch.inference_mode()
def measure(config: Config, stage: str, repeats: int) -> dict[str, Any]:
    """One line of the table."""
    runs = dict(zip(("plain", "ours"), STAGES[stage](config), strict=True))
    outputs: dict[str, Outputs] = {}
    seconds, processor = dict.fromkeys(runs, float("inf")), dict.fromkeys(runs, float("inf"))
    line: dict[str, Any] = {"stage": stage, "gflop": {}}
    for name, run in runs.items():  # the first run of each, not timed
        with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
            outputs[name] = run()
        line["gflop"][name] = counter.get_total_flops() / 1e9
    line["deviation"] = deviation(outputs["ours"], outputs["plain"])
    for _ in range(repeats):
        for name, run in runs.items():
            begun, worked = time.perf_counter(), time.process_time()
            run()
            processor[name] = min(processor[name], time.process_time() - worked)
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    line |= {"seconds": seconds, "processor_seconds": processor, "target": TARGETS[stage][0]}
    return line | {"ratio": processor["ours"] / processor["plain"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    published = sorted(set(PRESETS) - {"tiny"})
    parser.add_argument("preset", nargs="?", choices=published, default="carlasc")
    parser.add_argument("--grid", type=int, nargs=3, metavar=("X", "Y", "Z"), help="another grid than the preset's")
    parser.add_argument("--frames", type=int, help="another number of frames")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stage", action="append", choices=STAGES, help="may be given again (default: all)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = preset(options.preset)
    # The released configuration has one slot more than classes.
    settings = [f"vae.class_slots={len(taxonomy(config.taxonomy)) + 1}"]
    if options.grid:
        settings.append(f"grid.shape={options.grid}")
    if options.frames:
        settings.append(f"clip.frames={options.frames}")
    config = override(config, settings)

    lines = []
    for stage in options.stage or STAGES:
        torch.manual_seed(0)
        lines.append(measure(config, stage, options.repeats))
        print(json.dumps(lines[-1]), file=sys.stderr, flush=True)
    sizes = "x".join(map(str, config.clip_shape))
    title = f"{options.preset}, {sizes}, batch 1, float32, CPU, {options.threads} threads, torch {torch.__version__}"
    table = Table(title=title)
    names = "stage,GFLOP plain,released,ours,s plain,ours,processor s plain,ours,ratio,target,deviation"
    for name in names.split(","):
        table.add_column(name)
    for line in lines:
        released = f"{TARGETS[line['stage']][1]:.1f}" if config == override(preset("carlasc"), settings[:1]) else ""
        table.add_row(
            line["stage"],
            f"{line['gflop']['plain']:.1f}",
            released,
            f"{line['gflop']['ours']:.1f}",
            *(f"{line[clock][name]:.2f}" for clock in ("seconds", "processor_seconds") for name in ("plain", "ours")),
            f"{line['ratio']:.2f}",
            f"<= {line['target']}",
            f"{line['deviation']:.1e}",
        )
    Console(width=140).print(table)
    if options.json:
        report = {"preset": options.preset, "clip": config.clip_shape, "threads": options.threads}
        report |= {"torch": torch.__version__, "repeats": options.repeats, "stages": lines}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
