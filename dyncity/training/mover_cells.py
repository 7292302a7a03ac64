"""Where in the latent planes of a clip its movers are told of."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyncity.hexplane import PLANES, rollout
from dyncity.models.vae import HexPlaneVAE, Posterior
from dyncity.movers import without_movers
from dyncity.taxonomy import taxonomy


def mover_cells(vae: HexPlaneVAE, ids: NDArray[np.uint8], posterior: Posterior, labels: str) -> Tensor:
    """How much each cell of the rollouts says of movers: ``[b, 1, h, w]`` from 0 to 1.

    It is 1 - exp(-d), d the divergence (nats a channel) of the posterior of the clip from that of the same clip without
    movers, at the variance of the former: 0 where both are alike, 1 where no sample of one could be of the other.

    Args:
        vae: the model that encoded the clips.
        ids: ``[b, t, x, y, z]`` class ids on a grid fixed to the world.
        posterior: of ``ids``.
        labels: the label space.
    """
    movers = list(taxonomy(labels).movers)
    bare = np.stack([np.where(np.isin(clip, movers), without_movers(clip, labels), clip) for clip in ids])
    without = vae.encode(torch.from_numpy(bare).to(posterior.mean["xy"].device))
    nats = {p: 0.5 * (posterior.mean[p] - without.mean[p]).square() / posterior.log_variance[p].exp() for p in PLANES}
    return 1 - torch.exp(-rollout(nats).mean(dim=1, keepdim=True))
