"""Flashes on two wheels, taken out of decoded volumes: those who are as short as a column, for a frame or two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import cut_off
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy
from dyncity.tracks import tracks

_CLASSES = ("motorcycle", "bicycle", "cyclist", "bicyclist", "motorcyclist")
_FRAMES = 3  # who is seen in so many is somebody
_SHORTEST = 1.2  # metres, from corner to corner of the columns: the shortest bicycle is 1.6 m long


def without_flashes_on_two_wheels(volume: NDArray[np.uint8], grid: GridSpec, labels: str) -> NDArray[np.uint8]:
    """A volume fixed to the world without those on two wheels as short as a column who are seen in one or two frames.

    They are followed from frame to frame; what touches the side of the grid or unknown voxels may go on there.

    Args:
        volume: ``[t, x, y, z]`` class ids.
        grid: where it lies.
        labels: the label space.
    """
    space = taxonomy(labels)
    cleaned, edges = volume.copy(), np.array(grid.voxel_size[:2])
    cut = [cut_off(columns) for columns in (volume == UNKNOWN).any(axis=3)]
    for kind in [space.id(name) for name in _CLASSES if name in space.classes]:
        for track in tracks(volume == kind, grid):
            if len(track) >= _FRAMES:
                continue
            sides = [np.ptp(piece.voxels[:, :2], axis=0) + 1 for piece in track.values()]
            ends = [cut[t][piece.voxels[:, 0], piece.voxels[:, 1]].any() for t, piece in track.items()]
            if max(np.hypot(*(side * edges)) for side in sides) < _SHORTEST and not any(ends):
                for t, piece in track.items():
                    cleaned[t][tuple(piece.voxels.T)] = space.free
    return cleaned
