"""Simulated sensors: LiDAR scans and visibility masks, cast through a scene's own voxels.

Rays are cast on the grid of the scene, before any resampling: that is cheap, and says what the scene's
own resolution can say. An unknown voxel (255) neither stops a ray nor counts as seen: what is behind it
may have been observed, it was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.raycast import RayHits, cast_rays

# More poses add little to what the nearer ones saw, and each costs a look-up of the whole grid a frame.
_MOST_POSES = 8


@dataclass(frozen=True, slots=True)
class Lidar:
    """A spinning LiDAR, upright, beams evenly spread between two elevations.

    Attributes:
        position: metres, in the ego frame.
        elevation: degrees of the lowest and the highest beam.
        beams: number of beams.
        columns: firings a turn.
        min_range, max_range: metres; nothing nearer or further returns.
    """

    position: tuple[float, float, float]
    elevation: tuple[float, float]
    beams: int
    columns: int
    min_range: float
    max_range: float

    def directions(self) -> NDArray[np.float64]:
        """Unit vectors ``[beams * columns, 3]``: beam by beam from the top, each from ahead over the left."""
        azimuth = np.arange(self.columns) * (2 * np.pi / self.columns)
        elevation = np.deg2rad(np.linspace(self.elevation[1], self.elevation[0], self.beams))[:, None]
        flat = np.broadcast_to(np.cos(elevation), (self.beams, self.columns))
        up = np.broadcast_to(np.sin(elevation), (self.beams, self.columns))
        return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), up], axis=-1).reshape(-1, 3)


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera that looks level; the image is 1600 x 900, the principal point its centre.

    Attributes:
        name: nuScenes name, e.g. ``CAM_FRONT``.
        position: metres, in the ego frame.
        yaw: degrees that the optical axis is turned to the left of straight ahead.
        focal: pixels.
    """

    name: str
    position: tuple[float, float, float]
    yaw: float
    focal: float
    width: int = 1600
    height: int = 900

    def intrinsic(self) -> NDArray[np.float64]:
        """``[3, 3]`` camera matrix, pixels."""
        return np.array([[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1]])

    def rotation(self) -> NDArray[np.float64]:
        """``[3, 3]`` camera-to-ego; camera axes are x right, y down, z along the view."""
        cos, sin = np.cos(np.deg2rad(self.yaw)), np.sin(np.deg2rad(self.yaw))
        return np.array([[sin, 0.0, cos], [-cos, 0.0, sin], [0.0, -1.0, 0.0]])

    def directions(self, stride: int) -> NDArray[np.float64]:
        """Rays ``[n, 3]`` in the ego frame through every ``stride``-th pixel of each row and column."""
        u = np.arange(stride / 2, self.width, stride)
        v = np.arange(stride / 2, self.height, stride)
        pixels = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
        rays = (np.c_[pixels, np.ones(len(pixels))] - [self.width / 2, self.height / 2, 0]) / [
            self.focal,
            self.focal,
            1,
        ]
        return rays @ self.rotation().T


