"""Frames seen from above: the class of the topmost occupied voxel of each column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy


def top_view(scene: OccupancyScene) -> NDArray[np.uint8]:
    """uint8 ``[t, x, y]`` class ids: free where a column is empty, 255 where nothing is known of it.

    Unknown voxels are looked through: a column shows its topmost voxel that is known to be occupied.
    """
    free = taxonomy(scene.taxonomy).free
    voxels = scene.semantics[..., ::-1]
    occupied = (voxels != free) & (voxels != UNKNOWN)
    top = np.take_along_axis(voxels, occupied.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    empty = np.where((voxels == UNKNOWN).all(axis=-1), UNKNOWN, free).astype(np.uint8)
    return np.where(occupied.any(axis=-1), top, empty)
