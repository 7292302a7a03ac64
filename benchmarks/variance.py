"""How much samples vary, against real clips: the variance of their latents along what real clips vary by most.

    dyncity encode --data CORPUS --vae CHECKPOINT --out latents
    python benchmarks/variance.py latents [CHECKPOINT] [--clips 256] [--samplers euler ab2] [--set a.b=c]

Principal components of the normalised latents of the first 60 % of the clips; the conditions of the last ``--clips``
are sampled under, and the ratio is to the variance of all the others, which no component was fitted to. 1 is as much
as real clips; below, samples are too much alike; "real" is how far off so few real clips are.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dyncity.checkpoint import load_checkpoint, shipped_checkpoint
from dyncity.config import SamplingConfig
from dyncity.config_file import override
from dyncity.diffusion.flow import ab2, euler, heun
from dyncity.diffusion.guidance import guided, guided_within, weaker_selves
from dyncity.models.dit import DiT
from dyncity.training.latents import Latents, open_latents

GROUPS = ((0, 4), (4, 16), (16, 48), (48, 128))
SOLVERS = ("euler", "heun", "ab2")
_FITTED = 0.6
_MOST = 3000  # clips that components are fitted to
_BATCH = 16


def components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean ``[d]`` and the first principal directions ``[d, count]`` of ``rows`` ``[n, d]``, n below d."""
    mean = rows.mean(0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    return mean, centred.T @ (vectors.flip(1)[:, :count] / values.flip(0)[:count].sqrt())


def sampled(dit: DiT, settings: SamplingConfig, sampler: str, latents: Latents, clips: list[int]) -> Tensor:
    """Normalised latents ``[n, d]``, sampled under the conditions of some clips."""
    found, generator = [], torch.Generator().manual_seed(0)
    solve = {"euler": euler, "heun": heun, "ab2": partial(ab2, intervals=guided_within(settings))}[sampler]
    for first in range(0, len(clips), _BATCH):
        some = clips[first : first + _BATCH]
        noise = torch.randn(len(some), *latents.rollout.shape[1:], generator=generator)
        with torch.inference_mode():
            conditions = latents.conditions(some)
            denoiser = guided(dit, conditions, settings.cfg_scale, settings.cfg_interval, weaker_selves(settings))
            found.append(solve(denoiser, noise, settings.steps, settings.time_shift).flatten(1))
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("latents", type=Path)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--samplers", nargs="+", default=["euler", "ab2"], choices=SOLVERS)
    parser.add_argument("--set", action="append", default=[], help="a setting of the checkpoint's configuration")
    options = parser.parse_args()
    torch.set_num_threads(2)
    latents, loaded = open_latents(options.latents), load_checkpoint(options.checkpoint)
    assert loaded.dit is not None
    assert loaded.scale is not None
    settings = override(loaded.config, options.set).sampling
    mean, std = loaded.scale.maps(loaded.config.latent_shape)

    def rows(clips: np.ndarray) -> Tensor:
        return ((torch.from_numpy(latents.rollout[clips].astype(np.float32)) - mean) / std).flatten(1)

    count = len(latents.rollout)
    fitted = np.arange(int(_FITTED * count))
    others, asked = np.arange(len(fitted), count - options.clips), np.arange(count - options.clips, count)
    centre, directions = components(rows(fitted[-_MOST:]), GROUPS[-1][1])
    across = torch.cat([(rows(part) - centre) @ directions for part in np.array_split(others, 20)]).var(0)
    table = Table(
        "sampler", *(f"{low + 1} to {high}" for low, high in GROUPS), title="variance over that of real clips"
    )

    def add(name: str, found: Tensor) -> None:
        ratio = ((found - centre) @ directions).var(0) / across
        table.add_row(name, *(f"{float(ratio[low:high].mean()):.2f}" for low, high in GROUPS))

    add("real", rows(asked))
    for sampler in options.samplers:
        add(sampler, sampled(loaded.dit, settings, sampler, latents, asked.tolist()))
    Console().print(table)


if __name__ == "__main__":
    main()
