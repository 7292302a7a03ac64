"""A log as frames of voxels: one world, sampled at the voxel centres of every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import Conditions, command_from_trajectory, trajectory_from_poses
from dyncity.datasets.argoverse2.ground_map import CROSSWALK, MARKING, ROAD, GroundMap, read_ground_map
from dyncity.datasets.argoverse2.log import Log
from dyncity.datasets.argoverse2.sweeps import HIT, PASSED, WorldCells, accumulate
from dyncity.datasets.argoverse2.tracks import Placed, Tracks, read_tracks
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, Boxes, OccupancyScene
from dyncity.taxonomy import NATIVE

FREE, UNCLASSIFIED = NATIVE.free, NATIVE.id("unclassified")
AXLE_HEIGHT = 0.33  # metres of the ego frame's origin above the road, where the map does not say
CLEAR_HEIGHT = 4.0  # metres above the road that are taken as free where no LiDAR says
GROUND_REACH = 0.55  # voxel heights; more than half: in a tilted window centres lie further apart
COVERED = 0.5  # share of the annotated times with a sweep from which on free space is the rays' business
LICENCE = "CC BY-NC-SA 4.0 (Argoverse 2)"


@dataclass(frozen=True, slots=True)
class RecordedWorld:
    """All that is known of one log, ready to be cut into scenes.

    Attributes:
        log, ground, tracks: what was read. grid: the grid of every frame.
        times: int64 ``[t]`` ns of all frames.
        city_from_grid: float64 ``[t, 4, 4]``, the ego poses lowered onto the road.
        cells: what the sweeps say, or None without sweeps.
        assume_clear: whether the space above the road is taken as free.
    """

    log: Log
    ground: GroundMap
    tracks: Tracks
    grid: GridSpec
    times: NDArray[np.int64]
    city_from_grid: NDArray[np.float64]
    cells: WorldCells | None
    assume_clear: bool


def read_world(log: Log, grid: GridSpec) -> RecordedWorld:
    """Read a log for a grid.

    Raises:
        dyncity.errors.InputError: anything wrong with the log, or a frame rate that it cannot give.
    """
    times, city_from_ego, ground, tracks = check_log(log, grid)
    lowered = np.eye(4)
    lowered[2, 3] = -axle_height(ground, city_from_ego)
    city_from_grid = city_from_ego @ lowered
    cells = None
    if log.sweep_files:
        corners = np.array(np.meshgrid(*zip(grid.origin, grid.upper, strict=True), indexing="ij")).reshape(3, -1)
        reached = city_from_grid[:, :3, :3] @ corners + city_from_grid[:, :3, 3:]
        bounds = (reached.min(axis=(0, 2)), reached.max(axis=(0, 2)))
        cells = accumulate(log, ground, tracks, bounds, grid.voxel_size, log.city_from_ego(log.times))
    swept = sum(log.times[0] <= t <= log.times[-1] for t in log.sweep_files)
    return RecordedWorld(
        log, ground, tracks, grid, times, city_from_grid, cells, assume_clear=swept < COVERED * len(log.times)
    )


def check_log(log: Log, grid: GridSpec) -> tuple[NDArray[np.int64], NDArray[np.float64], GroundMap, Tracks]:
    """Read all of a log but its sweeps: frame times ``[t]``, city-from-ego ``[t, 4, 4]``, ground, tracks.

    Raises:
        dyncity.errors.InputError: anything wrong with them.
    """
    times = log.frame_times(grid.frame_rate)
    city_from_ego = log.city_from_ego(times)
    log.check_travel(times, city_from_ego)
    return times, city_from_ego, read_ground_map(log.folder, grid.voxel_size), read_tracks(log)


def axle_height(ground: GroundMap, city_from_ego: NDArray[np.float64]) -> float:
    """Height of the ego frame's origin above the road, metres: the median over the drive ``[t, 4, 4]``."""
    height, _ = ground.sample(city_from_ego[:, :2, 3])
    above = city_from_ego[:, 2, 3] - height
    above = above[np.abs(above - AXLE_HEIGHT) < 1.0]  # a bridge has another road under it
    return float(np.median(above)) if len(above) else AXLE_HEIGHT


def scene(world: RecordedWorld, scene_id: str, first: int = 0, frames: int | None = None) -> OccupancyScene:
    """Frames ``first`` to ``first + frames`` of a log as a scene of the native taxonomy.

    Poses are relative to the first of them; ``instances`` and ``boxes`` carry the track numbers of the
    whole log.
    """
    span = slice(first, None if frames is None else first + frames)
    times, city_from_grid = world.times[span], world.city_from_grid[span]
    scene_from_city = np.linalg.inv(city_from_grid[0])
    poses = scene_from_city @ city_from_grid
    poses[0] = np.eye(4)
    shape = (len(times), *world.grid.shape)
    semantics, instances = np.empty(shape, np.uint8), np.zeros(shape, np.uint16)
    seen: list[tuple[int, Placed]] = []
    for index, (time, pose) in enumerate(zip(times, city_from_grid, strict=True)):
        seen.append((index, _frame(world, int(time), pose, semantics[index], instances[index])))
    trajectory = trajectory_from_poses(poses)
    free = "drivable" if world.cells is None else "rays+drivable" if world.assume_clear else "rays"
    return OccupancyScene(
        scene_id=scene_id,
        semantics=semantics,
        poses=poses,
        grid=world.grid,
        taxonomy=NATIVE.name,
        timestamps_us=times // 1000,
        conditions=Conditions(command_from_trajectory(trajectory), trajectory),
        instances=instances,
        boxes=_boxes(seen, scene_from_city),
        provenance={
            "generator": "argoverse2",
            "log": world.log.log_id,
            "city": world.ground.city,
            "first_frame": first,
            "sweeps": len(world.log.sweep_files),
            "free_space": free,
            "licence": LICENCE,
        },
    )


