"""Boxes of frames as info files of nuScenes have them: in the LiDAR's frame, and in the ego's for BEVDet."""

from __future__ import annotations

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
    names = dict(enumerate(OCC3D_NUSCENES.classes))
    rows = {(int(f), int(t)): n for n, (f, t) in enumerate(zip(boxes.frame, boxes.track, strict=True))}
    to_grids = np.linalg.inv(scene.grid_poses())
    found: list[list[NuScenesBox]] = [[] for _ in range(scene.frames)]
    for (frame, track), n in rows.items():
        name = names.get(int(table[boxes.label[n]]), "")
        if name not in DETECTED:
            continue
        ends = [rows.get((frame - 1, track), n), rows.get((frame + 1, track), n)]
        first, last = boxes.frame[ends]
        elapsed, velocity = int(scene.timestamps_us[last] - scene.timestamps_us[first]), [0.0, 0.0]
        if 0 < elapsed <= _LONGEST * (last - first):
            velocity = ((boxes.center[ends[1]] - boxes.center[ends[0]])[:2] / (elapsed / 1e6)).tolist()
        seen = voxels_in_box(scene, boxes, n, to_grids[frame], table)
        found[frame].append(
            (name, boxes.center[n].tolist(), boxes.size[n].tolist(), float(boxes.yaw[n]), velocity, seen, track)
        )
    return found


def voxels_in_box(
    scene: OccupancyScene, boxes: Boxes, n: int, to_grid: NDArray[np.float64], table: NDArray[np.uint8]
) -> int:
    """How many voxels of the class of box ``n`` lie in it or half in it, seen by the LiDAR where the scene knows.

    Args:
        to_grid: ``[4, 4]`` from the world into the grid's frame.
        table: uint8 ``[256]``: which class ids are one class.
    """
    frame, size = int(boxes.frame[n]), np.asarray(scene.grid.voxel_size)
    center = to_grid[:3, :3] @ boxes.center[n] + to_grid[:3, 3]
    yaw = float(boxes.yaw[n]) + np.arctan2(to_grid[1, 0], to_grid[0, 0])
    half = boxes.size[n] / 2 + size / 2
    reach = np.array([np.hypot(half[0], half[1])] * 2 + [half[2]])
    first = np.maximum(np.floor((center - reach - scene.grid.origin) / size).astype(int), 0)
    end = np.minimum(np.ceil((center + reach - scene.grid.origin) / size).astype(int), scene.grid.shape)
    if (first >= end).any():
        return 0
    mask = scene.mask_lidar
    return _count(
        *(scene.semantics[frame], scene.semantics[frame] if mask is None else mask[frame], mask is not None),
        *(first, end, size, np.asarray(scene.grid.origin) - center, half, np.cos(yaw), np.sin(yaw)),
        *(table, table[boxes.label[n]]),
    )


@compiled
def _count(
    semantics: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    masked: bool,
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    size: NDArray[np.float64],
    corner: NDArray[np.float64],
    half: NDArray[np.float64],
    cos: float,
    sin: float,
    table: NDArray[np.uint8],
    label: int,
) -> int:
    """Voxels ``[x, y, z]`` from ``first`` to ``end`` of a class whose centres lie in a box.

    Args:
        corner: of the grid, seen from the middle of the box.
        half: half of the edges of the box; ``cos``, ``sin``: of its heading in the grid.
    """
    found = 0
    for i in range(first[0], end[0]):
        x = corner[0] + (i + 0.5) * size[0]
        for j in range(first[1], end[1]):
            y = corner[1] + (j + 0.5) * size[1]
            if abs(cos * x + sin * y) <= half[0] and abs(cos * y - sin * x) <= half[1]:
                for k in range(first[2], end[2]):
                    if abs(corner[2] + (k + 0.5) * size[2]) <= half[2]:
                        seen = not masked or mask[i, j, k] > 0
                        found += seen and table[semantics[i, j, k]] == label
    return found


def lidar_boxes(boxes: list[NuScenesBox], pose: NDArray[np.float64], older: bool) -> dict[str, NDArray[Any]]:
    """The arrays of one frame's boxes in the LiDAR's frame.

    ``gt_boxes`` ``[n, 7]`` are centre, size, heading: length, width, height and the heading from x counterclockwise;
    for MMDetection3D before 1.0 width, length, height and minus the heading less a quarter turn.

    Args:
        pose: ``[4, 4]`` ego-to-world.
        older: for MMDetection3D before 1.0.
    """
    n = len(boxes)
    rotation = LIDAR_TO_EGO.T @ pose[:3, :3].T
    centers = np.array([center for _, center, *_ in boxes]).reshape(n, 3) - pose[:3, 3]
    centers = centers @ rotation.T - LIDAR_TO_EGO.T @ np.array(HDL_32E.position)
    sizes = np.array([size for _, _, size, *_ in boxes]).reshape(n, 3)
    ahead = np.array([[np.cos(yaw), np.sin(yaw), 0.0] for _, _, _, yaw, *_ in boxes]).reshape(n, 3) @ rotation.T
    yaws = np.arctan2(ahead[:, 1], ahead[:, 0])
    velocities = np.array([[*velocity, 0.0] for *_, velocity, _, _ in boxes]).reshape(n, 3) @ rotation.T
    seen = np.array([voxels for *_, voxels, _ in boxes], np.int64)
    if older:
        sizes, yaws = sizes[:, [1, 0, 2]], -yaws - np.pi / 2
    return {
        "gt_boxes": np.concatenate([centers, sizes, yaws[:, None]], axis=1),
        "gt_names": np.array([name for name, *_ in boxes], "<U20"),
        "gt_velocity": velocities[:, :2],
        "num_lidar_pts": seen,
        "num_radar_pts": np.zeros(n, np.int64),
        "valid_flag": seen > 0,
    }


def ego_boxes(boxes: list[NuScenesBox], pose: NDArray[np.float64]) -> tuple[list[list[float]], list[int]]:
    """``ann_infos`` of BEVDet: of boxes that were seen, centre, size, heading, velocity in the ego's frame; labels.

    Args:
        pose: ``[4, 4]`` ego-to-world.
    """
    rows, labels = [], []
    for name, center, size, yaw, velocity, seen, _ in boxes:
        if seen:
            place = (np.array(center) - pose[:3, 3]) @ pose[:3, :3]
            ahead = np.array([np.cos(yaw), np.sin(yaw), 0.0]) @ pose[:3, :3]
            speed = np.array([*velocity, 0.0]) @ pose[:3, :3]
            rows.append([*place.tolist(), *size, float(np.arctan2(ahead[1], ahead[0])), *speed[:2].tolist()])
            labels.append(DETECTED.index(name))
    return rows, labels
