"""Trees are whole: a crown in the air has a trunk under it, a trunk a crown on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import columns_under, components, cut_off
from dyncity.movers import without_movers
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy
from generators.upright import COARSE

_TRUNKS = ("trunk", "tree_trunk")
_POLES = ("pole", "sign", "traffic_sign", "traffic-sign", "traffic_light")
_CROWN = 9  # voxels; what is smaller may be the end of a branch
_HANGING = 2  # voxels of air under it
_SOIL = ("sidewalk", "terrain", "ground", "other-ground", "walkable")  # trees do not grow on roads


def whole_trees(volume: NDArray[np.uint8], grid: GridSpec, labels: str) -> NDArray[np.uint8]:
    """A volume in which every trunk has a crown above it and every crown that hangs in the air a trunk.

    A trunk with a pole, a sign or a light on it becomes a pole, one with anything else but a crown goes. A crown of 9
    voxels or more, away from the side of the grid and from unknown voxels, without a trunk in any of its columns gets
    one: in that nearest to its middle below which all is free down to a pavement or soil. One that rests on anything
    stays as it is, and so do label spaces without trunks, and volumes of voxels lower than 0.5 m: in those a trunk is
    several columns wide, and not all of them reach its crown.

    Args:
        volume: ``[t, x, y, z]`` class ids in which what stands is the same in all frames
            (``generators.standing_still``).
        grid: where it lies.
        labels: the label space.
    """
    if grid.voxel_size[2] < COARSE:
        return volume
    space = taxonomy(labels)
    names = [name for name in _TRUNKS if name in space.classes]
    if not names or "vegetation" not in space.classes:
        return volume
    soil = [space.id(name) for name in _SOIL if name in space.classes]
    trunk, leaves = space.id(names[0]), space.id("vegetation")
    poles = [space.id(name) for name in _POLES if name in space.classes]
    still = without_movers(volume, labels)
    mended, height = still.copy(), still.shape[2]
    for x, y in np.argwhere((still == trunk).any(axis=2)).tolist():
        column = mended[x, y]
        top = int(np.flatnonzero(column == trunk).max())
        above = int(column[top + 1]) if top + 1 < height else leaves  # who knows what is beyond the grid
        if above in poles and "pole" in space.classes:
            column[column == trunk] = space.id("pole")
        elif above != leaves:
            column[column == trunk] = space.free
    cut = cut_off((volume == UNKNOWN).any(axis=(0, 3)))
    for crown in components(mended == leaves):
        at = crown[:, 0], crown[:, 1]
        if len(crown) >= _CROWN and not (mended[at] == trunk).any() and not cut[at].any():
            _give_trunk(mended, crown, trunk, space.free, soil)
    return np.where((mended != still) & (volume == still), mended, volume)


def _give_trunk(still: NDArray[np.uint8], crown: NDArray[np.int64], trunk: int, free: int, soil: list[int]) -> None:
    """Put a trunk into ``still`` ``[x, y, z]`` under a crown ``[n, 3]`` that hangs in the air, where there is soil."""
    columns = columns_under(crown)
    places: list[tuple[int, int, int, int]] = []
    for x, y in columns[np.argsort(((columns - crown[:, :2].mean(axis=0)) ** 2).sum(axis=1), kind="stable")].tolist():
        bottom = int(crown[(crown[:, :2] == (x, y)).all(axis=1), 2].min())
        under = np.flatnonzero(still[x, y, :bottom] != free)
        if len(under) and under[-1] == bottom - 1:
            return  # it stands on something
        if len(under) and bottom - 1 - under[-1] >= _HANGING and still[x, y, under[-1]] in soil:
            places.append((x, y, int(under[-1]) + 1, bottom))
    if places:
        x, y, low, high = places[0]
        still[x, y, low:high] = trunk
