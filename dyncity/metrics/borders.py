"""Does what was generated inside a hole go on from what is around it: neighbours across its border."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import UNKNOWN


def border_pairs(volume: NDArray[np.uint8], hole: NDArray[np.bool_], free: int = 0) -> tuple[int, int]:
    """How many pairs of neighbours along x or y, one in the hole and one not, are of one class, and how many there are.

    Pairs of which both are free, or one is unknown, do not count.

    Args:
        volume: ``[t, x, y, z]`` class ids.
        hole: bool ``[t, x, y, z]``, what was generated.
        free: the id of empty space.
    """
    same = pairs = 0
    for axis in (1, 2):
        a, b = np.delete(volume, -1, axis), np.delete(volume, 0, axis)
        across = np.delete(hole, -1, axis) != np.delete(hole, 0, axis)
        counted = across & ((a != free) | (b != free)) & (a != UNKNOWN) & (b != UNKNOWN)
        pairs += int(counted.sum())
        same += int((a == b)[counted].sum())
    return same, pairs


def border_agreement(volume: NDArray[np.uint8], hole: NDArray[np.bool_], free: int = 0) -> float:
    """The share of ``border_pairs`` that are of one class; NaN where there is no pair.

    Compare with the same of real scenes: where things end, neighbours differ in those too.
    """
    same, pairs = border_pairs(volume, hole, free)
    return same / pairs if pairs else float("nan")
