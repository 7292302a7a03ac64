"""Nobody is where the ego drives: movers in its space are taken out of a decoded volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import Pose
from dyncity.grid import GridSpec
from dyncity.layout import covered_columns
from dyncity.metrics.components import components
from dyncity.metrics.ego_path import CAR
from dyncity.movers import without_movers
from dyncity.taxonomy import taxonomy


def ego_columns(route: list[Pose], grid: GridSpec) -> NDArray[np.bool_]:
    """Columns ``[n, x, y]`` any of which reaches into the space of the ego, at each of its n poses on the grid."""
    size = (CAR[0] + grid.voxel_size[0], CAR[1] + grid.voxel_size[1])
    return np.stack([covered_columns(grid, size, at) for at in route])


def clear_of_movers(
    volume: NDArray[np.uint8], route: list[Pose], begins: int, grid: GridSpec, labels: str
) -> NDArray[np.uint8]:
    """A volume ``[t, x, y, z]`` fixed to the world whose movers leave the ego its space.

    Who is in it in a frame is not there in that frame; who stands in all frames where the ego comes by at any time is
    in none.

    Args:
        volume: class ids.
        route: where the ego is, frame by frame, as far as it is known before and after the volume's frames.
        begins: which of them belongs to the volume's first frame.
        grid: of the volume.
        labels: the label space.
    """
    movers = list(taxonomy(labels).movers)
    body = (grid.axis(2) > -grid.voxel_size[2] / 2) & (grid.axis(2) < CAR[2] + grid.voxel_size[2] / 2)
    taken = ego_columns(route, grid)[..., None] & body
    ever = np.logical_or.reduce(taken)
    bare, result = without_movers(volume, labels), volume.copy()
    moving = np.isin(volume, movers)
    standing = moving[0] & (volume == volume[0]).all(axis=0)
    for part in components(standing):
        if ever[tuple(part.T)].any():
            result[:, *part.T] = bare[tuple(part.T)]
    for frame, here, now in zip(result, moving & ~standing, taken[begins:], strict=False):
        if (here & now).any():
            for part in components(here):
                if now[tuple(part.T)].any():
                    frame[tuple(part.T)] = bare[tuple(part.T)]
    return result
