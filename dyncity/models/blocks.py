"""The small parts that encoder and decoder are made of.

Volumes ``[n, c, x, y, z]`` lie channels-last in memory: convolutions and norms take them as they are, a
1x1x1 convolution is a linear layer, and tokens ``[.., c]`` for the projection are the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts


class InstanceNorm(nn.Module):
    """Instance norm of ``[b, c, ...]``, each channel of each sample by itself.

    With c last in memory it is written out: torch's kernel for that adds up a whole volume in one float32,
    which costs three digits. Else it is a group norm with one channel a group.
    """

    def __init__(self, channels: int, affine: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, ...]`` -> the same shape."""
        if x.is_contiguous():
            return F.group_norm(x, self.channels, self.weight, self.bias, self.eps)
        axes = tuple(range(2, x.ndim))
        centred = x - x.mean(axes, keepdim=True)
        scale = (centred.square().mean(axes, keepdim=True) + self.eps).rsqrt()
        if self.weight is None or self.bias is None:
            return centred * scale
        shape = (-1, *(1 for _ in axes))
        return torch.addcmul(self.bias.view(shape), centred, scale * self.weight.view(shape))


class Pointwise(nn.Module):
    """A convolution with kernel 1 over ``[b, c, ...]``: a linear layer, free of copies where c lies last."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        layer = nn.Linear(channels, out)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, ...]`` -> ``[b, out, ...]``."""
        return F.linear(x.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)


def conv3(channels: int, out: int, padding_mode: str) -> nn.Conv3d:
    """A 3x3x3 convolution that keeps the size; ``padding_mode`` says what lies beyond the border."""
    return nn.Conv3d(channels, out, 3, padding=1, padding_mode=padding_mode)


class ResidualPair(nn.Module):
    """Two layers of one kind added to their input: layer, norm, leaky ReLU, layer, norm.

    Args:
        first, second: convolutions that keep channels and size.
        channels: of their output.
        last: what follows the second norm (the decoder has a leaky ReLU there, the encoder nothing).
    """

    def __init__(self, first: nn.Module, second: nn.Module, channels: int, last: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            first, InstanceNorm(channels), nn.LeakyReLU(0.1, inplace=True), second, InstanceNorm(channels), last
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, x, y, z]`` -> the same shape."""
        return x + self.layers(x)


def frames_at_once(device: torch.device) -> int:
    """Frames that a stage works on together: one stays in a CPU's cache, a GPU wants more to do."""
    return 1 if device.type == "cpu" else 8


def recomputed(wanted: bool, function: Callable[..., Any], *inputs: Any) -> Any:
    """``function(*inputs)``, of which, if ``wanted``, only outputs of convolutions are kept for the gradient.

    Norms, activations, paddings and linear layers between them are many times their memory and nearly
    none of the work, so they are computed again; so is the convolution of one-hot classes, the only one that
    changes the number of channels. The numbers are the same. The function draws nothing.
    """
    if not (wanted and torch.is_grad_enabled()):
        return function(*inputs)

    def run(*inputs: Any) -> Any:
        # Weights that autocast finds in its cache the first time but not the second are another sequence
        # of operations, which the checkpoint refuses.
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            return function(*inputs)
        finally:
            torch.set_autocast_cache_enabled(cached)

    kept = partial(create_selective_checkpoint_contexts, _keep)
    return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=kept)


def _keep(_: Any, operation: Any, *inputs: Any, **__: Any) -> CheckpointPolicy:
    """Whether to keep the output of an operation: of convolutions from as many channels to as many."""
    if operation == torch.ops.aten.convolution.default and inputs[1].shape[0] == inputs[1].shape[1]:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
