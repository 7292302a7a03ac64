"""Walls and sidewalks are whole: gaps of a step or two, where nobody could have meant them, are closed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.movers import without_movers
from dyncity.taxonomy import taxonomy

_WAYS = ((1, 0), (0, 1), (1, 1), (1, -1))  # along the sides of the grid before slanting ones


def whole_walls(volume: NDArray[np.uint8], grid: GridSpec, labels: str, widest: float) -> NDArray[np.uint8]:
    """A volume in which what lies between two buildings in a straight line, no wider than ``widest``, is building.

    As high as both of them are, and where it is free or terrain from bottom to top: passages are paved. Over nothing
    (a gap in a wall that hides what is behind it) both have to be of different pieces, seen from above: inside corners
    look like gaps, and belong to one.

    Args:
        volume: ``[t, x, y, z]`` class ids in which what stands is the same in all frames
            (``generators.standing_still``).
        grid: where it lies.
        labels: the label space; without buildings nothing changes.
        widest: metres, along the sides of the grid; less than a voxel closes nothing.
    """
    space = taxonomy(labels)
    if "building" not in space.classes:
        return volume
    soil = [space.id("terrain")] if "terrain" in space.classes else []
    still = without_movers(volume, labels)
    bare = np.logical_and.reduce(np.isin(volume, [space.free, *soil]), axis=(0, 3))  # nobody ever comes through
    lawn = np.logical_or.reduce(np.isin(still, soil), axis=2)
    open_ = np.broadcast_to(bare[..., None], still.shape)
    mended = _closed(still, space.id("building"), open_, lawn, grid, widest)
    return np.where((mended != still) & (volume == still), mended, volume)


def whole_sidewalks(volume: NDArray[np.uint8], grid: GridSpec, labels: str, widest: float) -> NDArray[np.uint8]:
    """A volume in which terrain and parking between two pieces of sidewalk, no wider than ``widest``, are sidewalk.

    Lots and lawns have wider entrances, and strips of green lie beside one piece. Arguments as for ``whole_walls``.
    """
    space = taxonomy(labels)
    if "sidewalk" not in space.classes:
        return volume
    still = without_movers(volume, labels)
    between = [space.id(name) for name in ("terrain", "parking") if name in space.classes]
    nowhere = np.zeros(still.shape[:2], bool)
    mended = _closed(still, space.id("sidewalk"), np.isin(still, between), nowhere, grid, widest)
    return np.where((mended != still) & (volume == still), mended, volume)


def _closed(
    still: NDArray[np.uint8],
    one: int,
    open_: NDArray[np.bool_],
    within: NDArray[np.bool_],
    grid: GridSpec,
    widest: float,
) -> NDArray[np.uint8]:
    """``[x, y, z]`` with the gaps between pieces of a class closed.

    Args:
        still: class ids.
        one: the class.
        open_: bool ``[x, y, z]``, which voxels may become it.
        within: bool ``[x, y]``, where gaps within a piece are closed as well.
        grid, widest: as for ``whole_walls``.
    """
    most = [int(widest / edge + 1e-6) for edge in grid.voxel_size[:2]]
    mended = still.copy()
    for gap in range(1, max(most) + 1):
        for way in _WAYS:
            if all(gap <= columns for step, columns in zip(way, most, strict=True) if step):
                _close(mended, one, open_, within, way, gap)
    return mended


def _close(
    still: NDArray[np.uint8],
    one: int,
    open_: NDArray[np.bool_],
    within: NDArray[np.bool_],
    way: tuple[int, int],
    gap: int,
) -> None:
    """Close the gaps of so many columns in one direction, in ``still``."""
    there = still == one
    piece = np.zeros(there.shape[:2], np.int32)  # 0 is none
    for number, part in enumerate(components(there.any(axis=2, keepdims=True)), start=1):
        piece[part[:, 0], part[:, 1]] = number
    first, *between, last = (_shifted(there.shape[:2], way, step, gap + 1) for step in range(gap + 2))
    both: NDArray[np.bool_] = there[first] & there[last]
    closed: NDArray[np.bool_] = np.ones(piece[first].shape, bool)
    for place in between:
        both = both & open_[place]
        closed &= piece[place] == 0
    closed &= (piece[first] != piece[last]) | np.logical_or.reduce([within[place] for place in between])
    for place in between:
        still[place][closed[..., None] & both] = one


def _shifted(shape: tuple[int, ...], way: tuple[int, int], step: int, steps: int) -> tuple[slice, slice]:
    """Of all lines of ``steps`` steps in a direction that lie in a grid, the ``step``-th columns."""
    cuts = []
    for size, by in zip(shape, way, strict=True):
        begin = step if by >= 0 else steps - step
        cuts.append(slice(begin, size - steps + begin) if by else slice(None))
    return cuts[0], cuts[1]
