"""Growing a sample together with what is given of it, where that is whole cells of the xy plane.

A DiT that is told the voxels around a hole knows what must go on there, and draws a border all the same. One that is
not told, but finds those cells on their way to what they are to become, makes a scene of one piece. So it is told at
the noise levels at which what is large is decided, and then finds; and steps are taken again from fresh noise, so that
both sides agree (RePaint, Lugmayr et al. 2022, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dyncity.diffusion.guidance import Denoiser
from dyncity.models.dit import TIME_SCALE

_LEAST_LEVEL = 1e-3


@dataclass(frozen=True)
class Known:
    """Cells that are known: ``data`` ``[b, c, h, w]`` where ``cells``, bool ``[b, 1, h, w]``."""

    data: Tensor
    cells: Tensor

    @property
    def rows(self) -> Tensor:
        """bool ``[b]``: the samples that have any."""
        return self.cells.flatten(1).any(dim=1)

    def placed(self, x: Tensor) -> Tensor:
        """``x`` ``[b, c, h, w]`` with the known cells as they are known."""
        return torch.where(self.cells, self.data, x)


def known_cells(given: Tensor, latent: tuple[int, int, int, int]) -> Known:
    """Cells of the xy plane that are given over all frames and heights, in samples in which the others are all open.

    Where cells are given in part, by frames or by heights, only a DiT that is told knows of it.

    Args:
        given: ``[b, c + 1, h, w]`` as in ``ConditionBatch``.
        latent: (t, x, y, z) of the latent planes.
    """
    share = given[:, -1:]
    above = share[:, :, : latent[1], : latent[2]]
    whole, open_ = above >= 1.0 - 1e-6, above <= 0.0
    cells = torch.zeros_like(share, dtype=torch.bool)
    cells[:, :, : latent[1], : latent[2]] = whole & (whole | open_).flatten(1).all(dim=1)[:, None, None, None]
    return Known(given[:, :-1], cells)


def joined(told: Denoiser, untold: Denoiser, known: Known, level: float) -> Denoiser:
    """Velocities of a rectified flow towards the known cells; elsewhere ``told``, and up to ``level`` ``untold``."""

    def predict(x: Tensor, time: Tensor) -> Tensor:
        now = float(time[0]) / TIME_SCALE
        velocity = (told if now > level else untold)(x, time)
        return torch.where(known.cells, (x - known.data) / max(now, _LEAST_LEVEL), velocity)

    return predict


@dataclass(frozen=True)
class Repeats:
    """Steps that are taken ``rounds`` times: of the samples ``rows`` (bool ``[b]``), at noise levels in ``interval``.

    ``fresh(n)`` is noise ``[b, c, h, w]``, another for each n.
    """

    rows: Tensor
    rounds: int
    interval: tuple[float, float]
    fresh: Callable[[int], Tensor]

    def after(self, level: float) -> int:
        """How often a step from this level is taken again."""
        return self.rounds - 1 if self.rows.any() and self.interval[0] <= level <= self.interval[1] else 0


def noised_again(x: Tensor, after: float, now: float, noise: Tensor) -> Tensor:
    """A sample of a rectified flow at level ``after``, as it may have been at the level ``now`` above it, below 1."""
    kept = (1.0 - now) / (1.0 - after)
    return kept * x + max(now**2 - (kept * after) ** 2, 0.0) ** 0.5 * noise
