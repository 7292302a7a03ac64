"""A street on the voxels of Occ3D: the ego drives 2 m a frame, one car 0.8 m a frame ahead of it, one stands."""

from __future__ import annotations

import numpy as np

from dyncity.conditions import poses_from_trajectory
from dyncity.grid import GridSpec
from dyncity.scene import Boxes, OccupancyScene

# Half of Occ3D's range, on its own voxel boundaries.
ALIGNED = GridSpec((100, 100, 12), (0.4, 0.4, 0.4), (-20.0, -20.0, -1.0), 2.0)
ROAD, SIDEWALK, BUILDING, POLE, CONE, CAR, PEDESTRIAN = 1, 5, 7, 12, 15, 17, 25
FRAMES = 3
# In voxels and frames: the driving car is track 7, its box x 10 to 12 m in frame 0; it falls back by 3 voxels.
DRIVING, STANDING, WALKING = 7, 300, 9


def street(name: str = "street", frames: int = FRAMES, boxes: bool = True) -> OccupancyScene:
    """Road at z -0.2 to 0.2 m, cars on it, a wall at the left, unknown on the far right."""
    semantics = np.zeros((frames, *ALIGNED.shape), np.uint8)
    instances = np.zeros(semantics.shape, np.uint16)
    semantics[..., 2] = ROAD
    semantics[:, :, 70:75, 2] = SIDEWALK
    semantics[:, :, 75, 3:] = BUILDING
    rows = []
    for t in range(frames):
        for track, label, x, y, length, width, height in (
            (DRIVING, CAR, 75 - 3 * t, 48, 5, 4, 4),  # ego 2.0 m a frame, car 0.8 m: 1.2 m nearer each
            (STANDING, CAR, 60 - 5 * t, 60, 5, 4, 4),
            (WALKING, PEDESTRIAN, 65 - 5 * t, 40, 1, 1, 4),
        ):
            where = (t, slice(x, x + length), slice(y, y + width), slice(3, 3 + height))
            semantics[where] = label
            instances[where] = track
            size = 0.4 * np.array([length, width, height])
            center = ALIGNED.origin + 0.4 * np.array([x, y, 3]) + size / 2 + [2.0 * t, 0, 0]
            rows.append((t, track, label, center, size))
    semantics[:, :, :10] = 255
    frame, track, label, center, size = zip(*rows, strict=True)
    steps = np.arange(frames)[:, None] * [[2.0, 0.0, 0.0]]
    return OccupancyScene(
        scene_id=name,
        semantics=semantics,
        poses=poses_from_trajectory(steps),
        grid=ALIGNED,
        taxonomy="native",
        timestamps_us=1_000_000 + np.arange(frames, dtype=np.int64) * 500_000,
        instances=instances,
        boxes=Boxes(
            frame=np.array(frame, np.int32),
            track=np.array(track, np.int32),
            label=np.array(label, np.uint8),
            center=np.array(center, np.float32),
            size=np.array(size, np.float32),
            yaw=np.zeros(len(frame), np.float32),
        )
        if boxes
        else None,
    )
