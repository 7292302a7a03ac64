"""Rectified flow (Liu et al. 2023): straight lines from data (t = 0) to noise (t = 1)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from dyncity.diffusion.guidance import Denoiser
from dyncity.diffusion.joining import Repeats, noised_again
from dyncity.models.dit import TIME_SCALE


def logit_normal_times(normal: Tensor, mean: float = 0.0) -> Tensor:
    """Training times in (0, 1) from standard normal numbers: most weight on the middle (Esser et al. 2024).

    Args:
        normal: ``[b]``.
        mean: of the logit; above 0 more weight lies on noise, where what is large is decided.
    """
    return torch.sigmoid(normal + mean)


def interpolate(data: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """The noised sample at ``time`` ``[b]`` and the velocity to predict, each ``[b, c, h, w]``."""
    t = time[:, None, None, None]
    return (1 - t) * data + t * noise, noise - data


@torch.inference_mode()
def euler(denoiser: Denoiser, noise: Tensor, steps: int, repeats: Repeats | None = None) -> Tensor:
    """Integrate the flow from noise ``[b, c, h, w]`` at t = 1 to data at t = 0 in equal steps, some taken again."""

    def step(x: Tensor, now: float, after: float) -> Tensor:
        return x + (after - now) * denoiser(x, torch.full((len(x),), now * TIME_SCALE, device=x.device))

    x, drawn = noise, 0
    times = torch.linspace(1.0, 0.0, steps + 1).tolist()
    for now, after in pairwise(times):
        x = step(x, now, after)
        if repeats is None:
            continue
        for _ in range(repeats.after(now)):
            again = step(noised_again(x, after, now, repeats.fresh(drawn)), now, after)
            x, drawn = torch.where(repeats.rows[:, None, None, None], again, x), drawn + 1
    return x


@torch.inference_mode()
def heun(denoiser: Denoiser, noise: Tensor, steps: int) -> Tensor:
    """As ``euler``, second order: each step takes the mean of the velocities at its two ends."""
    x = noise
    times = torch.linspace(1.0, 0.0, steps + 1)
    for now, after in zip(times[:-1], times[1:], strict=True):
        here, there = (torch.full((len(x),), float(t) * TIME_SCALE, device=x.device) for t in (now, after))
        first = denoiser(x, here)
        second = denoiser(x + (after - now) * first, there)
        x = x + (after - now) * (first + second) / 2
    return x
