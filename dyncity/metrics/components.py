"""Connected components of a voxel mask, in numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Half of the 26 neighbours; the other half are the same pairs seen from the other side.
_AHEAD = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) if (a, b, c) > (0, 0, 0)]


def components(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The sets of voxels joined by faces, edges or corners: ``[n, 3]`` indices each, by their first voxel.

    Args:
        mask: bool ``[x, y, z]``.
    """
    places = np.argwhere(mask)
    number = np.full(np.add(mask.shape, 2), -1, np.int64)
    number[tuple((places + 1).T)] = np.arange(len(places))
    pairs = []
    for step in _AHEAD:
        other = number[tuple((places + 1 + step).T)]
        pairs.append(np.stack([np.flatnonzero(other >= 0), other[other >= 0]], axis=1))
    first, second = np.concatenate(pairs).T
    root = np.arange(len(places))
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
    starts = np.flatnonzero(np.diff(root[order])) + 1
    return [places[part] for part in np.split(order, starts) if len(part)]


def cut_off(unknown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Columns ``[x, y]`` at the side of the grid or beside an unknown one: a component there may go on beyond."""
    outside = np.pad(unknown, 1, constant_values=True)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(outside, (3, 3)).any(axis=(2, 3)))
