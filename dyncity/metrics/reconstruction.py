"""Intersection over union of voxel labels, from a confusion matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.taxonomy import Taxonomy


def confusion(truth: NDArray[np.uint8], guess: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """int64 ``[k, k]`` voxel counts, row truth, column guess; voxels of unknown truth are left out.

    Args:
        truth, guess: uint8 arrays of one shape.
        classes: k; truth ids of k or more are unknown.
    """
    known = truth < classes
    pairs = truth[known].astype(np.int64) * classes + np.minimum(guess[known], classes - 1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[k]`` IoU by class; NaN where a class is absent from the truth."""
    hit, truth, guess = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    union = truth + guess - hit
    return np.where(truth > 0, hit / np.maximum(union, 1), np.nan)


def mean_iou(matrix: NDArray[np.int64], space: Taxonomy) -> float:
    """Mean IoU over the classes other than free that occur in the truth; NaN where none does."""
    iou = class_iou(matrix)
    iou[space.free] = np.nan
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def mapped(matrix: NDArray[np.int64], table: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """The confusion matrix in another label space.

    Args:
        matrix: ``[k, k]``.
        table: uint8 ``[256]``, ``dyncity.taxonomy.label_map``; classes it sends to unknown are left out
            as truth and count as wrong as a guess.
        classes: number of classes of the other space.
    """
    k = len(matrix)
    out = np.zeros((classes + 1, classes + 1), np.int64)
    target = np.minimum(table[:k], classes)
    np.add.at(out, (target[:, None], target[None, :]), matrix)
    return out[:classes, :classes]
