"""Boxes around instances: the least upright box around the voxels of each track in each frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import Boxes, OccupancyScene

# Headings that are tried, radians: a quarter turn in steps of 2 degrees.
_YAWS = np.deg2rad(np.arange(0, 90, 2))


def boxes_from_instances(scene: OccupancyScene) -> Boxes:
    """Boxes of a scene that has instances and no boxes; none where it has no instances either.

    A box is as large as the voxels it surrounds: too large by up to a voxel. Its longer side is taken as
    its length, so a heading may be off by half a turn, and by a quarter where a track is as wide as long.
    """
    frames, tracks, labels, centers, sizes, yaws = [], [], [], [], [], []
    half = np.asarray(scene.grid.voxel_size) / 2
    for frame, pose in enumerate(scene.grid_poses()):
        if scene.instances is None:
            break
        voxels = np.argwhere(scene.instances[frame])
        numbers = scene.instances[frame][tuple(voxels.T)]
        turn = np.arctan2(pose[1, 0], pose[0, 0])
        for track in np.unique(numbers).tolist():
            own = voxels[numbers == track]
            center, size, yaw = least_box((own + 0.5) * scene.grid.voxel_size + scene.grid.origin, half)
            found = scene.semantics[frame][tuple(own.T)]
            frames.append(frame)
            tracks.append(track)
            labels.append(int(np.bincount(found).argmax()))
            centers.append(pose[:3, :3] @ center + pose[:3, 3])
            sizes.append(size)
            yaws.append(yaw + turn)
    return Boxes(
        frame=np.array(frames, np.int32),
        track=np.array(tracks, np.int32),
        label=np.array(labels, np.uint8),
        center=np.array(centers, np.float32).reshape(-1, 3),
        size=np.array(sizes, np.float32).reshape(-1, 3),
        yaw=np.array(yaws, np.float32),
    )


def least_box(
    points: NDArray[np.float64], half: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Centre, size (length, width, height) and heading of the upright box of least area around voxels.

    Args:
        points: ``[n, 3]`` voxel centres, metres.
        half: ``[3]`` half of a voxel's edges.
    """
    cos, sin = np.cos(_YAWS)[:, None], np.sin(_YAWS)[:, None]
    x, y = points[:, 0], points[:, 1]
    along, across = cos * x + sin * y, cos * y - sin * x
    reach_along = (np.abs(cos) * half[0] + np.abs(sin) * half[1])[:, 0]
    reach_across = (np.abs(sin) * half[0] + np.abs(cos) * half[1])[:, 0]
    low = np.stack([along.min(axis=1) - reach_along, across.min(axis=1) - reach_across])
    high = np.stack([along.max(axis=1) + reach_along, across.max(axis=1) + reach_across])
    extent, middle = high - low, (high + low) / 2
    best = int(np.argmin(extent[0] * extent[1]))
    yaw, (length, width), (a, b) = float(_YAWS[best]), extent[:, best], middle[:, best]
    bottom, top = points[:, 2].min() - half[2], points[:, 2].max() + half[2]
    center = np.array([np.cos(yaw) * a - np.sin(yaw) * b, np.sin(yaw) * a + np.cos(yaw) * b, (bottom + top) / 2])
    if width > length:
        length, width, yaw = width, length, yaw + np.pi / 2
    return center, np.array([length, width, top - bottom]), yaw
