"""What the VAE and the DiT of a preset cost: parameters, GFLOP, seconds and peak memory of each stage.

    python benchmarks/model.py [carlasc] [--dtype float32|bfloat16|both] [--device cpu|cuda] [--skip-times]
                               [--json FILE]

Batch 1, random weights and voxels, 2 threads. A training step is forward, backward and optimiser, dropout on.

GFLOP: ``torch.utils.flop_counter``: convolutions and matrix products, whatever is computed again included;
attention as its fused kernels count it (backward 2.5 times forward), on a CPU by the formulas below since
torch has none there.

Peak memory: each stage runs once in a process of its own. On a CPU it is the process's high-water mark
(VmHWM, set back before the run) less its resident size with model and inputs in place, so it includes
gradients, optimiser state, scratch of the kernels and whatever the allocator keeps: all that the operating
system has to provide. On a GPU it is ``torch.cuda.max_memory_allocated`` less what was allocated before.
Times are the fastest of some runs after that first one.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from dyncity.checkpoint import build_dit, build_vae
from dyncity.config import Config
from dyncity.diffusion.guidance import guided
from dyncity.hexplane import PLANES, plane_shapes, rollout_shape
from dyncity.models.conditioning import ConditionBatch, encode_conditions
from dyncity.presets import PRESETS, preset
from dyncity.training.dit_loop import DiTBatch, DiTObjective
from dyncity.training.memory import hand_back_large_blocks
from dyncity.training.vae_loop import VAEBatch, VAEObjective

THREADS = 2
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Run = Callable[[], object]


def conditions(config: Config, command: str | None, device: torch.device) -> ConditionBatch:
    factors = config.vae.downsample[1:3]
    return encode_conditions([command], [None], config.clip.frames, config.clip_grid, factors).to(device)


def step_of(objective: nn.Module, batch: object, autocast: Callable[[], Any]) -> Run:
    """Forward, backward, optimiser."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        with autocast():
            loss = objective(batch)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def random_ids(config: Config, classes: int, device: torch.device) -> torch.Tensor:
    return torch.randint(0, classes, (1, *config.clip_shape), dtype=torch.uint8, device=device)


def encode(config: Config, device: torch.device, autocast: Callable[[], Any]) -> Run:
    vae = build_vae(config).to(device).eval()
    ids = random_ids(config, vae.classes, device)

    def run() -> None:
        with torch.inference_mode(), autocast():
            vae.encode(ids)

    return run


def decode(config: Config, device: torch.device, autocast: Callable[[], Any]) -> Run:
    vae = build_vae(config).to(device).eval()
    shapes = plane_shapes(vae.latent_shape)
    latent = {p: torch.randn(1, vae.latent_channels, *shapes[p], device=device) for p in PLANES}

    def run() -> None:
        with torch.inference_mode(), autocast():
            vae.decode(latent)

    return run


def vae_step(config: Config, device: torch.device, autocast: Callable[[], Any], frames: int) -> Run:
    if config.vae.recompute and device.type == "cpu":
        hand_back_large_blocks()  # as the training does
    vae = build_vae(config).to(device).train()
    shapes = plane_shapes(vae.latent_shape)
    batch = VAEBatch(
        random_ids(config, vae.classes, device),
        {p: torch.randn(1, vae.latent_channels, *shapes[p], device=device) for p in PLANES},
        torch.arange(frames, device=device),
        1.0,
    )
    objective = VAEObjective(vae, torch.ones(vae.classes), config.vae.kl_weight).to(device)
    return step_of(objective, batch, autocast)


def dit_forward(config: Config, device: torch.device, autocast: Callable[[], Any], scale: float) -> Run:
    dit = build_dit(config).to(device).eval()
    x = torch.randn(1, config.vae.latent_channels, *rollout_shape(config.latent_shape), device=device)
    wanted = conditions(config, None if scale == 1 else "forward", device)
    denoiser, noise_level = guided(dit, wanted, scale), torch.full((1,), 500.0, device=device)

    def run() -> None:
        with torch.inference_mode(), autocast():
            denoiser(x, noise_level)

    return run


