"""World-fixed clips: ego-centred frames into one grid, and ego-centred windows cut back out.

A plane of a HexPlane that drops t can hold only what does not move, so the grid of a clip is fixed to
the world at the pose of its middle frame, t // 2: that halves the travel the grid has to cover. Where it is known how
streets run (``Conditions.grid_yaw``), the grid is turned to them.
All look-ups take the voxel that holds the centre of the wanted voxel (nearest neighbour).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import (
    Conditions,
    command_from_trajectory,
    grid_yaw_from,
    poses_from_trajectory,
    trajectory_from_poses,
    turned,
    yaw_between,
)
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy

Pose = tuple[float, float, float]  # x, y in metres, yaw in radians, in the frame of a grid

_FILL = {"semantics": UNKNOWN, "instances": 0, "mask_lidar": 0, "mask_camera": 0}


def _look_up(
    arrays: dict[str, NDArray], source: GridSpec, target: GridSpec, target_to_source: NDArray[np.float64]
) -> dict[str, NDArray]:
    """One frame: ``[x, y, z]`` arrays on ``source`` read at the voxel centres of ``target``."""
    points = target.centers() @ target_to_source[:3, :3].T + target_to_source[:3, 3]
    index, inside = source.index(points)
    flat = np.ravel_multi_index(tuple(np.moveaxis(index, -1, 0)), source.shape)
    return {
        name: np.where(inside, array.reshape(-1)[flat], array.dtype.type(_FILL[name])) for name, array in arrays.items()
    }


def _resampled(
    scene: OccupancyScene, grid: GridSpec, grid_poses: NDArray[np.float64], anchor: int | None
) -> OccupancyScene:
    """The scene on another grid placed by ``grid_poses`` ``[t, 4, 4]`` (grid-to-world)."""
    source_poses = scene.grid_poses()
    names = [name for name in _FILL if getattr(scene, name) is not None]
    frames = []
    for t in range(scene.frames):
        step = np.linalg.inv(source_poses[t]) @ grid_poses[t]
        arrays = {name: getattr(scene, name)[t] for name in names}
        frames.append(_look_up(arrays, scene.grid, grid, step))
    stacked: dict[str, Any] = {name: np.stack([frame[name] for frame in frames]) for name in names}
    grid = replace(grid, frame_rate=scene.grid.frame_rate)
    return replace(scene, grid=grid, anchor=anchor, **stacked)


def ego_windows(scene: OccupancyScene, grid: GridSpec) -> OccupancyScene:
    """The scene as ego-centred frames on ``grid``, cut out along its own poses.

    Voxels that the scene's grid does not cover are unknown (255), not free.
    """
    return _resampled(scene, grid, scene.poses, None)


def clip_of(scene: OccupancyScene, start: int, frames: int) -> OccupancyScene:
    """Frames ``[start, start + frames)`` as a scene of their own, its world the first of them.

    Raises:
        InputError: when the scene has too few frames, or is anchored at another frame.
    """
    if start < 0 or start + frames > scene.frames:
        raise InputError(
            f"scene {scene.scene_id}",
            f"has {scene.frames} frames, {start}..{start + frames - 1} were asked for",
            f"use clips of at most {scene.frames} frames",
        )
    if start == 0 and frames == scene.frames:
        return scene
    if scene.anchor is not None:
        raise InputError(f"scene {scene.scene_id}", "is fixed to the world as a whole", "use all its frames")
    end = start + frames
    poses = np.linalg.inv(scene.poses[start]) @ scene.poses[start:end]
    poses[0] = np.eye(4)
    trajectory = trajectory_from_poses(poses)
    grid_yaw = scene.conditions.grid_yaw
    if grid_yaw is not None:
        grid_yaw = grid_yaw_from(scene.poses[start + frames // 2], scene.poses[scene.frames // 2], grid_yaw)
    cut: dict[str, Any] = {name: getattr(scene, name)[start:end] for name in _FILL if getattr(scene, name) is not None}
    return replace(
        scene,
        poses=poses,
        timestamps_us=scene.timestamps_us[start:end],
        conditions=Conditions(command_from_trajectory(trajectory), trajectory, grid_yaw=grid_yaw),
        boxes=None,
        **cut,
    )


def anchored(scene: OccupancyScene, grid: GridSpec) -> OccupancyScene:
    """The scene in one grid, fixed to the world at the pose of frame t // 2, turned by its ``grid_yaw``.

    Ego-centred frames are resampled; then static classes that a frame did not see are filled in from
    the nearest frame in time that saw them. Movers stay only where they were seen, and what nothing
    says anything about stays unknown (255), to be masked out of losses and metrics.
    """
    anchor = scene.frames // 2
    place = turned(scene.poses[anchor], scene.conditions.grid_yaw)
    poses = np.broadcast_to(place, scene.poses.shape)
    if scene.anchor is not None:
        if scene.anchor == anchor and replace(scene.grid, frame_rate=grid.frame_rate) == grid:
            return scene
        return _resampled(scene, grid, poses, anchor)
    fixed = _resampled(scene, grid, poses, anchor)
    return replace(fixed, semantics=complete_static(fixed.semantics, fixed.taxonomy))


def along(place: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[4, 4]`` at the position of ``pose``, its axes those of ``place``: x is the one nearest to the heading."""
    quarters = np.round(yaw_between(place, pose) / (np.pi / 2))
    found = np.array(turned(place, quarters * np.pi / 2))
    found[:3, 3] = pose[:3, 3]
    return found


