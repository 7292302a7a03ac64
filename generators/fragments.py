"""Fragments of vehicles, taken out of decoded volumes: pieces too small to be one, threads that join several, lumps."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import columns_under, components, cut_off
from dyncity.metrics.vehicles import FILL, LENGTH, WIDTH, footprint, vehicle_ids
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy


def without_fragments(
    volume: NDArray[np.uint8], grid: GridSpec, labels: str, smallest: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """A volume in which pieces of vehicles that the smallest vehicle does not fit into are free, and so are lumps.

    A piece that is no vehicle for its size or its gaps (``dyncity.metrics.vehicles``) is several vehicles that touch,
    or one with ragged sides: what of it is narrower than the smallest vehicle, seen from above, goes first. A lump
    that is left so, of which nobody could tell the vehicles, goes whole.

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
    ids, free = vehicle_ids(labels), taxonomy(labels).free
    edges = np.array(grid.voxel_size)
    cleaned = volume.copy()
    for frame, voxels in zip(cleaned, volume, strict=True):
        beside = cut_off((voxels == UNKNOWN).any(axis=2))
        for part in components(np.isin(voxels, ids)):
            if not beside[part[:, 0], part[:, 1]].any():
                frame[tuple(part.T)] = free
                for kept in _vehicles(part, edges, smallest):
                    frame[tuple(kept.T)] = voxels[tuple(kept.T)]
    return cleaned


def _vehicles(
    part: NDArray[np.int64], edges: NDArray[np.float64], smallest: tuple[float, float, float]
) -> list[NDArray[np.int64]]:
    """What stays of a component ``[n, 3]``: itself, or the pieces without what joined them, or nothing."""
    (length, width), fill = footprint(columns_under(part) * edges[:2], edges)
    height = float(np.ptp(part[:, 2]) + 1) * edges[2]
    if length < smallest[0] or width < smallest[1] or height < smallest[2]:
        return []
    if length <= LENGTH[1] and width <= WIDTH[1] and fill >= FILL:
        return [part]
    wide = part[_wide_columns(part, [ceil(smallest[1] / edge) for edge in edges[:2]])]
    if len(wide) == len(part):
        return []
    corner = part.min(axis=0)
    mask = np.zeros(np.ptp(part, axis=0) + 1, bool)
    mask[tuple((wide - corner).T)] = True
    return [kept for piece in components(mask) for kept in _vehicles(piece + corner, edges, smallest)]


def _wide_columns(part: NDArray[np.int64], block: list[int]) -> NDArray[np.bool_]:
    """``[n]``: whether the column of a voxel lies in a full ``block`` of columns: an opening, seen from above."""
    place = part[:, :2] - part[:, :2].min(axis=0) + block  # free columns around it, so that blocks may overlap its end
    seen = np.zeros(place.max(axis=0) + 1 + block, bool)
    seen[tuple(place.T)] = True
    windows = np.lib.stride_tricks.sliding_window_view
    full = np.logical_and.reduce(windows(seen, block), axis=(2, 3))  # by the block's first column
    covered: NDArray[np.bool_] = np.logical_or.reduce(windows(full, block), axis=(2, 3))  # by its last one
    return covered[tuple((place - block + 1).T)]
