"""Latents are normalised by plane AND channel: their spread differs several times between them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dyncity.hexplane import PLANES, plane_shapes, rollout, rollout_mask


@dataclass(frozen=True)
class LatentScale:
    """Mean and standard deviation of the latent planes, each ``[6, c]`` in the order of ``PLANES``."""

    mean: Tensor
    std: Tensor

    def maps(self, latent: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
        """Mean (0 in the padding) and deviation (1 there) laid out as rollouts ``[1, c, h, w]``."""
        shapes = plane_shapes(latent)

        def laid_out(values: Tensor) -> Tensor:
            return rollout({p: values[i][None, :, None, None].expand(1, -1, *shapes[p]) for i, p in enumerate(PLANES)})

        return laid_out(self.mean), laid_out(self.std) + (1 - rollout_mask(latent).to(self.std.device))
