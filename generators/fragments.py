"""Fragments of vehicles, taken out of decoded volumes: pieces too small to be one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.metrics.vehicles import VEHICLES, footprint
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy


def without_fragments(
    volume: NDArray[np.uint8], grid: GridSpec, labels: str, smallest: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """A volume in which pieces of vehicles that the smallest vehicle does not fit into are free.

    What touches the side of the grid or unknown voxels may go on there, so it stays. Components are those of
    ``dyncity.metrics.vehicles``: joined by faces, edges or corners, in one frame.

    Args:
        volume: ``[t, x, y, z]`` class ids.
        grid: where it lies.
        labels: the label space.
        smallest: length, width and height of the smallest vehicle, metres; zeros take nothing out.
    """
    if not any(smallest):
        return volume
    space = taxonomy(labels)
    ids = [i for i, name in enumerate(space.classes) if name in VEHICLES]
    edges = np.array(grid.voxel_size)
    cleaned = volume.copy()
    for frame, voxels in zip(cleaned, volume, strict=True):
        open_ended = np.ones(np.add(frame.shape[:2], 2), bool)
        open_ended[1:-1, 1:-1] = (voxels == UNKNOWN).any(axis=2)
        beside = np.logical_or.reduce(np.lib.stride_tricks.sliding_window_view(open_ended, (3, 3)), axis=(2, 3))
        for part in components(np.isin(voxels, ids)):
            if not beside[part[:, 0], part[:, 1]].any() and not _holds(part * edges, edges, smallest):
                frame[tuple(part.T)] = space.free
    return cleaned


def _holds(points: NDArray[np.float64], edges: NDArray[np.float64], smallest: tuple[float, float, float]) -> bool:
    """Whether voxels at ``points`` ``[n, 3]`` reach as far as the smallest vehicle in every direction."""
    height = float(np.ptp(points[:, 2]) + edges[2])
    if height < smallest[2]:
        return False
    (length, width), _ = footprint(np.unique(points[:, :2], axis=0), edges)
    return length >= smallest[0] and width >= smallest[1]
