"""The small parts that encoder and decoder are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm(nn.Module):
    """Instance norm of ``[b, c, ...]``, each channel of each sample by itself.

    Written as a group norm with one channel a group: the same numbers, about 3 x faster on a CPU.
    """

    def __init__(self, channels: int, affine: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, ...]`` -> the same shape."""
        return F.group_norm(x, self.channels, self.weight, self.bias, self.eps)


class Pointwise(nn.Module):
    """A convolution with kernel 1 over ``[b, c, ...]``, as one matrix product."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        layer = nn.Linear(channels, out)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, ...]`` -> ``[b, out, ...]``."""
        # A batched product: matmul would fold the batch and copy the volume twice.
        weight = self.weight.expand(len(x), -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])


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
            first, InstanceNorm(channels), nn.LeakyReLU(0.1), second, InstanceNorm(channels), last
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, x, y, z]`` -> the same shape."""
        return x + self.layers(x)
