"""Edges of streets, lots and houses are straight: jogs of one column, out and back again, are taken out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.movers import without_movers
from dyncity.taxonomy import taxonomy
from generators.specks import GROUNDS

_ROWS = 4  # across an edge: two that may change, and one on each side that says it is the same edge
_NOTHING = 255  # in place of the ground where there is none


def straight_edges(volume: NDArray[np.uint8], grid: GridSpec, labels: str, longest: float) -> NDArray[np.uint8]:
    """A volume in which edges that run along the grid have no jogs of up to ``longest``.

    A jog is a run of columns in which an edge between two grounds, or a wall, lies one column to the side, and which
    ends on both sides where the edge is as before. It is no longer than those two sides together; shorter ones go
    first. Ground and walls in it become those of the column before it, as high as they are there. What else stands on
    ground stays; on what becomes a wall, or nothing, it goes, and where a mover is at any time nothing becomes either.

    Args:
        volume: ``[t, x, y, z]`` class ids in which what stands is the same in all frames
            (``generators.standing_still``).
        grid: where it lies.
        labels: the label space.
        longest: metres, along the edge; less than a voxel changes nothing.
    """
    space = taxonomy(labels)
    ids = [space.id(name) for name in (*GROUNDS, "lane_marking", "building") if name in space.classes]
    still, built = without_movers(volume, labels), np.isin(np.arange(256), ids)
    walls = [space.id("building")] if "building" in space.classes else []
    straight, ground = still.copy(), _ground(still, built)
    taken = np.logical_or.reduce(np.isin(volume, list(space.movers)), axis=(0, 3))
    most = [int(longest / edge + 1e-6) for edge in grid.voxel_size[:2]]
    for length in range(1, max(most) + 1):
        if length <= most[0]:
            _straighten(straight, ground, taken, built, walls, space.free, length)
        if length <= most[1]:  # views: what is written there is written in the arrays themselves
            _straighten(straight.swapaxes(0, 1), ground.T, taken.T, built, walls, space.free, length)
    return np.where((straight != still) & (volume == still), straight, volume)


def _straighten(
    columns: NDArray[np.uint8],
    kind: NDArray[np.uint8],
    held: NDArray[np.bool_],
    built: NDArray[np.bool_],
    walls: list[int],
    free: int,
    length: int,
) -> None:
    """Take the jogs of so many columns out of the edges along the first axis, in ``columns`` and ``kind``.

    Args:
        columns: ``[x, y, z]`` class ids.
        kind: ``[x, y]``, as ``_ground`` finds it.
        held: ``[x, y]``, where a mover is at any time.
        built: ``[256]``, which classes are ground or wall.
        walls: those that are wall.
        free: the class of empty space.
        length: of the jogs.
    """
    for first, row in _jogs(kind, length):
        run = slice(first, first + length)
        for across in range(row + 1, row + _ROWS - 1):
            becomes, source, there = kind[first - 1, across], columns[first - 1, across], columns[run, across]
            solid = becomes in (*walls, _NOTHING)
            change = (kind[run, across] != becomes) & ~(held[run, across] & solid)
            stays = np.zeros_like(there, bool) if solid else ~built[there]
            filled = np.where(built[source], source, np.where(stays, there, free))
            columns[run, across] = np.where(change[:, None], filled, there)
            kind[run, across] = np.where(change, becomes, kind[run, across])


def _ground(still: NDArray[np.uint8], built: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``[x, y]``: the lowest ground or wall of each column, ``_NOTHING`` where there is none."""
    there = built[still]
    lowest = np.take_along_axis(still, there.argmax(axis=2)[..., None], axis=2)[..., 0]
    return np.where(there.any(axis=2), lowest, _NOTHING).astype(np.uint8)


def _jogs(kind: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """``[n, 2]``: the first column and the first of the four rows of each jog of so many columns in ``[x, y]``."""
    columns, rows = kind.shape
    if columns < length + 2 or rows < _ROWS:
        return np.zeros((0, 2), np.int64)
    lines = kind.T.astype(np.uint32)  # [y, x]
    shape = rows - _ROWS + 1
    profiles = sum(lines[i : i + shape] << np.uint32(8 * i) for i in range(_ROWS)).reshape(-1)  # type: ignore[union-attr]
    begins = np.append(True, profiles[1:] != profiles[:-1])
    begins[::columns] = True
    first = np.flatnonzero(begins)
    run, profile, line = np.diff(np.append(first, profiles.size)), profiles[first], first // columns
    before, here, after = slice(None, -2), slice(1, -1), slice(2, None)
    between = (line[before] == line[after]) & (profile[before] == profile[after])
    between &= (run[here] == length) & (run[before] + run[after] >= length)
    jog, edge, byte = profile[here], profile[before], np.uint32(8)
    ends, three = np.uint32(255 | 255 << 8 * (_ROWS - 1)), np.uint32((1 << 8 * (_ROWS - 1)) - 1)
    aside = (jog >> byte == edge & three) | (jog & three == edge >> byte)
    at = first[here][between & aside & ((jog ^ edge) & ends == 0)]
    return np.stack([at % columns, at // columns], axis=1)
