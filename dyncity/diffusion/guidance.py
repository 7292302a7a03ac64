"""Classifier-free guidance: u + s (c - u), the whole batch in one forward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dyncity.models.conditioning import ConditionBatch
from dyncity.models.dit import TIME_SCALE, DiT

Denoiser = Callable[[Tensor, Tensor], Tensor]


def guided(
    model: DiT,
    conditions: ConditionBatch,
    scale: float | Tensor,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Denoiser:
    """A function of (x ``[b, c, h, w]``, time ``[b]``, the same for all) that predicts under guidance.

    A learned variance is the conditioned row's. Where all scales are 1, outside the interval, or for a
    model without conditions, the unconditioned half is not computed.

    Args:
        model: the DiT.
        conditions: of b samples.
        scale: one for all, or ``[b]`` one a sample.
        interval: noise levels (0 data, 1 noise) between which to guide (Kynkaanniemi et al. 2024).
    """
    scales = torch.as_tensor(scale, dtype=torch.float32, device=conditions.command.device)
    if not model.conditional or bool((scales == 1.0).all()):
        return lambda x, time: model(x, time, conditions)
    both, channels = conditions.followed_by(conditions.none()), model.channels
    factor = scales.reshape(-1, 1, 1, 1)

    def predict(x: Tensor, time: Tensor) -> Tensor:
        if not interval[0] <= float(time[0]) / TIME_SCALE <= interval[1]:
            return model(x, time, conditions)
        conditioned, free = model(torch.cat([x, x]), torch.cat([time, time]), both).chunk(2)
        mixed = free[:, :channels] + factor * (conditioned[:, :channels] - free[:, :channels])
        return torch.cat([mixed, conditioned[:, channels:]], dim=1)

    return predict
