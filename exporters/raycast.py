"""Rays through a voxel grid: what each ray hits first, and which voxels rays pass on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec

_NOTHING = -1


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

    Every voxel that a ray crosses is looked at (Amanatides & Woo 1987): through an edge or a corner it goes by way of
    a voxel in between. The distance of each face is computed afresh from the start, not added up, so no ray drifts. The
    voxel that holds the origin never stops a ray, nor does a voxel that is entered nearer than ``min_range``.

    Args:
        occupied: bool ``[x, y, z]``.
        grid: places the voxels.
        origin: start of the rays, ``[3]`` for all of them or ``[n, 3]``, metres, in the frame of the
            grid; may lie outside it.
        directions: ``[n, 3]``, any length above 0.
        min_range, max_range: metres along the ray.
    """
    unit = np.asarray(directions, np.float64)
    unit = unit / np.sqrt((unit * unit).sum(axis=1, keepdims=True))
    origins = np.broadcast_to(np.asarray(origin, np.float64), unit.shape)
    start, speed = (origins - grid.origin) / grid.voxel_size, unit / grid.voxel_size
    seen = np.zeros(grid.shape, np.bool_)
    ended = _march(np.ascontiguousarray(occupied), start, speed, min_range, max_range, seen)
    ray = np.flatnonzero(ended[0] >= 0)
    flat, axis, distance = (part[ray] for part in ended)
    inward = np.zeros((len(ray), 3))
    inward[np.arange(len(ray)), axis] = np.sign(unit[ray, axis])
    points = origins[ray] + unit[ray] * distance[:, None]
    return RayHits(ray, np.stack(np.unravel_index(flat, grid.shape), axis=1), distance, points, inward, seen)


@numba.njit(error_model="numpy", inline="always")
def _inside(start: float, speed: float, size: int) -> tuple[float, float]:
    """Metres at which a ray enters and leaves the grid along one axis."""
    if speed == 0.0:
        return (-np.inf, np.inf) if 0 <= start < size else (np.inf, -np.inf)
    first, last = -start / speed, (size - start) / speed
    return (first, last) if first < last else (last, first)


@numba.njit(error_model="numpy", inline="always")
def _at(place: float, size: int) -> int:
    """The voxel that holds a coordinate, the nearest one for what rounding has put outside."""
    return min(max(int(np.floor(place)), 0), size - 1)


@numba.njit(error_model="numpy", inline="always")
def _face(voxel: int, start: float, speed: float) -> float:
    """Metres at which a ray leaves a voxel along one axis."""
    return (voxel + (speed > 0.0) - start) / speed if speed != 0.0 else np.inf


@numba.njit(error_model="numpy", cache=True, nogil=True)
def _march(
    occupied: NDArray[np.bool_],
    start: NDArray[np.float64],
    speed: NDArray[np.float64],
    min_range: float,
    max_range: float,
    seen: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float64]]:
    """Of each ray the flat voxel that it ends in (-1: none), the axis whose face it enters that by, metres to there.

    Args:
        occupied: ``[x, y, z]``.
        start, speed: ``[n, 3]`` in voxels, and voxels a metre.
        min_range, max_range: metres.
        seen: ``[x, y, z]``, written to.
    """
    nx, ny, nz = occupied.shape
    solid, passed = occupied.reshape(-1), seen.reshape(-1)
    hit = np.full(len(start), _NOTHING, np.int64)
    entered, distance = np.zeros(len(start), np.int8), np.zeros(len(start))
    for ray in range(len(start)):
        sx, sy, sz = start[ray, 0], start[ray, 1], start[ray, 2]
        vx, vy, vz = speed[ray, 0], speed[ray, 1], speed[ray, 2]
        in_x, out_x = _inside(sx, vx, nx)
        in_y, out_y = _inside(sy, vy, ny)
        in_z, out_z = _inside(sz, vz, nz)
        metres = max(in_x, in_y, in_z, 0.0)
        if not metres < min(out_x, out_y, out_z) or metres > max_range:
            continue
        axis = -1 if metres == 0.0 else 0 if metres == in_x else 1 if metres == in_y else 2
        x, y, z = _at(sx + vx * metres, nx), _at(sy + vy * metres, ny), _at(sz + vz * metres, nz)
        step_x, step_y, step_z = 1 if vx > 0 else -1, 1 if vy > 0 else -1, 1 if vz > 0 else -1
        face_x, face_y, face_z = _face(x, sx, vx), _face(y, sy, vy), _face(z, sz, vz)
        while True:
            flat = (x * ny + y) * nz + z
            passed[flat] = True
            if solid[flat] and metres >= min_range and axis >= 0:
                hit[ray], entered[ray], distance[ray] = flat, axis, metres
                break
            if face_x <= face_y and face_x <= face_z:
                axis, metres, x = 0, face_x, x + step_x
                if not 0 <= x < nx:
                    break
                face_x = _face(x, sx, vx)
            elif face_y <= face_z:
                axis, metres, y = 1, face_y, y + step_y
                if not 0 <= y < ny:
                    break
                face_y = _face(y, sy, vy)
            else:
                axis, metres, z = 2, face_z, z + step_z
                if not 0 <= z < nz:
                    break
                face_z = _face(z, sz, vz)
            if metres > max_range:
                break
    return hit, entered, distance
