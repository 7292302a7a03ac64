"""Tiles of an edit, placed as training clips lie: with a street along their middle.

The ego stands in the middle of a clip's grid, on a street that runs along x. A network has seen no other clips: what it
makes of a tile with the street at its side joins what is around it less well (docs/conditions.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import LAYOUT_CLASSES
from dyncity.grid import GridSpec
from dyncity.layout import members

Tile = tuple[slice, slice, slice]

_KNOWN_BESIDE = 6  # columns that are to be known on each side of what is made
_LENGTH, _WIDTH = 0.6, 5.0  # of the strip along the middle that should be street: of the tile's side; metres
_PER_COLUMN = 0.004  # of the strip that must be gained by moving what is made by a column away from the middle


def tile_at(x: int, y: int, shape: tuple[int, ...]) -> Tile:
    """The window of a volume ``[t, x, y, ...]`` from columns ``x``, ``y`` on, as large as ``shape`` (x, y, ...)."""
    return slice(None), slice(x, x + shape[0]), slice(y, y + shape[1])


def street_tile(volume: NDArray[np.uint8], made: NDArray[np.bool_], grid: GridSpec, labels: str) -> Tile | None:
    """The tile that holds all that is to be made, has most street along its middle, and that near it.

    None where no tile holds all of it.

    Args:
        volume: ``[t, x, y, z]`` class ids; what is not known is 255.
        made: bool ``[x, y]``, the columns that are to be made, at least one.
        grid: of a clip.
        labels: the label space.
    """
    sides, covered = grid.shape[:2], (np.asarray(made.any(axis=1)), np.asarray(made.any(axis=0)))
    x, y = (_starts(columns, side) for columns, side in zip(covered, sides, strict=True))
    if not len(x) or not len(y):
        return None
    road = members(labels)[LAYOUT_CLASSES.index("road")]
    street = road[volume[len(volume) // 2]].any(axis=2) & ~made
    strip = (round(_LENGTH * sides[0]), max(1, round(_WIDTH / grid.voxel_size[1])))
    middle = [np.flatnonzero(columns)[[0, -1]].mean() + 0.5 for columns in covered]
    away = np.hypot((x + sides[0] / 2 - middle[0])[:, None], y + sides[1] / 2 - middle[1])
    worth = _share(street, sides, strip)[np.ix_(x, y)] - _PER_COLUMN * away
    at = np.unravel_index(int(worth.argmax()), worth.shape)
    return tile_at(int(x[at[0]]), int(y[at[1]]), sides)


def _starts(made: NDArray[np.bool_], side: int) -> NDArray[np.int64]:
    """Where windows of ``side`` columns may begin along an axis to hold what is made, and known columns beside it."""
    first, last = np.flatnonzero(made)[[0, -1]]
    end = len(made) - side
    for beside in (_KNOWN_BESIDE, 0):
        low, high = min(max(0, last + 1 + beside - side), end), max(0, min(end, first - beside))
        if low <= high <= first and last < low + side:
            return np.arange(low, high + 1)
    return np.arange(0)


def _share(street: NDArray[np.bool_], sides: tuple[int, ...], strip: tuple[int, int]) -> NDArray[np.float64]:
    """For windows from each column on, how much of the strip in their middle is street."""
    total = np.pad(np.cumsum(np.cumsum(street, axis=0, dtype=np.int64), axis=1), ((1, 0), (1, 0)))
    (nx, ny), (sx, sy) = sides, strip
    x = (nx - sx) // 2 + np.arange(street.shape[0] - nx + 1)
    y = (ny - sy) // 2 + np.arange(street.shape[1] - ny + 1)
    held = total[np.ix_(x + sx, y + sy)] - total[np.ix_(x, y + sy)] - total[np.ix_(x + sx, y)] + total[np.ix_(x, y)]
    return held / (sx * sy)
