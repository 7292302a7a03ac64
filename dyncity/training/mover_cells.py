"""What movers add to the latent planes of a clip, and in which directions of a cell that leads."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyncity.hexplane import rollout
from dyncity.models.vae import HexPlaneVAE, Posterior
from dyncity.movers import without_movers
from dyncity.taxonomy import taxonomy

# In deviations of a channel: what movers add below it drowns in the noise that the decoder was trained with, which is
# about as much in the xy plane of ``tiny``.
_DROWNS = 0.35


def mover_latents(vae: HexPlaneVAE, ids: NDArray[np.uint8], posterior: Posterior, labels: str) -> Tensor:
    """What movers add to the means of clips: rollouts ``[b, c, h, w]``, zero where a clip is the same without them.

    Args:
        vae: the model that encoded the clips.
        ids: ``[b, t, x, y, z]`` class ids on a grid fixed to the world.
        posterior: of ``ids``.
        labels: the label space.
    """
    movers = list(taxonomy(labels).movers)
    bare = np.stack([np.where(np.isin(clip, movers), without_movers(clip, labels), clip) for clip in ids])
    without = vae.encode(torch.from_numpy(bare).to(posterior.mean["xy"].device))
    return rollout(posterior.mean) - rollout(without.mean)


def mover_directions(added: Tensor, std: Tensor) -> Tensor:
    """The direction in the channels of each cell in which its movers lead: ``[b, c, h, w]``, about 1 long where movers
    are, 0 where none is.

    Args:
        added: ``mover_latents``.
        std: ``[c, h, w]`` the deviations that latents are normalised by.
    """
    leads = added / std
    return leads / (leads.square().sum(dim=1, keepdim=True) + leads.shape[1] * _DROWNS**2).sqrt()
