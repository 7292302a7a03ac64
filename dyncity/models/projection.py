"""The projection module: a feature volume loses the axes that a plane does not keep (paper section 3.2)."""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dyncity.config import VAEConfig
from dyncity.models.blocks import Pointwise, recomputed


class LinearProjection(nn.Module):
    """One learned linear map over all reduced positions, then layer norm: cheap, and position-dependent.

    A map of up to 30,000 inputs moves far in one step of Adam, which gives every weight the same step
    whatever their number. So the weights are of order 1 and the scale 1 / sqrt(inputs) is a constant
    outside of them; without it the tanh that follows saturates and the plane goes dead.
    """

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        inputs = reduced * channels
        self.scale = inputs**-0.5
        self.weight = nn.Parameter(torch.randn(channels, inputs))
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[n, r, c]`` (r reduced positions for each of n kept ones) -> ``[n, c]``."""
        return self.norm(F.linear(tokens.flatten(1), self.weight) * self.scale)


# 64 MB, which the allocator hands back; smaller pieces would leave holes between what is kept.
_WEIGHTS_AT_ONCE = 2**24


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Attention ``[n, h, queries, d]``, ``[n, h, keys, d]`` twice -> ``[n, h, queries, d]``.

    No CPU kernel has dropout without the whole matrix of attention weights in memory (gigabytes for the
    tz plane), so there a few sequences at a time are attended to, and again for the gradient.
    """
    if dropout == 0 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    count = max(1, _WEIGHTS_AT_ONCE // (q.shape[2] * k.shape[2]))
    attention = partial(F.scaled_dot_product_attention, dropout_p=dropout)
    rows = zip(*(a.flatten(0, 1)[:, None].split(count) for a in (q, k, v)), strict=True)
    parts = [checkpoint(attention, *row, use_reentrant=False) for row in rows]
    return torch.cat(parts).view(q.shape)


class AttentionLayer(nn.Module):
    """A pre-norm transformer layer: attention without qkv bias, then an MLP with exact GELU."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float, recompute: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.recompute = heads, dropout, recompute
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """``[n, r, c]`` -> ``[n, queries, c]``, the first ``queries`` positions (None: all)."""
        q, k, v = recomputed(self.recompute, self._before, x, queries)
        mixed = attend(q, k, v, self.dropout if self.training else 0.0)
        return recomputed(self.recompute, self._after, x[:, :queries], mixed)

    def _before(self, x: Tensor, queries: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """``[n, r, c]`` -> queries, keys and values, ``[n, h, .., d]`` each."""
        normed = self.norm1(x)
        of_query, of_rest = self.qkv.weight.split((x.shape[-1], 2 * x.shape[-1]))
        q = rearrange(F.linear(normed[:, :queries], of_query), "n r (h d) -> n h r d", h=self.heads)
        k, v = rearrange(F.linear(normed, of_rest), "n r (s h d) -> s n h r d", s=2, h=self.heads)
        return q, k, v

    def _after(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Positions ``[n, queries, c]`` and what attention found for them -> ``[n, queries, c]``."""
        x = x + self.out(rearrange(mixed, "n h r d -> n r (h d)"))
        return x + self.mlp(self.norm2(x))


class AttentionProjection(nn.Module):
    """A small transformer over the reduced positions and one learned token; the FIRST position is kept."""

    def __init__(
        self, channels: int, reduced: int, heads: int, hidden: int, depth: int, recompute: bool, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.positions = nn.Parameter(0.02 * torch.randn(1, reduced + 1, channels))
        self.layers = nn.ModuleList(AttentionLayer(channels, heads, hidden, dropout, recompute) for _ in range(depth))

    def forward(self, tokens: Tensor) -> Tensor:
        """``[n, r, c]`` -> ``[n, c]``."""
        x = torch.cat([tokens, self.token.expand(len(tokens), -1, -1)], dim=1) + self.positions
        for layer in self.layers[:-1]:
            x = layer(x)
        # Only position 0 is used, so the last layer answers one query.
        return self.layers[-1](x, queries=1)[:, 0]


class Projection(nn.Module):
    """Reduce some axes of ``[b, t, x, y, z, c]`` (or ``[b, x, y, z, c]``) and mix the channels."""

    def __init__(self, config: VAEConfig, source: str, kept: str, size: dict[str, int]) -> None:
        super().__init__()
        channels = config.channels
        gone = [axis for axis in source if axis not in kept]
        reduced = 1
        for axis in gone:
            reduced *= size[axis]
        self.axes, self.kept, self.size = (" ".join(source), " ".join(gone)), kept, size
        heads, hidden, depth = config.projection_heads, config.projection_hidden, config.projection_layers
        self.reduce = (
            LinearProjection(channels, reduced)
            if config.projection == "linear"
            else AttentionProjection(channels, reduced, heads, hidden, depth, config.recompute)
        )
        self.mix = nn.Sequential(Pointwise(channels, channels), nn.Tanh(), Pointwise(channels, channels))

    def forward(self, volume: Tensor) -> Tensor:
        """``[b, <source axes>, c]`` -> ``[b, c, <kept axes>]``."""
        source, gone = self.axes
        kept = " ".join(self.kept)
        tokens = rearrange(volume, f"b {source} c -> (b {kept}) ({gone}) c")
        sizes = {axis: self.size[axis] for axis in self.kept}
        return self.mix(rearrange(self.reduce(tokens), f"(b {kept}) c -> b c {kept}", **sizes))
