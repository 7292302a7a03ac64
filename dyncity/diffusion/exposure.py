"""Exposure bias: a sampler's own samples hold errors that noised data never do: they are noisier than their level says.

A network that is told that level takes what went wrong in earlier steps for data, and keeps it: crumbs of walls, torn
lines. Told a somewhat higher one, it takes more of it for noise, as it should (Li et al. 2024, "Alleviating exposure bias
in diffusion models through sampling with shifted time steps"). Nothing is trained. docs/sampling.md has figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dyncity.config import SamplingConfig


@dataclass(frozen=True)
class Exposure:
    """The network is told ``1 + excess`` times the noise level, at levels within ``interval``."""

    excess: float
    interval: tuple[float, float]

    def told(self, level: float, share: Tensor) -> Tensor:
        """What the levels of samples are multiplied with, ``[b]``.

        Args:
            level: noise level of all of them, 0 (data) to 1 (noise); nobody is told more than 1.
            share: ``[b]`` of the excess that holds for each.
        """
        if not self.interval[0] <= level <= self.interval[1]:
            return share.new_ones(len(share))
        return (1.0 + self.excess * share).clamp(max=1.0 / level)


def exposure_of(sampling: SamplingConfig) -> Exposure | None:
    """That which the settings ask for."""
    return Exposure(sampling.excess, sampling.excess_interval) if sampling.excess else None
