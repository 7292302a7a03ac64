"""How agents go on from a frame, as VAD prepares it for info files and OccWorld reads it when it is tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.nuscenes_boxes import DETECTED, LIDAR_TO_EGO, BoxColumns
from exporters.sensors import HDL_32E

STEPS = 6  # frames that are looked ahead
# The numbers of nuScenes' 23 categories, of the classes that it detects: adults, rigid buses.
_CATEGORIES = dict(zip(DETECTED, (8, 13, 14, 12, 17, 18, 9, 10, 0, 19), strict=True))
_STANDS, _LEAST, _SECTOR = 9, 1.0, np.pi / 4  # the goal of who stands; metres ahead or to the right that are a way


def agent_ways(frames: Sequence[BoxColumns], pose: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
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

    def places(boxes: BoxColumns) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres (x, y) and yaws."""
        ahead = boxes.ahead @ to_lidar.T
        return ((boxes.centers - origin) @ to_lidar.T)[:, :2], np.arctan2(ahead[:, 1], ahead[:, 0])

    first, n = frames[0], len(frames[0].names)
    steps, turns, known = np.zeros((n, STEPS, 2)), np.zeros((n, STEPS)), np.zeros((n, STEPS))
    center, yaw = places(first)
    speed, sizes = first.velocities @ to_lidar.T, first.sizes
    numbers = np.array([_CATEGORIES[name] for name in first.names], np.float64)
    features = np.concatenate([center, yaw[:, None], speed[:, :2], sizes[:, [1, 0, 2]], numbers[:, None]], axis=1)
    followed = np.arange(n)
    for step, boxes in enumerate(frames[1:]):
        (there, heading), rows = places(boxes), {track: row for row, track in enumerate(boxes.tracks)}
        row = np.array([rows.get(first.tracks[k], -1) for k in followed], np.int64)
        followed, row = followed[row >= 0], row[row >= 0]
        steps[followed, step], known[followed, step] = there[row] - center[followed], 1
        turns[followed, step] = (heading[row] - yaw[followed] + np.pi) % (2 * np.pi) - np.pi
        center[followed], yaw[followed] = there[row], heading[row]
    way = steps[:, 1:].sum(axis=1)  # VAD counts from after the first step
    # VAD's rule: who only goes back or to the left is said to stand.
    sector = (np.arctan2(way[:, 1], way[:, 0]) + np.pi) // _SECTOR
    goals = np.where(way.max(axis=1, initial=-np.inf) < _LEAST, _STANDS, sector)
    arrays: dict[str, Any] = {
        "gt_agent_fut_trajs": steps.reshape(n, 2 * STEPS),
        "gt_agent_fut_masks": known,
        "gt_agent_lcf_feat": features,
        "gt_agent_fut_yaw": turns,
        "gt_agent_fut_goal": goals,
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}
