"""What moves by itself in a clip fixed to the world: which vehicles stand, and what is there without movers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.metrics.components import components, with_beside
from dyncity.metrics.vehicles import vehicle_ids
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy


def people_ids(labels: str) -> list[int]:
    """Ids of people on foot in a label space."""
    return [i for i, name in enumerate(taxonomy(labels).classes) if name in ("pedestrian", "person")]


def parked(frames: NDArray[np.uint8], labels: str) -> NDArray[np.bool_]:
    """Which voxels ``[x, y, z]`` belong to a vehicle that is the same in all of ``frames`` ``[t, x, y, z]``."""
    unchanged = (frames == frames[0]).all(axis=0)
    found = np.ones_like(unchanged)
    for frame in (frames[0], frames[-1]):  # in either a vehicle may cover more than what it never leaves
        whole = np.zeros_like(unchanged)
        for part in components(np.isin(frame, vehicle_ids(labels))):
            at = tuple(part.T)
            whole[at] = unchanged[at].all()
        found &= whole
    return found


def without_cut_off(volume: NDArray[np.uint8], labels: str) -> NDArray[np.uint8]:
    """A clip ``[t, x, y, z]`` in which nobody is known who goes on where nothing is: 255 is there instead.

    Nothing is known of a column that is 255 at all heights.
    """
    movers, result = list(taxonomy(labels).movers), volume.copy()
    for frame, voxels in zip(result, volume, strict=True):
        beside = with_beside((voxels == UNKNOWN).all(axis=2))
        for part in components(np.isin(voxels, movers)):
            if beside[part[:, 0], part[:, 1]].any():
                frame[tuple(part.T)] = UNKNOWN
    return result


def without_movers(volume: NDArray[np.uint8], labels: str) -> NDArray[np.uint8]:
    """``[x, y, z]``: what a clip ``[t, x, y, z]`` fixed to the world holds without movers, parked ones included.

    Free where a mover is in all frames.
    """
    space = taxonomy(labels)
    moving = np.isin(volume, list(space.movers))
    without = np.take_along_axis(volume, moving.argmin(axis=0)[None], axis=0)[0]
    return np.where(moving.all(axis=0), space.free, without).astype(np.uint8)