def path_on_grid(trajectory: NDArray[np.float64], anchor: int | None, grid_yaw: float | None) -> list[Pose]:
    """x, y (metres) and yaw (radians) of the ego in each frame, in the frame of a clip's grid.

    Args:
        trajectory: ``[t, 3]`` of the ego.
        anchor: the frame whose pose places the grid; None: each frame's own.
        grid_yaw: how far the grid is turned against that pose.
    """
    if anchor is None:
        return [(0.0, 0.0, 0.0)] * len(trajectory)
    poses = poses_from_trajectory(trajectory)
    relative = np.linalg.inv(turned(poses[anchor], grid_yaw)) @ poses
    return [(float(p[0, 3]), float(p[1, 3]), float(np.arctan2(p[1, 0], p[0, 0]))) for p in relative]


def moved_grid(
    semantics: NDArray[np.uint8], grid: GridSpec, target_to_source: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Frames ``[t, x, y, z]`` on ``grid`` read on the same grid at another pose; 255 where they do not reach."""
    return np.stack([frame_on(frame, grid, grid, target_to_source) for frame in semantics])


def columns_in(
    grid: GridSpec, window: GridSpec, grid_to_window: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where columns of ``grid`` lie in ``window``, from above: int ``[x, y, 2]``, and bool ``[x, y]`` inside."""
    x, y = np.meshgrid(grid.axis(0), grid.axis(1), indexing="ij")
    points = np.stack([x, y, np.zeros_like(x)], axis=-1) @ grid_to_window[:3, :3].T + grid_to_window[:3, 3]
    points[..., 2] = (window.origin[2] + window.upper[2]) / 2
    index, inside = window.index(points)
    return index[..., :2], inside


def covered(grid: GridSpec, window: GridSpec, grid_to_window: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool ``[x, y]``: columns of ``grid`` whose centres lie in ``window``."""
    return columns_in(grid, window, grid_to_window)[1]


def frame_on(
    semantics: NDArray[np.uint8], source: GridSpec, target: GridSpec, target_to_source: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """A frame ``[x, y, z]`` on ``source`` read on ``target``; 255 where it does not reach."""
    return _look_up({"semantics": semantics}, source, target, target_to_source)["semantics"]


def complete_static(semantics: NDArray[np.uint8], labels: str) -> NDArray[np.uint8]:
    """Fill unknown voxels of world-fixed ``[t, x, y, z]`` semantics with static classes of other frames."""
    space = taxonomy(labels)
    static = np.ones(256, bool)
    static[[space.free, UNKNOWN, *space.movers]] = False
    filled = semantics.copy()
    frames = len(semantics)
    for t in range(frames):
        for other in sorted(range(frames), key=lambda k: abs(k - t))[1:]:
            seen = semantics[other]
            np.copyto(filled[t], seen, where=(filled[t] == UNKNOWN) & static[seen])
    return filled
