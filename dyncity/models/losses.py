"""What the VAE is trained on: weighted cross entropy and Lovasz-softmax, unknown voxels left out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dyncity.models.blocks import recomputed


def class_weights(counts: Tensor, power: float) -> Tensor:
    """Weights ``[k]`` = frequency ** -power, so scaled that the mean weight of a voxel is 1.

    Classes that never occur get weight 0: nothing can be learned about them.
    """
    frequency = counts.double() / counts.sum().clamp(min=1)
    weight = torch.where(counts > 0, frequency.clamp(min=1e-10) ** -power, 0.0)
    return (weight / (weight * frequency).sum().clamp(min=1e-10)).float()


def lovasz_softmax(probabilities: Tensor, labels: Tensor, counts: Tensor | None = None) -> Tensor:
    """Lovasz-softmax (Berman et al. 2018), the mean over the classes present.

    Args:
        probabilities: ``[n, k]``.
        labels: int64 ``[n]``, all in [0, k).
        counts: ``[k]`` voxels of each class in the whole clip, where the ``n`` are those of it that have the
            largest errors; the others, nearly right, would come last in the order and add nearly nothing.
    """
    if len(labels) == 0:
        return probabilities.sum() * 0.0
    counts = torch.bincount(labels, minlength=probabilities.shape[1]) if counts is None else counts
    present = counts.nonzero()[:, 0]
    foreground = (labels[None, :] == present[:, None]).to(probabilities.dtype)  # [p, n]
    errors = (foreground - probabilities.T[present]).abs()
    ordered, order = errors.sort(dim=1, descending=True)
    truth = foreground.gather(1, order)
    size = counts[present, None].to(probabilities.dtype)
    intersection = size - truth.cumsum(1)
    union = size + (1 - truth).cumsum(1)
    jaccard = 1.0 - intersection / union
    slope = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    return (ordered * slope).sum(1).mean()


def reconstruction_loss(
    logits: Tensor, ids: Tensor, weights: Tensor, hardest: int = 0, recompute: bool = False
) -> tuple[Tensor, Tensor]:
    """Cross entropy and Lovasz-softmax of one clip.

    Args:
        logits: ``[f, k, x, y, z]``.
        ids: uint8 ``[f, x, y, z]``; ids outside [0, k) are unknown and left out.
        weights: ``[k]`` class weights.
        hardest: voxels that Lovasz is computed on, those of the lowest probability for their class (0: all);
            sorting every voxel for every class would otherwise cost as much as the network.
        recompute: keep no probabilities of a whole clip for the gradient.

    Returns:
        The two losses. With no known voxel both are 0.
    """
    classes = logits.shape[1]
    targets = torch.where(ids < classes, ids.long(), -1).flatten(1)  # [f, n]
    flat = logits.movedim(1, -1).flatten(1, 3)  # [f, n, k]; no copy: the decoder's logits lie channels-last
    counts = torch.bincount(targets[targets >= 0], minlength=classes)
    with torch.no_grad():
        surprise = torch.stack([_surprise(frame, target) for frame, target in zip(flat, targets, strict=True)])
        count = min(hardest or surprise.numel(), surprise.numel())
        chosen = torch.zeros_like(surprise, dtype=torch.bool).flatten()
        chosen[surprise.flatten().topk(count, sorted=False).indices] = True
    chosen = chosen.view_as(targets) & (targets >= 0)
    # A frame at a time: gradients of the size of all logits exist only once.
    frames = [recomputed(recompute, _frame_terms, *rows, weights) for rows in zip(flat, targets, chosen, strict=True)]
    total = torch.stack([frame[0] for frame in frames]).sum()
    weight = (weights * counts).sum()
    picked = torch.cat([frame[1] for frame in frames])
    return total / weight.clamp(min=1e-8), lovasz_softmax(picked.softmax(-1), targets[chosen], counts)


def _surprise(logits: Tensor, target: Tensor) -> Tensor:
    """Minus the log probability of the class of each voxel, ``[n, k]``, ``[n]`` -> ``[n]``; 0 where it is -1."""
    return F.cross_entropy(logits, target, ignore_index=-1, reduction="none")


def _frame_terms(logits: Tensor, target: Tensor, chosen: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The summed cross entropy of a frame, and the logits of the chosen voxels."""
    return F.cross_entropy(logits, target, weight=weights, ignore_index=-1, reduction="sum"), logits[chosen]
