"""Does the ego drive on the road, and through nobody: read off ego-centred frames."""

from __future__ import annotations

import numpy as np

from dyncity.anchoring import ego_windows
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy

DRIVABLE = ("road", "lane_marking", "crosswalk", "parking", "driveable_surface")
CAR = (4.4, 1.8, 1.5)  # metres: length, width, height of the space that the ego takes


def ego_path(scene: OccupancyScene) -> tuple[float, float]:
    """Shares of the frames' ground voxels under the ego that are drivable, and of frames free of movers.

    The space of the ego is a box of 4.4 x 1.8 x 1.5 m around its origin, read at half-voxel spacing from
    each frame's own grid. Unknown voxels do not count; where nothing below is known, the first share is not a number.

    Args:
        scene: ego-centred or fixed to the world.
    """
    space = taxonomy(scene.taxonomy)
    drivable = np.zeros(256, bool)
    drivable[[i for i, name in enumerate(space.classes) if name in DRIVABLE]] = True
    movers = np.zeros(256, bool)
    movers[list(space.movers)] = True
    step = scene.grid.voxel_size[0] / 2
    counts = (max(2, round(CAR[0] / step)), max(2, round(CAR[1] / step)))
    size = (CAR[0] / counts[0], CAR[1] / counts[1])
    below = GridSpec((*counts, 1), (*size, 0.02), (-CAR[0] / 2, -CAR[1] / 2, -0.02), scene.grid.frame_rate)
    around = GridSpec((*counts, 2), (*size, CAR[2] / 2), (-CAR[0] / 2, -CAR[1] / 2, 0.0), scene.grid.frame_rate)
    ground, body = ego_windows(scene, below).semantics, ego_windows(scene, around).semantics
    hit = movers[body].reshape(scene.frames, -1).any(axis=1)
    known = int((ground != UNKNOWN).sum())
    share = float(drivable[ground].sum() / known) if known else float("nan")
    return share, float(1 - hit.mean())
