"""Specks of what stands, taken out of decoded volumes: crumbs of walls and crowns, spots of another paving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.metrics.components import components, cut_off
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy

# What comes in masses: a piece of a few voxels is none of it. Poles, signs and cones are small by nature.
_STRUCTURES = ("building", "fence", "vegetation")
GROUNDS = (
    *("road", "crosswalk", "parking", "sidewalk", "terrain", "ground"),
    *("other-ground", "driveable_surface", "other_flat", "walkable"),
)


def without_specks(volume: NDArray[np.uint8], labels: str, least: int) -> NDArray[np.uint8]:
    """A volume without pieces of fewer than ``least`` voxels of buildings, fences, vegetation and ground.

    Where a structure's piece was it is free; where ground was it is the ground that most of its neighbours are, free in
    the midst of nothing, and it stays beside anything else. What touches the side of the grid or unknown voxels may go
    on there, so it stays. Pieces are joined by faces, edges or corners.

    Args:
        volume: ``[t, x, y, z]`` class ids in which what stands is the same in all frames
            (``generators.standing_still``).
        labels: the label space.
        least: voxels of the smallest piece that stays; up to 1 takes nothing out.
    """
    if least <= 1:
        return volume
    space = taxonomy(labels)
    still = _what_stands(volume, space.free, [*space.movers, UNKNOWN])
    cut = cut_off((volume == UNKNOWN).any(axis=(0, 3)))
    mended = still.copy()
    for names, ground in ((_STRUCTURES, False), (GROUNDS, True)):
        ids = [space.id(name) for name in names if name in space.classes]
        for one in ids:
            for part in components(still == one):
                if len(part) >= least or cut[part[:, 0], part[:, 1]].any():
                    continue
                around = mended[tuple(_around(part, still.shape).T)]
                votes = np.bincount(around[np.isin(around, ids) & (around != one)])
                if not ground or np.isin(around, [one, space.free]).all():
                    mended[tuple(part.T)] = space.free
                elif votes.any():
                    mended[tuple(part.T)] = votes.argmax()
    changed = mended != still
    return np.where(changed & (volume == still), mended, volume)


def _what_stands(volume: NDArray[np.uint8], free: int, moving: list[int]) -> NDArray[np.uint8]:
    """``[x, y, z]``: the static class of each voxel, free where there is a mover in all frames."""
    stands = ~np.isin(volume, moving)
    seen = np.take_along_axis(volume, stands.argmax(axis=0)[None], axis=0)[0]
    return np.where(stands.any(axis=0), seen, free).astype(np.uint8)


def _around(part: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The voxels ``[m, 3]`` of a piece ``[n, 3]`` at no side of a grid, and those next to it."""
    steps = np.array([(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)])
    places = np.unique((part[:, None] + steps).reshape(-1, 3), axis=0)
    return places[(places[:, 2] >= 0) & (places[:, 2] < shape[2])]
