"""Where a layout says who moves where, nobody else does: movers that it does not know are taken out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import Layout
from dyncity.layout import MOVING, members
from dyncity.metrics.components import components, with_beside
from dyncity.movers import without_movers


def without_strangers(volume: NDArray[np.uint8], layout: Layout | None, labels: str) -> NDArray[np.uint8]:
    """A volume whose movers of the classes that the layout asks for all touch a column where it has them.

    A mover is a component in one frame. One beside its column, by no more than a column, is taken for the one that was
    asked for: it stays.

    Args:
        volume: ``[t, x, y, z]`` class ids.
        layout: on the grid of the volume, or None.
        labels: the label space.
    """
    if layout is None or not layout.given[MOVING:].any():
        return volume
    bare, result = without_movers(volume, labels), volume.copy()
    tables = members(labels)
    for number in range(MOVING, len(tables)):
        if not layout.given[number]:
            continue
        allowed = layout.maps[number] if layout.reach is None else layout.maps[number] | ~layout.reach
        for frame, voxels, asked in zip(result, volume, with_beside(allowed), strict=True):
            for part in components(tables[number][voxels]):
                if not asked[part[:, 0], part[:, 1]].any():
                    frame[tuple(part.T)] = bare[tuple(part.T)]
    return result
