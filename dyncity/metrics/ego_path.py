"""Does the ego drive on the road, and through nobody: read off ego-centred frames."""

from __future__ import annotations

import numpy as np

from dyncity.anchoring import ego_windows
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import taxonomy

DRIVABLE = ("road", "lane_marking", "crosswalk", "parking")
_CAR = (4.4, 1.8, 1.5)  # metres: length, width, height of the space that the ego takes


def ego_path(scene: OccupancyScene) -> tuple[float, float]:
    """Shares of the frames' ground voxels under the ego that are drivable, and of frames free of movers.

    The space of the ego is a box of 4.4 x 1.8 x 1.5 m around its origin, read at half-voxel spacing from
    each frame's own grid.

    Args:
        scene: native labels, ego-centred or fixed to the world.
    """
    space = taxonomy(scene.taxonomy)
    drivable = np.zeros(256, bool)
    drivable[[space.id(name) for name in DRIVABLE]] = True
    movers = np.zeros(256, bool)
    movers[list(space.movers)] = True
    step = scene.grid.voxel_size[0] / 2
    counts = (max(2, round(_CAR[0] / step)), max(2, round(_CAR[1] / step)))
    size = (_CAR[0] / counts[0], _CAR[1] / counts[1])
    below = GridSpec((*counts, 1), (*size, 0.02), (-_CAR[0] / 2, -_CAR[1] / 2, -0.02), scene.grid.frame_rate)
    around = GridSpec((*counts, 2), (*size, _CAR[2] / 2), (-_CAR[0] / 2, -_CAR[1] / 2, 0.0), scene.grid.frame_rate)
    ground, body = ego_windows(scene, below).semantics, ego_windows(scene, around).semantics
    hit = movers[body].reshape(scene.frames, -1).any(axis=1)
    return float(drivable[ground].mean()), float(1 - hit.mean())
