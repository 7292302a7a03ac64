"""Connected components of a voxel mask, and what is beside a mask, in numpy alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Half of the 26 neighbours; the other half are the same pairs seen from the other side.
_AHEAD = np.array([(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) if (a, b, c) > (0, 0, 0)])


def components(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The sets of voxels joined by faces, edges or corners: ``[n, 3]`` indices each, by their first voxel.

    Args:
        mask: bool ``[x, y, z]``.
    """
    inside = np.zeros(np.add(mask.shape, 2), bool)
    inside[1:-1, 1:-1, 1:-1] = mask
    flat = np.flatnonzero(inside)
    if not len(flat):
        return []
    places = np.stack(np.unravel_index(flat, inside.shape), axis=1) - 1
    number = np.full(inside.size, -1, np.int32)
    number[flat] = np.arange(len(flat))
    other = number[flat[:, None] + _AHEAD @ inside.strides]  # a voxel is a byte
    joined = other >= 0
    first, second = joined.nonzero()[0], other[joined]
    root = np.arange(len(flat))
    while True:
        # Every voxel takes the smallest root next to it, then roots point to their own roots.
        smallest = root.copy()
        np.minimum.at(smallest, first, root[second])
        np.minimum.at(smallest, second, root[first])
        smallest = np.minimum(smallest, smallest[smallest])
        if (smallest == root).all():
            break
        root = smallest
    order = np.argsort(root, kind="stable")
    parted = places[order]
    edges = [0, *(np.flatnonzero(np.diff(root[order])) + 1).tolist(), len(flat)]
    return [parted[begin:end] for begin, end in pairwise(edges)]


def columns_under(voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The columns ``[m, 2]`` that voxels ``[n, 3]`` or ``[n, 2]`` stand in, each once, by x, then y."""
    if not len(voxels):
        return voxels[:, :2]
    least = voxels[:, :2].min(axis=0)
    x, y = (voxels[:, :2] - least).T
    wide = int(y.max()) + 1
    return np.asarray(np.stack(np.divmod(np.unique(x * wide + y), wide), axis=1) + least)


def cut_off(unknown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Columns ``[x, y]`` at the side of the grid or beside an unknown one: a component there may go on beyond."""
    beside = with_beside(unknown)
    beside[[0, -1]] = beside[:, [0, -1]] = True
    return beside


def with_beside(mask: NDArray[np.bool_], axes: int = 2) -> NDArray[np.bool_]:
    """A mask, and what is beside it along its last ``axes`` axes, at corners too."""
    for axis in range(mask.ndim - axes, mask.ndim):
        along = np.moveaxis(mask, axis, 0)
        mask = mask.copy()
        wider = np.moveaxis(mask, axis, 0)
        wider[1:] |= along[:-1]
        wider[:-1] |= along[1:]
    return mask
