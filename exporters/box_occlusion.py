"""How much of a box something hides from a camera, in KITTI's levels: rays cast towards the box through the scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import OccupancyScene
from exporters.cameras import NEAREST
from exporters.sensors import cast_scene

# KITTI's levels, and the least share of rays that reach the box for each; below the last it is UNKNOWN.
UNKNOWN_LEVEL = 3
_SHARES = (0.9, 0.5, 0.02)
# Where rays aim in a box, in shares of its size: its upper half, as the road's voxels are higher than the road.
_ALONG = np.linspace(-0.4, 0.4, 5)
_AIMS = np.stack(np.meshgrid(_ALONG, _ALONG, np.linspace(0.0, 0.4, 5), indexing="ij"), axis=-1).reshape(-1, 3)


def occlusion_levels(
    scene: OccupancyScene,
    frame: int,
    eye: NDArray[np.floating],
    center: NDArray[np.floating],
    size: NDArray[np.floating],
    yaw: NDArray[np.floating],
) -> NDArray[np.int64]:
    """The level of each upright box: 0 in sight, 1 partly, 2 largely hidden, 3 unknown, as nothing of it is seen.

    A ray reaches a box where it hits nothing earlier than a voxel's diagonal before the box: the voxels of an
    object stick out of its box.

    Args:
        eye: ``[3]`` of the camera in the ego frame, metres.
        center, size, yaw: ``[n, 3]``, ``[n, 3]`` metres (length, width, height), ``[n]`` radians, in the world.
    """
    if len(center) == 0:
        return np.zeros(0, np.int64)
    to_ego = np.linalg.inv(scene.poses[frame])
    start = scene.poses[frame][:3, :3] @ eye + scene.poses[frame][:3, 3]
    cos, sin = np.cos(np.asarray(yaw, np.float64)), np.sin(np.asarray(yaw, np.float64))
    turns = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # [n, 2, 2] box to world
    aims = _AIMS * np.asarray(size, np.float64)[:, None]  # [n, k, 3] in the box
    rays = aims.copy()
    rays[..., :2] = np.einsum("nij,nkj->nki", turns, aims[..., :2])
    rays += np.asarray(center, np.float64)[:, None] - start
    hits = cast_scene(
        scene,
        frame,
        np.linalg.inv(scene.grid_poses()[frame]) @ scene.poses[frame],
        np.asarray(eye, np.float64),
        rays.reshape(-1, 3) @ to_ego[:3, :3].T,
        NEAREST,
        np.inf,
    )
    reach = np.full(len(center) * len(_AIMS), np.inf)
    reach[hits.ray] = hits.distance
    # Where each ray enters its box, as a share of the way to its aim: the last of the three slabs' near faces.
    back = rays.copy()
    back[..., :2] = np.einsum("nji,nkj->nki", turns, rays[..., :2])
    with np.errstate(divide="ignore", invalid="ignore"):
        near = 1 - (aims + np.sign(back) * np.asarray(size, np.float64)[:, None] / 2) / back
    entry = np.clip(np.where(back == 0, 0.0, near).max(axis=-1), 0.0, 1.0) * np.linalg.norm(rays, axis=-1)
    seen = (reach.reshape(entry.shape) > entry - np.linalg.norm(scene.grid.voxel_size)).mean(axis=1)
    return np.sum([seen < share for share in _SHARES], axis=0)
