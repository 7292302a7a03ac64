"""The city along a drive, made before what moves in it: tiles as large as a clip, each given about half of its ground.

A long scene that grew with its chunks would take a strip of a few voxels at a time from what it made last, and each
would be a little less of a city; a drive of 100 m is three or four tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import covered, frame_on
from dyncity.grid import GridSpec
from dyncity.movers import without_movers
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy

_LEAST_KNOWN = 0.5  # share of a tile's ground that is known when it is made, but where a drive bends away faster


def tiles_along(places: Sequence[NDArray[np.float64]], grid: GridSpec) -> list[int]:
    """Which of the clips of a drive are made as tiles, ascending; the first is.

    Each is the last one that the tiles before it still cover by half, along the drive; clips whose ground is known by
    then need none.

    Args:
        places: ``[4, 4]`` poses of ``grid``, one a clip.
        grid: of a clip.
    """
    tiles = [0]

    def known(clip: int) -> float:
        reached = [covered(grid, grid, np.linalg.inv(places[tile]) @ places[clip]) for tile in tiles]
        return float(np.logical_or.reduce(reached).mean())

    for clip in range(1, len(places)):
        if clip <= tiles[-1] or known(clip) == 1.0:
            continue
        farthest = clip
        while farthest + 1 < len(places) and known(farthest + 1) >= _LEAST_KNOWN:
            farthest += 1
        tiles.append(farthest)
    return tiles


class City:
    """What stands along a drive, as far as it has been made.

    Args:
        grid: of a clip.
        labels: the label space.
    """

    def __init__(self, grid: GridSpec, labels: str) -> None:
        self.grid, self.labels = grid, labels
        self._tiles: list[tuple[NDArray[np.float64], NDArray[np.uint8]]] = []

    def add(self, place: NDArray[np.float64], volume: NDArray[np.uint8]) -> None:
        """What stands in a clip ``[t, x, y, z]`` on the grid at a pose ``[4, 4]``; what was known before counts."""
        self._tiles.append((place, without_movers(volume, self.labels)))

    def at(self, place: NDArray[np.float64]) -> NDArray[np.uint8]:
        """What stands on the grid at a pose ``[4, 4]``: ``[x, y, z]``, 255 where nobody knows."""
        found = np.full(self.grid.shape, UNKNOWN, np.uint8)
        for there, tile in self._tiles:
            seen = frame_on(tile, self.grid, self.grid, np.linalg.inv(there) @ place)
            found = np.where(found == UNKNOWN, seen, found)
        return found

    def kept(self, place: NDArray[np.float64], volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A clip ``[t, x, y, z]`` at a pose with what stands as it is known; what it adds to that is known then."""
        stands, moving = self.at(place), np.isin(volume, list(taxonomy(self.labels).movers))
        whole = np.where((stands != UNKNOWN) & ~moving, stands, volume).astype(np.uint8)
        if (stands == UNKNOWN).any():
            self.add(place, whole)
        return whole
