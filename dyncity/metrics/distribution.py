"""How alike two sets of scenes are, by their class shares."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import OccupancyScene


def class_histogram(scenes: Iterable[OccupancyScene], classes: int) -> NDArray[np.float64]:
    """Share of each class ``[k]`` among the known voxels of all scenes."""
    counts = np.zeros(256, np.int64)
    for scene in scenes:
        counts += np.bincount(scene.semantics.reshape(-1), minlength=256)
    return counts[:classes] / max(1, counts[:classes].sum())


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence of two distributions ``[k]``, in bits: 0 for equal, 1 for disjoint ones."""
    middle = (p + q) / 2

    def divergence(a: NDArray[np.float64]) -> float:
        some = a > 0
        return float((a[some] * np.log2(a[some] / middle[some])).sum())

    return (divergence(p) + divergence(q)) / 2
