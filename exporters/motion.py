"""How tracked agents move: where each one is in every frame, and which of them ever leave their place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import OccupancyScene
from exporters.compiled import compiled

# Less than this, metres, in a whole scene is standing still: people fidget, and labels do.
_LEAST_MOVE = 0.5


def track_poses(scene: OccupancyScene) -> dict[int, NDArray[np.float64]]:
    """World poses ``[t, 4, 4]`` of each track number; NaN in frames without it.

    From boxes (position and heading) where the scene has them. Tracks without a box follow the middle of
    their voxels, without turning: right to about half a voxel, and wrong while they enter or leave the grid.
    """
    poses: dict[int, NDArray[np.float64]] = {}
    nowhere = np.full((scene.frames, 4, 4), np.nan)
    if scene.boxes is not None:
        boxes = scene.boxes
        for frame, track, center, yaw in zip(boxes.frame, boxes.track, boxes.center, boxes.yaw, strict=True):
            cos, sin = np.cos(float(yaw)), np.sin(float(yaw))
            pose = np.eye(4)
            pose[:2, :2] = [[cos, -sin], [sin, cos]]
            pose[:3, 3] = center
            poses.setdefault(int(track), nowhere.copy())[int(frame)] = pose
    if scene.instances is not None:
        boxed = np.zeros(65536, np.bool_)
        boxed[[track for track in poses if 0 <= track < 65536]] = True
        for frame, grid_pose in enumerate(scene.grid_poses()):
            tracks, middles = _middles(scene, frame, boxed)
            for track, middle in zip(tracks.tolist(), middles @ grid_pose[:3, :3].T + grid_pose[:3, 3], strict=True):
                pose = np.eye(4)
                pose[:3, 3] = middle
                poses.setdefault(track, nowhere.copy())[frame] = pose
    return poses


def moving_tracks(scene: OccupancyScene, poses: dict[int, NDArray[np.float64]] | None = None) -> NDArray[np.bool_]:
    """Bool ``[65536]`` by track number: does it ever move in this scene, as SemanticKITTI marks movers.

    It does when it is somewhere in some frame that lies half a metre from where it first was; tracks
    known by their voxels alone have to move two voxels.

    Args:
        poses: of ``track_poses``, if at hand.
    """
    moving = np.zeros(65536, np.bool_)
    boxed = set() if scene.boxes is None else set(scene.boxes.track.tolist())
    coarse = 2 * max(scene.grid.voxel_size[:2])
    for track, path in (track_poses(scene) if poses is None else poses).items():
        places = path[np.isfinite(path[:, 0, 3]), :2, 3]
        travel = np.linalg.norm(places - places[0], axis=1).max()
        moving[track % 65536] = travel > (_LEAST_MOVE if track in boxed else max(_LEAST_MOVE, coarse))
    return moving


def _middles(
    scene: OccupancyScene, frame: int, boxed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Track numbers ``[n]`` present in one frame and the middle ``[n, 3]`` of their voxels, in the grid's frame.

    Args:
        boxed: bool ``[65536]`` by track number: leave it out.
    """
    assert scene.instances is not None
    sums = np.zeros((65536, 4), np.int64)
    _add_up(np.ascontiguousarray(scene.instances[frame]), boxed, sums)
    tracks = np.flatnonzero(sums[:, 3])
    middles = (sums[tracks, :3] / sums[tracks, 3:] + 0.5) * scene.grid.voxel_size
    return tracks, middles + scene.grid.origin


@compiled
def _add_up(instances: NDArray[np.uint16], boxed: NDArray[np.bool_], sums: NDArray[np.int64]) -> None:
    """Add x, y, z and 1 of every voxel ``[x, y, z]`` of a track to its row of ``sums``, unless it is ``boxed``."""
    for x in range(instances.shape[0]):
        for y in range(instances.shape[1]):
            for z in range(instances.shape[2]):
                track = instances[x, y, z]
                if track != 0 and not boxed[track]:
                    sums[track, 0] += x
                    sums[track, 1] += y
                    sums[track, 2] += z
                    sums[track, 3] += 1
