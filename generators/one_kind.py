"""One class a vehicle: decoded volumes mix cars, trucks and buses within one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import columns_under, components
from dyncity.metrics.vehicles import FILL, LENGTH, WIDTH, footprint, vehicle_ids


def one_kind(volume: NDArray[np.uint8], grid: GridSpec, labels: str) -> NDArray[np.uint8]:
    """A volume in which all voxels of a vehicle are of one class: that of most of them, on a tie the first.

    What is longer, wider or has more gaps than a vehicle (``dyncity.metrics.vehicles``) is several that touch, so it
    keeps its classes. Components are those of that module: joined by faces, edges or corners, in one frame.

    Args:
        volume: ``[t, x, y, z]`` class ids.
        grid: where it lies.
        labels: the label space.
    """
    ids, edges = vehicle_ids(labels), np.array(grid.voxel_size)
    voted = volume.copy()
    for frame in voted:
        for part in components(np.isin(frame, ids)):
            at = tuple(part.T)
            votes = np.bincount(frame[at])
            if votes.max() == len(part):
                continue
            (length, width), fill = footprint(columns_under(part) * edges[:2], edges)
            if length <= LENGTH[1] and width <= WIDTH[1] and fill >= FILL:
                frame[at] = votes.argmax()
    return voted
