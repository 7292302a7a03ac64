"""A simulated spinning LiDAR: scans and what they see, cast through a scene's own voxels.

Rays are cast on the grid of the scene, before any resampling: that is cheap, and says what the scene's
own resolution can say. An unknown voxel (255) neither stops a ray nor counts as seen: what is behind it
may have been observed, it was not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import taxonomy
from exporters.column_words import to_words
from exporters.compiled import compiled
from exporters.fans import Fans, cast_fans, columns, see_fans
from exporters.raycast import RayHits, cast_rays


@dataclass(frozen=True, slots=True)
class Lidar:
    """A spinning LiDAR, upright.

    Attributes:
        position: metres, in the ego frame.
        elevations: degrees of each beam above the horizon, from the top.
        columns: firings a turn.
        min_range, max_range: metres; nothing nearer or further returns.
        drop_out: share of the returns that are lost, at random.
        turn_seconds: how long a turn takes. Above 0 the sensor moves while it turns: each column is
            fired from where the ego is by then, and points are given as if fired all at once (as
            KITTI's, which are compensated). 0: all at once.
    """

    position: tuple[float, float, float]
    elevations: tuple[float, ...]
    columns: int
    min_range: float
    max_range: float
    drop_out: float = 0.0
    turn_seconds: float = 0.0

    def directions(self) -> NDArray[np.float64]:
        """Unit vectors ``[beams * columns, 3]``: beam by beam from the top, each from ahead over the left."""
        return _directions(self.elevations, self.columns)

    def fans(self) -> Fans:
        """Its firings: the beams of each lie in one vertical plane."""
        return columns((len(self.elevations), self.columns))


@lru_cache(maxsize=8)
def _directions(elevations: tuple[float, ...], columns: int) -> NDArray[np.float64]:
    """``Lidar.directions``, the same for every turn of a sensor; not to be written to."""
    azimuth = np.arange(columns) * (2 * np.pi / columns)
    elevation = np.deg2rad(elevations)[:, None]
    flat = np.broadcast_to(np.cos(elevation), (len(elevations), columns))
    up = np.broadcast_to(np.sin(elevation), flat.shape)
    rays = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), up], axis=-1).reshape(-1, 3)
    rays.setflags(write=False)
    return rays


def even(lowest: float, highest: float, beams: int) -> tuple[float, ...]:
    """Elevations of ``beams`` beams evenly spread between two angles, degrees, from the top."""
    return tuple(np.linspace(highest, lowest, beams).tolist())


_OFF_THE_SIDE = 2e-4  # metres; coordinates on disk are float32
# Velodyne HDL-64E as mounted on KITTI's car, 1.73 m above the road; its nominal beams: 32 a third of a
# degree apart, below them 32 half a degree apart. Half of the real firings a turn: the voxels are
# coarser than the real spacing.
HDL_64E = Lidar((0.0, 0.0, 1.73), even(-8.33, 2.0, 32) + even(-24.33, -8.83, 32), 1024, 1.0, 80.0)
# Velodyne HDL-32E as mounted on nuScenes' car, positions and angles rounded.
HDL_32E = Lidar((0.94, 0.0, 1.84), even(-30.67, 10.67, 32), 1080, 1.0, 70.0)
# The LiDAR of CarlaSC: 64 beams, 1.8 m above the road.
CARLA_LIDAR = Lidar((0.0, 0.0, 1.8), even(-24.9, 2.0, 64), 1024, 1.0, 50.0)
# Waymo's top LiDAR: 64 beams, positions and angles rounded.
WAYMO_TOP = Lidar((1.43, 0.0, 2.18), even(-17.6, 2.4, 64), 1325, 1.0, 75.0)


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


def scan(
    scene: OccupancyScene,
    frame: int,
    lidar: Lidar,
    inset: float = 0.0,
    device: str | None = None,
    onto: GridSpec | None = None,
) -> Scan:
    """Simulate one turn of the LiDAR in one frame of a scene.

    The same scene, frame and LiDAR give the same points: which returns are lost is drawn from the name
    of the scene. A lost return still was on its way: what it passed is seen.

    Args:
        inset: metres by which points are moved into their voxel along the normal of the face they hit
            (never past its middle). A surface lies somewhere inside its voxel, not on the face, and a
            point off the face stays in its voxel when it is voxelised again.
        device: what rays are cast on (``cast_rays``).
        onto: a grid in the ego frame that the scan will be voxelised on, beside the scene, resampled: points are moved
            into those of its voxels that take their class from the voxel hit, where there is one beside them.
    """
    pose = np.linalg.inv(scene.grid_poses()[frame]) @ scene.poses[frame]
    origin, directions = _fired(scene, frame, lidar)
    hits = cast_scene(scene, frame, pose, origin, directions, lidar.min_range, lidar.max_range, device, lidar.fans())
    lower, size = np.array(scene.grid.origin, np.float64), np.array(scene.grid.voxel_size, np.float64)
    points, voxel = hits.points, hits.voxel
    _move_in(points, hits.inward, voxel, lower, size, np.minimum(inset, size / 2))
    points = (points - pose[:3, 3]) @ pose[:3, :3]
    if onto is not None:
        other = np.array(onto.origin, np.float64), np.array(onto.voxel_size, np.float64)
        _settle(points, voxel, pose, (lower, size, np.array(scene.grid.shape)), other)
    points -= lidar.position
    if lidar.drop_out > 0:
        key = int.from_bytes(hashlib.sha256(scene.scene_id.encode()).digest()[:7], "little")
        kept = stream(key, frame, Purpose.SENSOR).random(len(directions))[hits.ray] >= lidar.drop_out
        points, voxel = points[kept], voxel[kept]
    return Scan(points, voxel, seen=hits.seen & (scene.semantics[frame] != UNKNOWN))


def lidar_seen(scene: OccupancyScene, frame: int, lidar: Lidar) -> NDArray[np.uint64]:
    """``to_words(scan(...).seen)``, without its points."""
    pose = np.linalg.inv(scene.grid_poses()[frame]) @ scene.poses[frame]
    ranges = (lidar.min_range, lidar.max_range)
    return see_scene(scene, frame, pose, *_fired(scene, frame, lidar), *ranges, fans=lidar.fans())


@compiled
def _move_in(
    points: NDArray[np.float64],
    inward: NDArray[np.float64],
    voxel: NDArray[np.int64],
    lower: NDArray[np.float64],
    size: NDArray[np.float64],
    depth: NDArray[np.float64],
) -> None:
    """Move points ``[n, 3]`` by ``depth`` into the voxels that they hit, in place.

    A point on an edge between faces belongs to the voxel that was hit: it is kept a thousandth of it inside.
    """
    for n in range(len(points)):
        for a in range(3):
            least = lower[a] + voxel[n, a] * size[a]
            moved = points[n, a] + inward[n, a] * depth[a]
            points[n, a] = min(max(moved, least + 1e-3 * size[a]), least + (1 - 1e-3) * size[a])


@numba.njit(error_model="numpy")
def _holds(
    cell: NDArray[np.float64],
    lower: NDArray[np.float64],
    step: NDArray[np.float64],
    pose: NDArray[np.float64],
    grid: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]],
    voxel: NDArray[np.int64],
) -> bool:
    """Whether the centre of a cell of the other grid (``lower``, ``step``) lies in a voxel of ``grid``."""
    origin, size, shape = grid
    x, y, z = (
        lower[0] + (cell[0] + 0.5) * step[0],
        lower[1] + (cell[1] + 0.5) * step[1],
        lower[2] + (cell[2] + 0.5) * step[2],
    )
    for a in range(3):
        place = pose[a, 0] * x + pose[a, 1] * y + pose[a, 2] * z + pose[a, 3]
        at = np.floor((place - origin[a]) / size[a])
        if at != voxel[a] or at < 0 or at >= shape[a]:
            return False
    return True


@compiled
def _settle(
    points: NDArray[np.float64],
    voxel: NDArray[np.int64],
    pose: NDArray[np.float64],
    grid: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]],
    onto: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Move points ``[n, 3]`` in the ego frame into voxels of ``onto`` whose centre lies in the voxel hit, in place.

    The centre decides what a resampled voxel is, and a point near the side of its own may lie in one that is its
    neighbour. It moves to the nearest neighbour that is not; where none is, it stays.

    Args:
        voxel: ``[n, 3]`` hit, of ``grid``.
        pose: ``[4, 4]`` from the ego frame to that of ``grid``.
        grid: lower corner and voxel of the scene's grid, metres, and its shape.
        onto: lower corner and voxel of the other one.
    """
    lower, step = onto
    cell, best, moved = np.empty(3), np.empty(3), np.empty(3)
    for n in range(len(points)):
        for a in range(3):
            cell[a] = np.floor((points[n, a] - lower[a]) / step[a])
        if _holds(cell, lower, step, pose, grid, voxel[n]):
            continue
        nearest = np.inf
        for offset in range(27):
            beside = (cell[0] + offset // 9 - 1, cell[1] + offset // 3 % 3 - 1, cell[2] + offset % 3 - 1)
            for a in range(3):
                least = lower[a] + beside[a] * step[a]
                moved[a] = min(max(points[n, a], least + _OFF_THE_SIDE), least + step[a] - _OFF_THE_SIDE)
            x, y, z = moved[0] - points[n, 0], moved[1] - points[n, 1], moved[2] - points[n, 2]
            way = np.sqrt(x * x + y * y + z * z)
            if way < nearest and _holds(beside, lower, step, pose, grid, voxel[n]):
                nearest = way
                best[:] = moved
        if nearest < np.inf:
            points[n] = best


def _fired(scene: OccupancyScene, frame: int, lidar: Lidar) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Origins ``[3]`` or ``[n, 3]`` and directions ``[n, 3]`` in the ego frame of rays, fired while the ego drives on.

    The ego moves steadily between frames; a turn starts at the time of its frame. The last frame goes on
    as the one before it.
    """
    directions = lidar.directions()
    if lidar.turn_seconds <= 0 or scene.frames < 2:
        return np.asarray(lidar.position), directions
    first = min(frame, scene.frames - 2)
    step = np.linalg.inv(scene.poses[first]) @ scene.poses[first + 1]
    seconds = max((scene.timestamps_us[first + 1] - scene.timestamps_us[first]) / 1e6, 1e-6)
    share = np.arange(lidar.columns) / lidar.columns * (lidar.turn_seconds / seconds)
    share = np.tile(share, len(lidar.elevations))
    yaw = share * np.arctan2(step[1, 0], step[0, 0])
    cos, sin = np.cos(yaw), np.sin(yaw)

    def turned(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([cos * v[..., 0] - sin * v[..., 1], sin * v[..., 0] + cos * v[..., 1], v[..., 2] + 0 * cos], -1)

    return turned(np.asarray(lidar.position)) + share[:, None] * step[:3, 3], turned(directions)


def cast_scene(
    scene: OccupancyScene,
    frame: int,
    pose: NDArray[np.float64],
    origin: NDArray[np.float64],
    directions: NDArray[np.float64],
    min_range: float,
    max_range: float,
    device: str | None = None,
    fans: Fans | None = None,
) -> RayHits:
    """Cast rays through one frame of a scene.

    Args:
        pose: ``[4, 4]`` ego-to-grid.
        origin: ``[3]`` or ``[n, 3]`` in the ego frame, metres.
        directions: ``[n, 3]`` in the ego frame.
        min_range, max_range: metres.
        device: what rays are cast on (``cast_rays``).
        fans: which rays lie in one plane that is vertical in the ego frame.
    """
    occupied, start, rays = _occupied(scene, frame), origin @ pose[:3, :3].T + pose[:3, 3], directions @ pose[:3, :3].T
    if fans is not None and device is None and _is_upright(pose):
        return cast_fans(occupied, scene.grid, start, rays, fans, min_range, max_range)
    return cast_rays(occupied, scene.grid, start, rays, min_range, max_range, device)


def see_scene(
    scene: OccupancyScene,
    frame: int,
    pose: NDArray[np.float64],
    origin: NDArray[np.float64],
    directions: NDArray[np.float64],
    min_range: float,
    max_range: float,
    device: str | None = None,
    fans: Fans | None = None,
) -> NDArray[np.uint64]:
    """The voxels that rays pass or hit, unknown ones left out, in words (``to_words``); arguments of ``cast_scene``.

    ``origin`` may also be ``[k, 3]``, of each image that ``fans`` have columns of.
    """
    known = to_words(scene.semantics[frame] != UNKNOWN)
    if fans is not None and device is None and _is_upright(pose):
        start, rays = origin @ pose[:3, :3].T + pose[:3, 3], directions @ pose[:3, :3].T
        return see_fans(_occupied(scene, frame), scene.grid, start, rays, fans, min_range, max_range) & known
    if fans is not None:
        origin = fans.per_ray(np.atleast_2d(origin))
    return to_words(cast_scene(scene, frame, pose, origin, directions, min_range, max_range, device).seen) & known


def _occupied(scene: OccupancyScene, frame: int) -> NDArray[np.bool_]:
    """What stops rays, ``[x, y, z]``."""
    semantics = scene.semantics[frame]
    return (semantics != taxonomy(scene.taxonomy).free) & (semantics != UNKNOWN)


def _is_upright(pose: NDArray[np.float64]) -> bool:
    """Whether planes that are vertical in the ego frame are so in the grid: not where the ego is tilted in it."""
    return bool(np.abs(pose[2, :2]).max() < 1e-12)
