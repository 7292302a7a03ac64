"""LiDAR sweeps as world-fixed cells: what was hit, and what rays passed through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.argoverse2.ground_map import GroundMap
from dyncity.datasets.argoverse2.log import NANOSECONDS, Log, Sweep
from dyncity.datasets.argoverse2.tracks import Tracks
from dyncity.errors import InputError

UNSEEN, PASSED, HIT = 0, 1, 2
ABOVE_GROUND = 0.3  # metres; what is lower is the ground itself, a curb, or a raster's error
CUBOID_MARGIN = 0.25  # metres around cuboids: their points, and motion blur
EGO_BODY = (np.array([-1.2, -1.1, -0.4]), np.array([4.1, 1.1, 1.5]))  # corners in the ego frame, metres
MAX_WORLD_CELLS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class WorldCells:
    """Cells of the size of a voxel, fixed to the city.

    Attributes:
        origin: ``[3]`` lower corner of cell (0, 0, 0) in the city frame, metres.
        size: ``[3]`` edges, metres.
        state: uint8 ``[x, y, z]`` UNSEEN, PASSED or HIT.
    """

    origin: NDArray[np.float64]
    size: NDArray[np.float64]
    state: NDArray[np.uint8]

    def keys(self, points: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Flat cell numbers of city points ``[n, 3]`` and whether they lie inside, both ``[n]``."""
        index = np.floor((points - self.origin) / self.size)
        inside = np.asarray(np.logical_and(index >= 0, index < self.state.shape).all(axis=1))
        _, ny, nz = self.state.shape
        x, y, z = np.where(inside[:, None], index, 0).astype(np.int64).T
        return (x * ny + y) * nz + z, inside

    def lookup(self, points: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The states of the cells that city points ``[n, 3]`` lie in, ``[n]``."""
        keys, inside = self.keys(points)
        return np.where(inside, self.state.reshape(-1)[keys], UNSEEN).astype(np.uint8)


def accumulate(
    log: Log,
    ground: GroundMap,
    tracks: Tracks,
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
    voxel: tuple[float, float, float],
    path: NDArray[np.float64],
) -> WorldCells:
    """All sweeps of a log in one world, without what moves.

    A cell is HIT by points above the ground and outside all cuboids: at least two points, from at
    least ``hit_sweeps`` sweeps. Else it is PASSED where a ray of any sweep, or the ego's own body,
    went through it.

    Args:
        log: its sweeps are read one at a time.
        ground: to leave out the ground's own points.
        tracks: to leave out the points of cuboids.
        bounds: lower and upper corner of what any frame needs, city frame, metres.
        voxel: edges of a cell, metres.
        path: ``[k, 4, 4]`` city-from-ego poses along the log.

    Raises:
        InputError: a damaged sweep, a sweep without a pose, a log too large for its voxels.
    """
    low, size = np.asarray(bounds[0]), np.asarray(voxel)
    shape = tuple(int(n) for n in np.ceil((bounds[1] - low) / size) + 1)
    if np.prod(shape, dtype=np.float64) > MAX_WORLD_CELLS:
        raise InputError(log.folder, f"the drive needs {shape} cells of {voxel} m", "use larger voxels")
    world = WorldCells(low, size, np.zeros(shape, np.uint8))
    mount = log.lidar_mount()
    hit_keys, hit_points, sweeps = [], [], 0
    for sweep in log.sweeps():
        pose = log.city_from_ego(np.array([sweep.time]))[0]
        points = sweep.points @ pose[:3, :3].T + pose[:3, 3]
        origins = _ray_origins(log, sweep, pose, mount)
        _pass_rays(world, origins, points)
        keys, static = world.keys(points)
        static &= ~_in_ego(sweep.points) & _above(ground, points)
        static[static] = ~_in_cuboids(points[static], tracks, sweep.time)
        cells, counts = np.unique(keys[static], return_counts=True)
        hit_keys.append(cells)
        hit_points.append(counts)
        sweeps += 1
    for pose in path:
        _pass_body(world, pose)
    if hit_keys:
        cells, which = np.unique(np.concatenate(hit_keys), return_inverse=True)
        points_in = np.bincount(which, np.concatenate(hit_points))
        sweeps_in = np.bincount(which)
        solid = (points_in >= 2) & (sweeps_in >= hit_sweeps(sweeps))
        world.state.reshape(-1)[cells[solid]] = HIT
    return world


def hit_sweeps(sweeps: int) -> int:
    """From how many sweeps a cell must be hit: 1 of a few, 3 of many; drops spray and unannotated movers."""
    return 1 + min(2, sweeps // 5)


def _ray_origins(log: Log, sweep: Sweep, pose: NDArray[np.float64], mount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the LiDAR was when it measured each point, city frame ``[n, 3]``.

    Points are compensated to the time of the sweep, the sensor is not: it drove on meanwhile.
    """
    start = pose[:3, :3] @ mount + pose[:3, 3]
    last = float(sweep.offset.max(initial=0.0))
    if last <= 0:
        return np.broadcast_to(start, sweep.points.shape)
    try:
        later = log.city_from_ego(np.array([sweep.time + int(last * NANOSECONDS)]))[0]
    except InputError:  # the poses end with the last sweep: its motion is not known
        return np.broadcast_to(start, sweep.points.shape)
    end = later[:3, :3] @ mount + later[:3, 3]
    return start + (sweep.offset / last)[:, None] * (end - start)


def _pass_rays(world: WorldCells, origins: NDArray[np.float64], points: NDArray[np.float64]) -> None:
    """Mark the cells between sensor and points, up to one cell before each point."""
    step = float(world.size.min())
    span = points - origins
    reach = np.linalg.norm(span, axis=1)
    span /= np.maximum(reach, 1e-9)[:, None]
    extent = world.size * world.state.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.where(span > 0, world.origin + extent - origins, world.origin - origins) / span
    leave = np.where(span == 0, np.inf, walls).min(axis=1) - step / 2
    # Rays that end (or leave the world) in the same cell pass the same cells: one of them is enough.
    ends, inside = world.keys(origins + span * np.minimum(reach, leave)[:, None])
    chosen = np.flatnonzero(inside)[np.unique(ends[inside], return_index=True)[1]]
    origins, span = origins[chosen], span[chosen]
    length = np.minimum(reach - float(world.size.max()), leave)[chosen]
    order = np.argsort(-length, kind="stable")
    origins, span, length = origins[order], span[order], length[order]
    flat = world.state.reshape(-1)
    for k in range(1, int(max(length[0], 0.0) / step) + 1 if len(length) else 0):
        alive = int(np.searchsorted(-length, -k * step, "right"))
        keys, inside = world.keys(origins[:alive] + span[:alive] * (k * step))
        flat[keys[inside]] = PASSED


def _pass_body(world: WorldCells, pose: NDArray[np.float64]) -> None:
    """Mark the cells that the ego's body took up: it drove there, so nothing else was."""
    low, high = EGO_BODY[0] + (0, 0, 0.4), EGO_BODY[1]
    axes = [np.arange(a + s / 4, b, s / 2) for a, b, s in zip(low, high, world.size, strict=True)]
    body = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    keys, inside = world.keys(body @ pose[:3, :3].T + pose[:3, 3])
    world.state.reshape(-1)[keys[inside]] = PASSED


def _in_ego(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.logical_and(points >= EGO_BODY[0], points <= EGO_BODY[1]).all(axis=1))


def _above(ground: GroundMap, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points are no ground; where the ground is not known, all are surfaces of something."""
    height, _ = ground.sample(points[:, :2])
    return np.isnan(height) | (points[:, 2] - height > ABOVE_GROUND)


def _in_cuboids(points: NDArray[np.float64], tracks: Tracks, time: int) -> NDArray[np.bool_]:
    """Which points lie in a cuboid: of the annotated times before and after, or one that stands still."""
    inside = np.zeros(len(points), bool)
    order = np.argsort(points[:, 0], kind="stable")
    along = points[order, 0]
    for placed in (tracks.around(time), tracks.still):
        for row in range(len(placed)):
            reach = np.linalg.norm(placed.size[row] / 2 + CUBOID_MARGIN)
            x = placed.city_from_box[row, 0, 3]
            near = order[slice(*np.searchsorted(along, (x - reach, x + reach)))]
            inside[near] |= placed.holds(row, points[near], CUBOID_MARGIN)
    return inside
