"""Averaged weights of a training: laid out as the weights are, whole where they are evaluated and shipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dyncity.training.sharding import gathered


class Averaged:
    """An exponential moving average of the weights of a module.

    Args:
        module: a copy of the module from before it was shared out; holds the average where it is whole.
        parameters: those of the module, by name: shares of them where it is sharded. The average starts as they are.
        device: where the average is evaluated.

    Attributes:
        weights: the average by name, laid out as ``parameters`` are.
    """

    def __init__(self, module: nn.Module, parameters: dict[str, nn.Parameter], device: torch.device) -> None:
        self._module, self._device = module.eval().requires_grad_(False), device
        self._sharded = any(isinstance(p, DTensor) for p in parameters.values())
        self.weights: dict[str, Tensor] = (
            {name: p.detach().clone() for name, p in parameters.items()}
            if self._sharded
            else dict(self._module.to(device).named_parameters())
        )

    def update(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        """Move towards the weights; ``decay`` of the average stays."""
        get_ema_multi_avg_fn(decay)(list(self.weights.values()), list(parameters.values()), 0)

    @contextmanager
    def whole(self, keep: bool) -> Iterator[nn.Module]:
        """The module with the averaged weights, on its device as long as the context lasts.

        Where they are sharded all workers have to ask; for those that do not ``keep`` it, it means nothing.
        """
        if not self._sharded:
            yield self._module
            return
        found = gathered(self.weights, keep)
        if keep:
            self._module.load_state_dict(found, strict=False)  # buffers that are saved are none of the average's
            self._module.to(self._device)
        yield self._module
        self._module.cpu()
