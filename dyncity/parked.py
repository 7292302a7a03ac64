"""Vehicles that stand through all frames of a clip fixed to the world."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.metrics.components import components
from dyncity.metrics.vehicles import vehicle_ids


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
