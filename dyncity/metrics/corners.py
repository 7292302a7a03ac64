"""How many corners the outlines of each class have: kerbs and walls that a model draws jagged, FID_bev does not see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def corners(voxels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Corners of the outline of each class seen from above, ``[k]``: where its edge turns, outwards or inwards.

    A column is of every class that it holds at any height. Four columns that meet hold a corner where one or three of
    them are of the class, two where they are two that touch at the corner alone; the sides of the grid hold none.

    Args:
        voxels: class ids ``[x, y, z]`` of one frame.
        classes: k; ids from there on, as that of what is unknown, have no outline.
    """
    count = np.empty(classes, np.int64)
    for index in range(classes):
        there = (voxels == index).any(axis=2)
        a, b, c, d = there[:-1, :-1], there[1:, :-1], there[:-1, 1:], there[1:, 1:]
        count[index] = np.sum(a ^ b ^ c ^ d) + 2 * np.sum((a & d & ~b & ~c) | (b & c & ~a & ~d))
    return count
