"""Guidance: away from what the model would answer without its conditions, or without a part of itself.

Classifier-free guidance, u + s (c - u), takes its conditions from the model. A part of the network left out makes it
worse at what it is bad at anyway, and the line from the weaker answer to the whole one points the other way (Karras et
al. 2024, "Guiding a diffusion model with a bad version of itself"; a block left out: Hyung et al. 2025). Small things
that a network of this size half forgets come back so: docs/sampling.md has figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dyncity.config import SamplingConfig
from dyncity.models.conditioning import ConditionBatch
from dyncity.models.dit import COARSE, TIME_SCALE, DiT, Part

Denoiser = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class WeakerSelf:
    """The model without ``part``; ``scale`` times what that lacks is added, at noise levels within ``interval``."""

    part: Part
    scale: float
    interval: tuple[float, float] = (0.0, 1.0)


def weaker_selves(sampling: SamplingConfig) -> tuple[WeakerSelf, ...]:
    """Those that the settings ask for."""
    coarse = WeakerSelf(COARSE, sampling.coarse_scale, sampling.coarse_interval)
    skipped = WeakerSelf(sampling.skip_block, sampling.skip_scale, sampling.skip_interval)
    return tuple(one for one in (coarse, skipped) if one.scale)


def guided_within(sampling: SamplingConfig) -> tuple[tuple[float, float], ...]:
    """The noise levels between which something guides by the settings, each (lowest, highest)."""
    scales = {sampling.cfg_scale, max(sampling.cfg_scale, sampling.cfg_scale_layout)}
    conditions = () if scales == {1.0} else (sampling.cfg_interval,)
    return (*conditions, *(one.interval for one in weaker_selves(sampling)))


def guided(
    model: DiT,
    conditions: ConditionBatch,
    scale: float | Tensor,
    interval: tuple[float, float] = (0.0, 1.0),
    weaker: Sequence[WeakerSelf] = (),
    strength: Tensor | None = None,
) -> Denoiser:
    """A function of (x ``[b, c, h, w]``, time ``[b]``, the same for all) that predicts under guidance.

    It leads away from the answer without conditions, given voxels kept.

    A learned variance is the conditioned row's. Where all scales are 1, nothing is asked, outside the interval, or
    for a model without conditions, the unconditioned half is not computed; else it is in the same pass.

    Args:
        model: the DiT.
        conditions: of b samples.
        scale: one for all, or ``[b]`` one a sample; 1 is no guidance by conditions.
        interval: noise levels (0 data, 1 noise) between which to guide (Kynkaanniemi et al. 2024).
        weaker: the model's weaker selves to keep away from.
        strength: ``[b]`` factors of their scales, one a sample; None: 1.
    """
    scales = torch.as_tensor(scale, dtype=torch.float32, device=conditions.command.device)
    never = not model.conditional or not conditions.ask or bool((scales == 1.0).all())
    # Away from a model that does not know the given voxels would be away from those voxels: both halves know them.
    both = conditions.followed_by(replace(conditions.none(), given=conditions.given))
    b, channels = len(conditions.command), model.channels
    factor = scales.reshape(-1, 1, 1, 1)
    share = 1.0 if strength is None else strength.reshape(-1, 1, 1, 1)

    def predict(x: Tensor, time: Tensor) -> Tensor:
        level = float(time[0]) / TIME_SCALE
        near = [one for one in weaker if one.interval[0] <= level <= one.interval[1]]
        parts = [one.part for one in near]
        if never or not interval[0] <= level <= interval[1]:
            answer, *lacking = model.answers(x, time, conditions, parts)
            mixed = conditioned = answer[:, :channels]
        else:
            pair, *lacking = model.answers(torch.cat([x, x]), torch.cat([time, time]), both, parts, rows=b)
            answer, free = pair.chunk(2)
            conditioned = answer[:, :channels]
            away = free[:, :channels] + factor * (conditioned - free[:, :channels])
            mixed = torch.where(factor == 1.0, conditioned, away)  # to the bit, whatever the others in the batch ask
        for one, lacks in zip(near, lacking, strict=True):
            mixed = mixed + share * one.scale * (conditioned - lacks[:, :channels])
        return torch.cat([mixed, answer[:, channels:]], dim=1)

    return predict
