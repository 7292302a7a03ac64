"""In how many pieces each class lies: walls and kerbs that a model draws torn, FID_bev hardly sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.metrics.components import components


def pieces(voxels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Connected pieces of each class seen from above, ``[k]``: sets of columns joined by sides or corners.

    A column is of every class that it holds at any height, so that a crown does not cut the sidewalk under it.

    Args:
        voxels: class ids ``[x, y, z]`` of one frame.
        classes: k; ids from there on, as that of what is unknown, have no pieces.
    """
    return np.array([len(components((voxels == index).any(axis=2, keepdims=True))) for index in range(classes)])