# Velodyne HDL-64E as mounted on KITTI's car: data sheet angles, 1.73 m above the road. Half of the real
# firings a turn: the voxels are coarser than the real spacing.
HDL_64E = Lidar((0.0, 0.0, 1.73), (-24.8, 2.0), beams=64, columns=1024, min_range=1.0, max_range=80.0)
# Velodyne HDL-32E as mounted on nuScenes' car, positions and angles rounded.
HDL_32E = Lidar((0.94, 0.0, 1.84), (-30.67, 10.67), beams=32, columns=1080, min_range=1.0, max_range=70.0)
# The six cameras of nuScenes' car, positions and angles rounded: five of 65 degrees, a wide one behind.
NUSCENES_CAMERAS = (
    Camera("CAM_FRONT", (1.70, 0.0, 1.51), 0.0, 1266.0),
    Camera("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), -55.0, 1260.0),
    Camera("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), 55.0, 1260.0),
    Camera("CAM_BACK", (0.03, 0.0, 1.58), 180.0, 809.0),
    Camera("CAM_BACK_LEFT", (1.04, 0.48, 1.56), 110.0, 1256.0),
    Camera("CAM_BACK_RIGHT", (1.04, -0.48, 1.56), -110.0, 1256.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One turn of a LiDAR.

    Attributes:
        points: float64 ``[n, 3]`` in the LiDAR's frame (x forward, y left, z up), metres.
        voxel: int64 ``[n, 3]`` the voxel of the scene's grid that each point lies in.
        seen: bool ``[x, y, z]`` voxels of the scene's grid that were passed or hit, unknown ones left out.
    """

    points: NDArray[np.float64]
    voxel: NDArray[np.int64]
    seen: NDArray[np.bool_]


def scan(scene: OccupancyScene, frame: int, lidar: Lidar, inset: float = 0.0) -> Scan:
    """Simulate one turn of the LiDAR in one frame of a scene.

    Args:
        inset: metres by which points are moved into their voxel along the normal of the face they hit
            (never past its middle). A surface lies somewhere inside its voxel, not on the face, and a
            point off the face stays in its voxel when it is voxelised again.
    """
    pose = np.linalg.inv(scene.grid_poses()[frame]) @ scene.poses[frame]
    hits = _cast(scene, frame, pose, lidar.position, lidar.directions(), lidar.min_range, lidar.max_range)
    size = np.asarray(scene.grid.voxel_size)
    depth = np.minimum(inset, size / 2)
    lower = scene.grid.origin + hits.voxel * size
    # A point on an edge between faces belongs to the voxel that was hit: keep it a little inside.
    points = np.clip(hits.points + hits.inward * depth, lower + 1e-3 * size, lower + (1 - 1e-3) * size)
    return Scan(
        points=(points - pose[:3, 3]) @ pose[:3, :3] - lidar.position,
        voxel=hits.voxel,
        seen=hits.seen & (scene.semantics[frame] != UNKNOWN),
    )


def camera_mask(
    scene: OccupancyScene, frame: int, cameras: Sequence[Camera] = NUSCENES_CAMERAS, stride: int = 10
) -> NDArray[np.bool_]:
    """What the cameras see in one frame: bool ``[x, y, z]`` on the scene's grid, unknown voxels left out."""
    pose = np.linalg.inv(scene.grid_poses()[frame]) @ scene.poses[frame]
    seen = np.zeros(scene.grid.shape, np.bool_)
    for camera in cameras:
        seen |= _cast(scene, frame, pose, camera.position, camera.directions(stride), 1.0, np.inf).seen
    return seen & (scene.semantics[frame] != UNKNOWN)


def seen_over_time(scene: OccupancyScene, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What was seen from any pose of the scene: as data sets do that merge the scans of a drive.

    A voxel counts as seen in a frame when its centre lay in a seen voxel in some frame (at most 8
    frames, evenly spread, besides its own). Unknown voxels stay unseen.

    Args:
        seen: bool ``[t, x, y, z]`` seen in each frame, on the scene's grid.
    """
    poses, merged = scene.grid_poses(), seen.copy()
    sources = np.unique(np.linspace(0, scene.frames - 1, min(scene.frames, _MOST_POSES)).round().astype(int))
    for frame in range(scene.frames):
        for source in sources:
            if source != frame:
                relative = np.linalg.inv(poses[source]) @ poses[frame]
                merged[frame] |= _moved(seen[source], scene.grid, relative)
    return merged & (scene.semantics != UNKNOWN)


def _moved(mask: NDArray[np.bool_], grid: GridSpec, relative: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A mask ``[x, y, z]`` looked up where ``relative`` (4x4, metres) takes each voxel centre; False outside."""
    if np.array_equal(relative, np.eye(4)):
        return mask
    size = np.asarray(grid.voxel_size)
    x, y, z = np.ix_(*(grid.axis(axis) for axis in range(3)))
    flat, inside = np.zeros(mask.shape, np.int64), np.ones(mask.shape, np.bool_)
    for axis in range(3):
        # One axis at a time, in place of all centres as points: a third of the memory, several times faster.
        row = relative[axis] / size[axis]
        shifted = row[3] - grid.origin[axis] / size[axis]
        index = np.floor(row[0] * x + row[1] * y + (row[2] * z + shifted)).astype(np.int32)
        inside &= (index >= 0) & (index < grid.shape[axis])
        flat *= grid.shape[axis]
        flat += index
    return mask.reshape(-1)[np.where(inside, flat, 0)] & inside


def _cast(
    scene: OccupancyScene,
    frame: int,
    pose: NDArray[np.float64],
    position: tuple[float, float, float],
    directions: NDArray[np.float64],
    min_range: float,
    max_range: float,
) -> RayHits:
    """Cast rays given in the ego frame; ``pose`` is ego-to-grid."""
    semantics = scene.semantics[frame]
    occupied = (semantics != taxonomy(scene.taxonomy).free) & (semantics != UNKNOWN)
    origin = pose[:3, :3] @ position + pose[:3, 3]
    return cast_rays(occupied, scene.grid, origin, directions @ pose[:3, :3].T, min_range, max_range)
