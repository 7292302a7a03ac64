"""What the VAE is trained on: weighted cross entropy and Lovasz-softmax, unknown voxels left out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def class_weights(counts: Tensor, power: float) -> Tensor:
    """Weights ``[k]`` = frequency ** -power, so scaled that the mean weight of a voxel is 1.

    Classes that never occur get weight 0: nothing can be learned about them.
    """
    frequency = counts.double() / counts.sum().clamp(min=1)
    weight = torch.where(counts > 0, frequency.clamp(min=1e-10) ** -power, 0.0)
    return (weight / (weight * frequency).sum().clamp(min=1e-10)).float()


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Lovasz-softmax (Berman et al. 2018), the mean over the classes present in ``labels``.

    Args:
        probabilities: ``[n, k]``.
        labels: int64 ``[n]``, all in [0, k).
    """
    if len(labels) == 0:
        return probabilities.sum() * 0.0
    present = torch.unique(labels)
    foreground = (labels[None, :] == present[:, None]).to(probabilities.dtype)  # [p, n]
    errors = (foreground - probabilities.T[present]).abs()
    ordered, order = errors.sort(dim=1, descending=True)
    truth = foreground.gather(1, order)
    size = truth.sum(1, keepdim=True)
    intersection = size - truth.cumsum(1)
    union = size + (1 - truth).cumsum(1)
    jaccard = 1.0 - intersection / union
    slope = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    return (ordered * slope).sum(1).mean()


def reconstruction_loss(
    logits: Tensor, ids: Tensor, weights: Tensor, lovasz_voxels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross entropy and Lovasz-softmax of one clip.

    Args:
        logits: ``[f, k, x, y, z]``.
        ids: uint8 ``[f, x, y, z]``; ids outside [0, k) are unknown and left out.
        weights: ``[k]`` class weights.
        lovasz_voxels: indices into the flattened clip on which Lovasz is computed (None: all); sorting
            every voxel for every class would otherwise cost as much as the network.

    Returns:
        The two losses. With no known voxel both are 0.
    """
    classes = logits.shape[1]
    target = torch.where(ids < classes, ids.long(), -1).flatten()
    flat = logits.movedim(1, -1).reshape(-1, classes)  # no copy: the decoder's logits lie channels-last
    ce_sum = F.cross_entropy(flat, target, weight=weights, ignore_index=-1, reduction="sum")
    weight_sum = weights[target.clamp(min=0)].mul(target >= 0).sum()
    ce = ce_sum / weight_sum.clamp(min=1e-8)
    chosen, labels = (flat, target) if lovasz_voxels is None else (flat[lovasz_voxels], target[lovasz_voxels])
    known = labels >= 0
    return ce, lovasz_softmax(chosen[known].softmax(-1), labels[known])
