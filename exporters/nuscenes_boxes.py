"""Boxes of frames as info files of nuScenes have them: in the LiDAR's frame, and in the ego's for BEVDet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import Boxes, OccupancyScene
from dyncity.taxonomy import OCC3D_NUSCENES, label_map
from exporters.boxes_from_instances import boxes_from_instances
from exporters.compiled import compiled
from exporters.sensors import HDL_32E

# What nuScenes detects, in the order of BEVDet's labels.
DETECTED = (
    *("car", "truck", "construction_vehicle", "bus", "trailer"),
    *("barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone"),
)
# nuScenes' LiDAR looks along its y, with x to the right; the same in the ego's frame.
LIDAR_TO_EGO = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_LONGEST = 1_500_000  # microseconds between two boxes that still tell a velocity, as the devkit has it
# Class, centre, size (length, width, height), yaw, velocity (x, y) in the world; voxels, track. Metres, radians, s.
NuScenesBox = tuple[str, list[float], list[float], float, list[float], int, int]


def box_record(scene: OccupancyScene) -> list[list[NuScenesBox]]:
    """The boxes of each frame that nuScenes has classes for, estimated from instances where the scene has no boxes.

    A velocity is that between the boxes of a track in the frames before and after; 0 where nobody knows. Voxels are
    those of the box's class in it that the scene's LiDAR has seen, or all where the scene has no mask.
    """
    boxes = boxes_from_instances(scene) if scene.boxes is None else scene.boxes
    table = label_map(scene.taxonomy, OCC3D_NUSCENES.name)
    names = [OCC3D_NUSCENES.classes[k] if k < len(OCC3D_NUSCENES.classes) else "" for k in table[boxes.label].tolist()]
    rows = {pair: n for n, pair in enumerate(zip(boxes.frame.tolist(), boxes.track.tolist(), strict=True))}
    kept = {pair: n for pair, n in rows.items() if names[n] in DETECTED}
    own = np.array(list(kept.values()), np.int64)
    before, after = (
        np.array([rows.get((frame + step, track), n) for (frame, track), n in kept.items()], np.int64)
        for step in (-1, 1)
    )
    first, last = boxes.frame[before], boxes.frame[after]
    elapsed = scene.timestamps_us[last] - scene.timestamps_us[first]
    timed = (elapsed > 0) & (elapsed <= _LONGEST * (last - first))
    seconds = np.where(timed, elapsed / 1e6, np.inf).astype(np.float32)
    velocities = np.where(timed[:, None], (boxes.center[after] - boxes.center[before])[:, :2] / seconds[:, None], 0.0)
    seen = voxels_in_boxes(scene, boxes, own, table)
    found: list[list[NuScenesBox]] = [[] for _ in range(scene.frames)]
    columns = (boxes.center[own], boxes.size[own], boxes.yaw[own], velocities, seen)
    for (frame, track), n, *values in zip(*(kept, own.tolist()), *(column.tolist() for column in columns), strict=True):
        center, size, yaw, velocity, voxels = values
        found[frame].append((names[n], center, size, yaw, velocity, voxels, track))
    return found


def voxels_in_boxes(
    scene: OccupancyScene, boxes: Boxes, which: NDArray[np.int64], table: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """How many voxels of the class of each box lie in it or half in it, seen by the LiDAR where the scene knows.

    Args:
        which: ``[n]`` rows of ``boxes``.
        table: uint8 ``[256]``: which class ids are one class.
    """
    frames, size, origin = boxes.frame[which], np.asarray(scene.grid.voxel_size), np.asarray(scene.grid.origin)
    to_grid = np.linalg.inv(scene.grid_poses())[frames]
    centers = np.matmul(to_grid[:, :3, :3], boxes.center[which][:, :, None])[..., 0] + to_grid[:, :3, 3]
    yaws = boxes.yaw[which].astype(np.float64) + np.arctan2(to_grid[:, 1, 0], to_grid[:, 0, 0])
    halves = boxes.size[which] / 2 + size / 2
    across = np.hypot(halves[:, 0], halves[:, 1])
    reach = np.stack([across, across, halves[:, 2]], axis=1)
    first = np.maximum(np.floor((centers - reach - origin) / size).astype(np.int64), 0)
    end = np.minimum(np.ceil((centers + reach - origin) / size).astype(np.int64), scene.grid.shape)
    corners, turns = origin - centers, np.stack([np.cos(yaws), np.sin(yaws)], axis=1)
    mask, counts = scene.mask_lidar, np.zeros(len(which), np.int64)
    seen = scene.semantics if mask is None else mask
    boxed = (first, end, corners, halves, turns, table[boxes.label[which]])
    _count(scene.semantics, seen, mask is not None, table, size, frames.astype(np.int64), *boxed, counts)
    return counts


@compiled
def _count(
    semantics: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    masked: bool,
    table: NDArray[np.uint8],
    size: NDArray[np.float64],
    frames: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    corners: NDArray[np.float64],
    halves: NDArray[np.float64],
    turns: NDArray[np.float64],
    labels: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> None:
    """Count the voxels ``[t, x, y, z]`` from ``first`` to ``end`` of a class whose centres lie in a box, box by box.

    Args:
        corners: ``[n, 3]`` of the grid, seen from the middle of the box.
        halves: ``[n, 3]`` half of the edges of the box.
        turns: ``[n, 2]`` cosine and sine of its heading in the grid.
    """
    for n in range(len(counts)):
        t, cos, sin = frames[n], turns[n, 0], turns[n, 1]
        for i in range(first[n, 0], end[n, 0]):
            x = corners[n, 0] + (i + 0.5) * size[0]
            for j in range(first[n, 1], end[n, 1]):
                y = corners[n, 1] + (j + 0.5) * size[1]
                if abs(cos * x + sin * y) <= halves[n, 0] and abs(cos * y - sin * x) <= halves[n, 1]:
                    for k in range(first[n, 2], end[n, 2]):
                        if abs(corners[n, 2] + (k + 0.5) * size[2]) <= halves[n, 2]:
                            seen = not masked or mask[t, i, j, k] > 0
                            counts[n] += seen and table[semantics[t, i, j, k]] == labels[n]


@dataclass(frozen=True, slots=True, eq=False)
class BoxColumns:
    """The boxes of one frame by column.

    Attributes:
        names: classes.
        centers, sizes: float64 ``[n, 3]`` metres in the world.
        yaws: float64 ``[n]`` radians in the world; ``ahead`` ``[n, 3]`` the unit vectors that they are of.
        velocities: float64 ``[n, 3]`` m/s in the world.
        voxels: int64 ``[n]`` of each.
        tracks: numbers.
    """

    names: list[str]
    centers: NDArray[np.float64]
    sizes: NDArray[np.float64]
    yaws: NDArray[np.float64]
    ahead: NDArray[np.float64]
    velocities: NDArray[np.float64]
    voxels: NDArray[np.int64]
    tracks: list[int]


def box_columns(boxes: list[NuScenesBox]) -> BoxColumns:
    """The boxes of one frame, of ``box_record``, by column."""
    names, centers, sizes, yaws, velocities, voxels, tracks = zip(*boxes, strict=True) if boxes else ((),) * 7
    n, yaw = len(boxes), np.array(yaws, np.float64)
    moves = np.zeros((n, 3))
    moves[:, :2] = np.array(velocities, np.float64).reshape(n, 2)
    return BoxColumns(
        names=list(names),
        centers=np.array(centers, np.float64).reshape(n, 3),
        sizes=np.array(sizes, np.float64).reshape(n, 3),
        yaws=yaw,
        ahead=np.stack([np.cos(yaw), np.sin(yaw), np.zeros(n)], axis=1),
        velocities=moves,
        voxels=np.array(voxels, np.int64),
        tracks=list(tracks),
    )


def lidar_boxes(boxes: BoxColumns, pose: NDArray[np.float64], older: bool) -> dict[str, NDArray[Any]]:
    """The arrays of one frame's boxes in the LiDAR's frame.

    ``gt_boxes`` ``[n, 7]`` are centre, size, heading: length, width, height and the heading from x counterclockwise;
    for MMDetection3D before 1.0 width, length, height and minus the heading less a quarter turn.

    Args:
        pose: ``[4, 4]`` ego-to-world.
        older: for MMDetection3D before 1.0.
    """
    rotation = LIDAR_TO_EGO.T @ pose[:3, :3].T
    centers = (boxes.centers - pose[:3, 3]) @ rotation.T - LIDAR_TO_EGO.T @ np.array(HDL_32E.position)
    ahead, sizes = boxes.ahead @ rotation.T, boxes.sizes
    yaws = np.arctan2(ahead[:, 1], ahead[:, 0])
    if older:
        sizes, yaws = sizes[:, [1, 0, 2]], -yaws - np.pi / 2
    return {
        "gt_boxes": np.concatenate([centers, sizes, yaws[:, None]], axis=1),
        "gt_names": np.array(boxes.names, "<U20"),
        "gt_velocity": (boxes.velocities @ rotation.T)[:, :2],
        "num_lidar_pts": boxes.voxels.copy(),
        "num_radar_pts": np.zeros(len(boxes.names), np.int64),
        "valid_flag": boxes.voxels > 0,
    }


def ego_boxes(boxes: BoxColumns, pose: NDArray[np.float64]) -> tuple[list[list[float]], list[int]]:
    """``ann_infos`` of BEVDet: of boxes that were seen, centre, size, heading, velocity in the ego's frame; labels.

    Args:
        pose: ``[4, 4]`` ego-to-world.
    """
    seen = boxes.voxels > 0
    centers = (boxes.centers[seen] - pose[:3, 3]) @ pose[:3, :3]
    ahead, speeds = boxes.ahead[seen] @ pose[:3, :3], boxes.velocities[seen] @ pose[:3, :3]
    yaws = np.arctan2(ahead[:, 1], ahead[:, 0])
    rows = np.concatenate([centers, boxes.sizes[seen], yaws[:, None], speeds[:, :2]], axis=1)
    return rows.tolist(), [DETECTED.index(name) for name, is_seen in zip(boxes.names, seen, strict=True) if is_seen]
