"""How agents go on from a frame, as VAD prepares it for info files and OccWorld reads it when it is tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.nuscenes_boxes import DETECTED, LIDAR_TO_EGO, NuScenesBox
from exporters.sensors import HDL_32E

STEPS = 6  # frames that are looked ahead
# The numbers of nuScenes' 23 categories, of the classes that it detects: adults, rigid buses.
_CATEGORIES = dict(zip(DETECTED, (8, 13, 14, 12, 17, 18, 9, 10, 0, 19), strict=True))
_STANDS, _LEAST, _SECTOR = 9, 1.0, np.pi / 4  # the goal of who stands; metres ahead or to the right that are a way


def agent_ways(frames: Sequence[list[NuScenesBox]], pose: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """The ``gt_agent_*`` of the boxes of a frame, in its LiDAR's frame (x right, y ahead), a row a box.

    ``fut_trajs`` ``[n, 12]`` are six steps x, y, metres; ``fut_yaw`` ``[n, 6]`` the turns, radians; both 0 where
    ``fut_masks`` ``[n, 6]`` is 0: from the first frame on that the track does not have. ``fut_goal`` ``[n]`` is an
    eighth of the circle, 9 for who stands; ``lcf_feat`` ``[n, 9]`` x, y, yaw, velocity, width, length, height, class.

    Args:
        frames: the boxes of the frame, and of up to six after it.
        pose: ``[4, 4]`` ego-to-world of the frame.
    """
    to_lidar = LIDAR_TO_EGO.T @ pose[:3, :3].T
    origin = pose[:3, 3] + pose[:3, :3] @ np.array(HDL_32E.position)

    def place(box: NuScenesBox) -> tuple[NDArray[np.float64], float]:
        """Centre (x, y) and yaw."""
        ahead = to_lidar @ np.array([np.cos(box[3]), np.sin(box[3]), 0.0])
        return (to_lidar @ (np.array(box[1]) - origin))[:2], float(np.arctan2(ahead[1], ahead[0]))

    later = [{box[-1]: box for box in boxes} for boxes in frames[1:]]
    n = len(frames[0])
    steps, turns, known = np.zeros((n, STEPS, 2)), np.zeros((n, STEPS)), np.zeros((n, STEPS))
    goals, features = np.zeros(n), np.zeros((n, 9))
    for row, box in enumerate(frames[0]):
        (name, _, (length, width, height), _, velocity, _, track), (center, yaw) = box, place(box)
        speed = to_lidar @ np.array([*velocity, 0.0])
        features[row] = [*center, yaw, *speed[:2], width, length, height, _CATEGORIES[name]]
        for step, boxes in enumerate(later):
            if track not in boxes:
                break
            there, heading = place(boxes[track])
            steps[row, step], known[row, step] = there - center, 1
            turns[row, step] = (heading - yaw + np.pi) % (2 * np.pi) - np.pi
            center, yaw = there, heading
        way = steps[row, 1:].sum(axis=0)  # VAD counts from after the first step
        # VAD's rule: who only goes back or to the left is said to stand.
        goals[row] = _STANDS if way.max() < _LEAST else (np.arctan2(way[1], way[0]) + np.pi) // _SECTOR
    arrays: dict[str, Any] = {
        "gt_agent_fut_trajs": steps.reshape(n, 2 * STEPS),
        "gt_agent_fut_masks": known,
        "gt_agent_lcf_feat": features,
        "gt_agent_fut_yaw": turns,
        "gt_agent_fut_goal": goals,
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}
