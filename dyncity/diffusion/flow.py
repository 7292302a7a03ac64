"""Rectified flow (Liu et al. 2023): straight lines from data (t = 0) to noise (t = 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from dyncity.diffusion.guidance import Denoiser
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
def euler(denoiser: Denoiser, noise: Tensor, steps: int) -> Tensor:
    """Integrate the flow from noise ``[b, c, h, w]`` at t = 1 to data at t = 0 in equal steps."""
    x = noise
    times = torch.linspace(1.0, 0.0, steps + 1)
    for now, after in zip(times[:-1], times[1:], strict=True):
        time = torch.full((len(x),), float(now) * TIME_SCALE, device=x.device)
        x = x + (after - now) * denoiser(x, time)
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
