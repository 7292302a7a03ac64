"""Given voxels as an input of the DiT: a partial clip, encoded by the VAE, with the share that is given.

Wherever a sample is to agree with something known (one frame, the chunk before, all outside a hole, the
tile next to it), that is a clip with 255 for what is open.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from dyncity.hexplane import PLANES, rollout
from dyncity.models.vae import HexPlaneVAE
from dyncity.scene import UNKNOWN


def encode_given(vae: HexPlaneVAE, ids: Tensor) -> Tensor:
    """Partial clips ``[b, t, x, y, z]`` -> ``[b, c + 1, h, w]``: latent means, and the share of voxels given.

    A latent cell with a column of which nothing is given is open: features of half a cell are those of no city,
    and next to them the DiT guessed worse than without any.
    """
    ids = _whole_cells(ids, (vae.shape[1] // vae.latent_shape[1], vae.shape[2] // vae.latent_shape[2]))
    known = (ids != UNKNOWN).float()
    sizes = {f"f{axis}": n // m for axis, n, m in zip("txyz", vae.shape, vae.latent_shape, strict=True)}
    cells = reduce(known, "b (t ft) (x fx) (y fy) (z fz) -> b t x y z", "mean", **sizes)
    shares = {p: rearrange(reduce(cells, f"b t x y z -> b {p[0]} {p[1]}", "mean"), "b h w -> b 1 h w") for p in PLANES}
    return torch.cat([rollout(vae.encode(ids).mean), rollout(shares)], dim=1)


def _whole_cells(ids: Tensor, factors: tuple[int, int]) -> Tensor:
    """``[b, t, x, y, z]`` with 255 in every cell of ``factors`` columns that has an open one, frame by frame."""
    fx, fy = factors
    column = (ids != UNKNOWN).any(dim=-1).float()
    whole = reduce(column, "b t (x fx) (y fy) -> b t x y", "min", fx=fx, fy=fy)
    return torch.where(repeat(whole > 0, "b t x y -> b t (x fx) (y fy) 1", fx=fx, fy=fy), ids, UNKNOWN)


def normalised_given(encoded: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """``encode_given`` in the scale of normalised latents, zero where nothing at all is given.

    Args:
        encoded: ``[b, c + 1, h, w]``.
        mean, std: maps ``[1, c, h, w]`` of ``LatentScale``.
    """
    features, share = encoded[:, :-1], encoded[:, -1:]
    return torch.cat([(features - mean) / std * (share > 0), share], dim=1)
