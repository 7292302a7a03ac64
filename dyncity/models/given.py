"""Given voxels as an input of the DiT: a partial clip, encoded by the VAE, with the share that is given.

Wherever a sample is to agree with something known (one frame, the chunk before, all outside a hole, the
tile next to it), that is a clip with 255 for what is open.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor

from dyncity.hexplane import PLANES, rollout
from dyncity.models.vae import HexPlaneVAE
from dyncity.scene import UNKNOWN


def encode_given(vae: HexPlaneVAE, ids: Tensor) -> Tensor:
    """Partial clips ``[b, t, x, y, z]`` -> ``[b, c + 1, h, w]``: latent means, and the share of voxels given."""
    known = (ids != UNKNOWN).float()
    sizes = {f"f{axis}": n // m for axis, n, m in zip("txyz", vae.shape, vae.latent_shape, strict=True)}
    cells = reduce(known, "b (t ft) (x fx) (y fy) (z fz) -> b t x y z", "mean", **sizes)
    shares = {p: rearrange(reduce(cells, f"b t x y z -> b {p[0]} {p[1]}", "mean"), "b h w -> b 1 h w") for p in PLANES}
    return torch.cat([rollout(vae.encode(ids).mean), rollout(shares)], dim=1)


def normalised_given(encoded: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """``encode_given`` in the scale of normalised latents, zero where nothing at all is given.

    Args:
        encoded: ``[b, c + 1, h, w]``.
        mean, std: maps ``[1, c, h, w]`` of ``LatentScale``.
    """
    features, share = encoded[:, :-1], encoded[:, -1:]
    return torch.cat([(features - mean) / std * (share > 0), share], dim=1)
