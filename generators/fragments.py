"""Fragments of vehicles, taken out of decoded volumes: pieces too small to be one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.metrics.vehicles import VEHICLES
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy


def without_fragments(volume: NDArray[np.uint8], grid: GridSpec, labels: str, least: float) -> NDArray[np.uint8]:
    """A volume in which vehicle voxels joined to fewer than ``least`` cubic metres of their kind are free.

    What touches the side of the grid or unknown voxels may go on there, so it stays. Components are those of
    ``dyncity.metrics.vehicles``: joined by faces, edges or corners, in one frame.

    Args:
        volume: ``[t, x, y, z]`` class ids.
        grid: where it lies.
        labels: the label space.
        least: volume of the smallest vehicle, cubic metres; 0 takes nothing out.
    """
    if least <= 0:
        return volume
    space = taxonomy(labels)
    ids = [i for i, name in enumerate(space.classes) if name in VEHICLES]
    fewest = least / float(np.prod(grid.voxel_size))
    cleaned = volume.copy()
    for frame, voxels in zip(cleaned, volume, strict=True):
        open_ended = np.ones(np.add(frame.shape[:2], 2), bool)
        open_ended[1:-1, 1:-1] = (voxels == UNKNOWN).any(axis=2)
        beside = np.logical_or.reduce(np.lib.stride_tricks.sliding_window_view(open_ended, (3, 3)), axis=(2, 3))
        for part in components(np.isin(voxels, ids)):
            if len(part) < fewest and not beside[part[:, 0], part[:, 1]].any():
                frame[tuple(part.T)] = space.free
    return cleaned