def dit_step(config: Config, device: torch.device, autocast: Callable[[], Any]) -> Run:
    objective = DiTObjective(build_dit(config), config.dit.objective).to(device).train()
    data = torch.randn(2, 1, config.vae.latent_channels, *rollout_shape(config.latent_shape), device=device)
    level = torch.tensor([0.5 if config.dit.objective == "flow" else 500], device=device)
    batch = DiTBatch(data[0], data[1], level, conditions(config, "left", device), torch.zeros_like(data[0]), 1.0)
    return step_of(objective, batch, autocast)


def stages(config: Config) -> dict[str, Callable[..., Run]]:
    few, every = config.train_vae.decoded_frames or max(1, config.clip.frames // 4), config.clip.frames
    return {
        "encode": encode,
        "decode to class ids": decode,
        f"VAE step, {few} of {every} frames": lambda *a: vae_step(*a, few),
        "VAE step, all frames": lambda *a: vae_step(*a, every),
        "DiT forward": lambda *a: dit_forward(*a, 1.0),
        "DiT guided forward": lambda *a: dit_forward(*a, config.sampling.cfg_scale),
        "DiT step": dit_step,
    }


def _cpu_attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _cpu_attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward,
}


def resident(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_memory(run: Run, device: torch.device) -> int:
    """Bytes that one run needs beyond what is there before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def fastest(run: Run, device: torch.device, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return best


def measure(config: Config, stage: str, dtype: str, device: torch.device, repeats: int) -> dict[str, Any]:
    """One line of the table, in this process."""
    torch.manual_seed(0)

    def autocast() -> Any:
        return torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32")

    run = stages(config)[stage](config, device, autocast)
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        peak = peak_memory(run, device)
    line: dict[str, Any] = {"stage": stage, "dtype": dtype}
    line |= {"gflop": counter.get_total_flops() / 1e9, "peak_gb": peak / 1e9}
    if repeats:
        line["seconds"] = fastest(run, device, repeats)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", choices=sorted(PRESETS), default="carlasc")
    parser.add_argument("--dtype", choices=(*DTYPES, "both"), default="both")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-times", action="store_true", help="count and measure memory only, one run a stage")
    parser.add_argument("--stage", action="append", help="a stage by its name, may be given again (default: all)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    config, device = preset(options.preset), torch.device(options.device)
    repeats = 0 if options.skip_times else options.repeats
    if options.worker:
        print(json.dumps(measure(config, options.stage[0], options.dtype, device, repeats)))
        return

    unknown = set(options.stage or ()) - set(stages(config))
    if unknown:
        parser.error(f"--stage {unknown.pop()!r}: use one of {', '.join(stages(config))}")
    lines = []
    for stage in options.stage or stages(config):
        for dtype in DTYPES if options.dtype == "both" else (options.dtype,):
            command = [sys.executable, __file__, options.preset, "--worker", "--stage", stage, "--dtype", dtype]
            command += ["--device", options.device, "--repeats", str(repeats)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            lines.append(json.loads(done.stdout))
            print(done.stdout, end="", file=sys.stderr, flush=True)
    models = {"vae": build_vae(config), "dit": build_dit(config)}
    parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {THREADS} threads"
    title = f"{options.preset}, batch 1, {where}; parameters: " + ", ".join(
        f"{name} {count / 1e6:.2f} M" for name, count in parameters.items()
    )
    table = Table("stage", "dtype", "GFLOP", "seconds", "peak GB over the model", title=title)
    for line in lines:
        seconds = f"{line['seconds']:.3f}" if "seconds" in line else ""
        table.add_row(line["stage"], line["dtype"], f"{line['gflop']:.1f}", seconds, f"{line['peak_gb']:.2f}")
    Console().print(table)
    if options.json:
        report = {"preset": options.preset, "device": where, "torch": torch.__version__, "parameters": parameters}
        options.json.write_text(json.dumps({**report, "stages": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()