def _frame(
    world: RecordedWorld,
    time: int,
    pose: NDArray[np.float64],
    semantics: NDArray[np.uint8],
    instances: NDArray[np.uint16],
) -> Placed:
    """Fill one frame ``[x, y, z]`` in place; the cuboids that got a voxel."""
    grid = world.grid
    flat_points = grid.centers().reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]
    points = flat_points.reshape(*grid.shape, 3)
    height, surface = (a.reshape(grid.shape) for a in world.ground.sample(flat_points[:, :2]))
    above = points[..., 2] - height  # NaN where the ground is not known: compares as False below
    is_ground = _ground_voxels(above, grid.voxel_size[2])
    current = world.tracks.at(time)
    semantics[:] = UNKNOWN
    if world.assume_clear:
        semantics[np.isin(surface, (ROAD, MARKING, CROSSWALK)) & (above > 0) & (above <= CLEAR_HEIGHT)] = FREE
        # What stands still and has no cuboid at this time (hidden, out of range) is likely still there.
        hidden = world.tracks.still.take(~np.isin(world.tracks.still.track, current.track))
        for row in range(len(hidden)):
            block = _block(hidden, row, pose, grid)
            if block is not None:
                semantics[block][hidden.holds(row, points[block])] = UNKNOWN
    if world.cells is not None:
        state = world.cells.lookup(flat_points).reshape(grid.shape)
        semantics[state == PASSED] = FREE
        semantics[state == HIT] = UNCLASSIFIED
    semantics[above <= 0] = UNKNOWN
    semantics[is_ground] = surface[is_ground]

    fixed = world.tracks.still.take(np.isin(world.tracks.still.track, world.tracks.fixed))
    moving = current.take(~np.isin(current.track, world.tracks.fixed))
    return _join([_paint(p, grid, pose, points, is_ground, semantics, instances) for p in (fixed, moving)])


def _ground_voxels(above: NDArray[np.float64], thickness: float) -> NDArray[np.bool_]:
    """The voxels ``[x, y, z]`` that the ground runs through: in each column the one nearest to it.

    One a column, so that a tilted window has no holes where two centres lie just out of reach.
    """
    distance = np.where(np.isnan(above), np.inf, np.abs(above))
    nearest = distance.argmin(axis=2)[..., None]
    is_ground = np.zeros(above.shape, bool)
    within = np.take_along_axis(distance, nearest, axis=2) <= thickness * GROUND_REACH
    np.put_along_axis(is_ground, nearest, within, axis=2)
    return is_ground


def _paint(
    placed: Placed,
    grid: GridSpec,
    pose: NDArray[np.float64],
    points: NDArray[np.float64],
    is_ground: NDArray[np.bool_],
    semantics: NDArray[np.uint8],
    instances: NDArray[np.uint16],
) -> Placed:
    """Draw cuboids into a frame ``[x, y, z]``, large ones first; those that lie in the window.

    A cuboid takes the voxels whose centres it holds, but not the ground's: it stands on the road. One
    that holds no such centre (thin, low) takes the voxel that its own centre lies in.
    """
    shown = []
    volume = placed.size.prod(axis=1)
    for row in np.lexsort((placed.track, -volume)):
        block = _block(placed, row, pose, grid)
        if block is None:
            continue
        inside = placed.holds(row, points[block]) & ~is_ground[block]
        if not inside.any():
            index, within = grid.index(_in_grid(placed, row, pose))
            if not within:
                continue
            block, inside = tuple(slice(i, i + 1) for i in index), np.ones((1, 1, 1), bool)
        semantics[block][inside] = placed.label[row]
        instances[block][inside] = placed.track[row]
        shown.append(row)
    return placed.take(np.array(sorted(shown), np.intp))


def _in_grid(placed: Placed, row: int, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """The centre of a cuboid in the grid's frame, ``[3]``."""
    return pose[:3, :3].T @ (placed.city_from_box[row, :3, 3] - pose[:3, 3])


def _block(placed: Placed, row: int, pose: NDArray[np.float64], grid: GridSpec) -> tuple[slice, ...] | None:
    """The voxels of the window at ``pose`` that a cuboid can touch, or None."""
    center, reach = _in_grid(placed, row, pose), np.linalg.norm(placed.size[row]) / 2
    low = np.floor((center - reach - grid.origin) / grid.voxel_size).astype(np.int64)
    high = np.floor((center + reach - grid.origin) / grid.voxel_size).astype(np.int64) + 1
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    return tuple(map(slice, low, high)) if (low < high).all() else None


def _join(parts: list[Placed]) -> Placed:
    fields = ("track", "label", "city_from_box", "size")
    return Placed(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


def _boxes(seen: list[tuple[int, Placed]], scene_from_city: NDArray[np.float64]) -> Boxes:
    """The cuboids of all frames as boxes in the world frame of the scene."""
    placed = _join([p for _, p in seen])
    pose = scene_from_city @ placed.city_from_box
    return Boxes(
        frame=np.repeat([i for i, _ in seen], [len(p) for _, p in seen]).astype(np.int32),
        track=placed.track,
        label=placed.label,
        center=pose[:, :3, 3].astype(np.float32),
        size=placed.size.astype(np.float32),
        yaw=np.arctan2(pose[:, 1, 0], pose[:, 0, 0]).astype(np.float32),
    )
