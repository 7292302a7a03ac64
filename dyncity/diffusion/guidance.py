"""Classifier-free guidance: u + s (c - u), the whole batch in one forward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dyncity.models.conditioning import ConditionBatch
from dyncity.models.dit import DiT

Denoiser = Callable[[Tensor, Tensor], Tensor]


def guided(model: DiT, conditions: ConditionBatch, scale: float) -> Denoiser:
    """A function of (x ``[b, c, h, w]``, time ``[b]``) that predicts under guidance.

    At scale 1 the unconditioned half would be multiplied by zero, so it is not computed.
    """
    if scale == 1.0:
        return lambda x, time: model(x, time, conditions)
    both = conditions.followed_by(conditions.none())

    def predict(x: Tensor, time: Tensor) -> Tensor:
        conditioned, free = model(torch.cat([x, x]), torch.cat([time, time]), both).chunk(2)
        return free + scale * (conditioned - free)

    return predict
