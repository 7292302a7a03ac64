"""Rectified flow (Liu et al. 2023): straight lines from data (t = 0) to noise (t = 1)."""

from __future__ import annotations

from collections.abc import Sequence
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


def noise_levels(steps: int, shift: float) -> list[float]:
    """The levels between ``steps`` steps, from 1 (noise) to 0 (data): s t / (1 + (s - 1) t) of equally spaced t.

    A shift s above 1 takes more of the steps at high levels, where what is large is decided, and fewer at low ones
    (Esser et al. 2024, section 5.3.2).
    """
    return [shift * t / (1.0 + (shift - 1.0) * t) for t in torch.linspace(1.0, 0.0, steps + 1).tolist()]


@torch.inference_mode()
def euler(denoiser: Denoiser, noise: Tensor, steps: int, shift: float = 1.0, repeats: Repeats | None = None) -> Tensor:
    """Integrate the flow from noise ``[b, c, h, w]`` at t = 1 to data at t = 0 in steps, some taken again."""
    return _multistep(denoiser, noise, steps, shift, repeats, second_order=False, intervals=())


@torch.inference_mode()
def ab2(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int,
    shift: float = 1.0,
    repeats: Repeats | None = None,
    intervals: Sequence[tuple[float, float]] = (),
) -> Tensor:
    """As ``euler``, second order at the same cost: the velocity goes on changing as it did in the step before.

    Adams and Bashforth's method of two steps (Hairer, Norsett, Wanner 1993, section III.1), for steps of any length.
    Steps of Euler make samples too much alike: eleven with a shift of 3 leave 70 % of a variance of 100. The last step
    is one of Euler, and so ends at the data that the network expects.

    Args:
        denoiser, noise, steps, shift, repeats: as for ``euler``.
        intervals: noise levels between which something guides the denoiser; its velocity jumps where one begins or
            ends, and the step after that is one of Euler. So are all of samples whose steps are taken again: the step
            before is not on their way.
    """
    return _multistep(denoiser, noise, steps, shift, repeats, second_order=True, intervals=intervals)


def _multistep(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int,
    shift: float,
    repeats: Repeats | None,
    *,
    second_order: bool,
    intervals: Sequence[tuple[float, float]],
) -> Tensor:
    def velocity(x: Tensor, level: float) -> Tensor:
        return denoiser(x, torch.full((len(x),), level * TIME_SCALE, device=x.device))

    def jumps(earlier: float, now: float) -> bool:
        return any((low <= earlier <= high) != (low <= now <= high) for low, high in intervals)

    x, drawn = noise, 0
    was, earlier = None, 1.0  # the velocity of the step before, and its level
    for now, after in pairwise(noise_levels(steps, shift)):
        here = ahead = velocity(x, now)
        if second_order and was is not None and after > 0 and not jumps(earlier, now):
            ahead = here + (here - was) * ((after - now) / (2 * (now - earlier)))
        if repeats is not None:
            again = repeats.rows[:, None, None, None]
            x = x + (after - now) * torch.where(again, here, ahead)
            for _ in range(repeats.after(now)):
                back = noised_again(x, after, now, repeats.fresh(drawn))
                x, drawn = torch.where(again, back + (after - now) * velocity(back, now), x), drawn + 1
        else:
            x = x + (after - now) * ahead
        was, earlier = here, now
    return x


@torch.inference_mode()
def heun(denoiser: Denoiser, noise: Tensor, steps: int, shift: float = 1.0) -> Tensor:
    """As ``euler``, second order: each step takes the mean of the velocities at its two ends."""
    x = noise
    for now, after in pairwise(noise_levels(steps, shift)):
        here, there = (torch.full((len(x),), t * TIME_SCALE, device=x.device) for t in (now, after))
        first = denoiser(x, here)
        second = denoiser(x + (after - now) * first, there)
        x = x + (after - now) * (first + second) / 2
    return x
