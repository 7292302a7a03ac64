"""Rays through a voxel grid: what each ray hits first, and which voxels rays pass on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec

# How often finished rays are dropped from the arrays: each drop copies what is left.
_STEPS_BETWEEN_DROPS = 8
_FREE, _OCCUPIED, _OUTSIDE = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class RayHits:
    """Where rays end. One row a ray that hit something, in the order of the rays.

    Attributes:
        ray: int64 ``[n]`` number of the ray.
        voxel: int64 ``[n, 3]`` the occupied voxel that was hit.
        distance: float64 ``[n]`` metres from the origin to where the ray enters the voxel.
        points: float64 ``[n, 3]`` that place, metres, in the frame of the grid.
        inward: float64 ``[n, 3]`` unit normal of the entered face, pointing into the voxel.
        seen: bool ``[x, y, z]`` voxels that some ray passed or hit.
    """

    ray: NDArray[np.int64]
    voxel: NDArray[np.int64]
    distance: NDArray[np.float64]
    points: NDArray[np.float64]
    inward: NDArray[np.float64]
    seen: NDArray[np.bool_]


def cast_rays(
    occupied: NDArray[np.bool_],
    grid: GridSpec,
    origin: NDArray[np.floating],
    directions: NDArray[np.floating],
    min_range: float = 0.0,
    max_range: float = np.inf,
) -> RayHits:
    """Follow rays voxel by voxel until each enters an occupied voxel, leaves the grid or gets too far.

    All rays advance together, one voxel a step (Amanatides and Woo, "A fast voxel traversal algorithm
    for ray tracing", 1987). The voxel that holds the origin never stops a ray, nor does a voxel that is
    entered nearer than ``min_range``.

    Args:
        occupied: bool ``[x, y, z]``.
        grid: places the voxels.
        origin: ``[3]`` common start of the rays, metres, in the frame of the grid; may lie outside it.
        directions: ``[n, 3]``, any length above 0.
        min_range, max_range: metres along the ray.
    """
    size = np.asarray(grid.voxel_size)
    unit = np.asarray(directions, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    start = (np.asarray(origin, np.float64) - grid.origin) / size
    speed = unit / size  # voxels a metre
    entry, entry_axis = _clip_to_grid(start, speed, grid.shape, max_range)
    alive = np.flatnonzero(np.isfinite(entry))

    # A border of one voxel marks the outside, so one look-up tells free, occupied and left apart.
    cells = np.full(tuple(n + 2 for n in grid.shape), _OUTSIDE, np.uint8)
    cells[1:-1, 1:-1, 1:-1] = occupied
    state = cells.reshape(-1)
    strides = np.array([cells.shape[1] * cells.shape[2], cells.shape[2], 1])

    first = np.floor(start + speed[alive] * entry[alive, None])
    first = np.clip(first, 0, np.subtract(grid.shape, 1)).astype(np.int64)
    flat = (first + 1) @ strides
    with np.errstate(divide="ignore", invalid="ignore"):
        # Distance at which each axis crosses its next voxel face, and from face to face.
        reach = (first + (speed[alive] > 0) - start) / speed[alive]
        gap = 1.0 / np.abs(speed[alive])
    reach[speed[alive] == 0] = np.inf
    step = np.sign(speed[alive]).astype(np.int64) * strides
    (next_x, next_y, next_z), (gap_x, gap_y, gap_z) = (np.ascontiguousarray(a.T) for a in (reach, gap))
    step_x, step_y, step_z = np.ascontiguousarray(step.T)

    hit_cell = np.full(len(unit), -1, np.int64)
    hit_distance = np.zeros(len(unit))
    hit_axis = np.zeros(len(unit), np.int8)
    visited = np.zeros(len(state), np.bool_)
    visited[flat] = True

    # A ray that comes from outside can end in the first voxel; one that starts inside cannot.
    ended = (state[flat] == _OCCUPIED) & (entry[alive] > 0) & (entry[alive] >= min_range)
    rays = alive[ended]
    hit_cell[rays], hit_distance[rays], hit_axis[rays] = flat[ended], entry[rays], entry_axis[rays]

    count = 0
    while len(alive):
        if count % _STEPS_BETWEEN_DROPS == 0:
            going = ~ended
            alive, flat, ended = alive[going], flat[going], ended[going]
            next_x, next_y, next_z = next_x[going], next_y[going], next_z[going]
            gap_x, gap_y, gap_z = gap_x[going], gap_y[going], gap_z[going]
            step_x, step_y, step_z = step_x[going], step_y[going], step_z[going]
        count += 1
        along_x = (next_x <= next_y) & (next_x <= next_z)
        along_y = ~along_x & (next_y <= next_z)
        along_z = ~(along_x | along_y)
        distance = np.where(along_x, next_x, np.where(along_y, next_y, next_z))
        move = np.where(along_x, step_x, np.where(along_y, step_y, step_z))
        ended |= distance > max_range
        move[ended] = 0
        flat += move
        np.add(next_x, gap_x, out=next_x, where=along_x)
        np.add(next_y, gap_y, out=next_y, where=along_y)
        np.add(next_z, gap_z, out=next_z, where=along_z)
        visited[flat] = True
        found = state[flat]
        hits = np.flatnonzero((found == _OCCUPIED) & ~ended & (distance >= min_range))
        rays = alive[hits]
        hit_cell[rays], hit_distance[rays] = flat[hits], distance[hits]
        hit_axis[rays] = np.where(along_x[hits], 0, np.where(along_y[hits], 1, 2))
        ended |= found == _OUTSIDE
        ended[hits] = True

    ray = np.flatnonzero(hit_cell >= 0)
    voxel = np.stack(np.unravel_index(hit_cell[ray], cells.shape), axis=1) - 1
    axis = hit_axis[ray].astype(np.int64)
    inward = np.zeros((len(ray), 3))
    inward[np.arange(len(ray)), axis] = np.sign(unit[ray, axis])
    return RayHits(
        ray=ray,
        voxel=voxel.astype(np.int64),
        distance=hit_distance[ray],
        points=np.asarray(origin, np.float64) + unit[ray] * hit_distance[ray, None],
        inward=inward,
        seen=visited.reshape(cells.shape)[1:-1, 1:-1, 1:-1],
    )


def _clip_to_grid(
    start: NDArray[np.float64], speed: NDArray[np.float64], shape: tuple[int, int, int], max_range: float
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Distance ``[n]`` at which each ray is first inside the grid (infinite: never) and the axis it enters by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = -start / speed, (np.asarray(shape) - start) / speed
    near, far = np.minimum(low, high), np.maximum(low, high)
    parallel = speed == 0
    inside = np.broadcast_to((start >= 0) & (start < shape), speed.shape)
    near[parallel] = np.where(inside[parallel], -np.inf, np.inf)
    far[parallel] = np.where(inside[parallel], np.inf, -np.inf)
    entry = np.maximum(near.max(axis=1), 0.0)
    reached = (entry < far.min(axis=1)) & (entry <= max_range)
    return np.where(reached, entry, np.inf), near.argmax(axis=1).astype(np.int8)
