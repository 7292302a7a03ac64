"""Rays through a voxel grid: what each ray hits first, and which voxels rays pass on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from exporters.compiled import compiled

# What a ray finds in a cell of the padded grid that it marches through, bit by bit.
_OCCUPIED, _BORDER, _SEEN = 1, 2, 4


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
    device: str | None = None,
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
        device: None: a compiled loop, ray by ray on one core; else what torch computes on, all rays together. The
            results are the same to the last bit.

    Raises:
        InputError: there is no such device.
    """
    # Writable or not is a type of its own to numba, which would compile for it once more.
    rays = np.require(directions, np.float64, ["C", "W"])
    starts = np.require(np.atleast_2d(origin), np.float64, ["C", "W"])
    lower, size = np.array(grid.origin, np.float64), np.array(grid.voxel_size, np.float64)
    if device is not None:
        from exporters.raycast_torch import march

        return RayHits(*march(occupied, lower, size, starts, rays, min_range, max_range, device))
    # A border around the grid, so that a step needs no look at the bounds.
    cells = np.full(tuple(n + 2 for n in grid.shape), _BORDER, np.uint8)
    inner = cells[1:-1, 1:-1, 1:-1]
    inner[...] = occupied
    ray, voxel = np.empty(len(rays), np.int64), np.empty(rays.shape, np.int64)
    distance, points, inward = np.empty(len(rays)), np.empty(rays.shape), np.empty(rays.shape)
    ends = (ray, voxel, distance, points, inward)
    hits = _march(cells, lower, size, starts, rays, min_range, max_range, ends)
    seen = (inner & _SEEN) > 0
    return RayHits(ray[:hits], voxel[:hits], distance[:hits], points[:hits], inward[:hits], seen)


@numba.njit(error_model="numpy")
def _inside(start: float, speed: float, size: int) -> tuple[float, float]:
    """Metres at which a ray enters and leaves the grid along one axis."""
    if speed == 0.0:
        return (-np.inf, np.inf) if 0 <= start < size else (np.inf, -np.inf)
    first, last = -start / speed, (size - start) / speed
    return (first, last) if first < last else (last, first)


@numba.njit(error_model="numpy")
def _at(place: float, size: int) -> int:
    """The voxel that holds a coordinate, the nearest one for what rounding has put outside."""
    return min(max(int(np.floor(place)), 0), size - 1)


@compiled
def _march(
    cells: NDArray[np.uint8],
    lower: NDArray[np.float64],
    size: NDArray[np.float64],
    starts: NDArray[np.float64],
    rays: NDArray[np.float64],
    min_range: float,
    max_range: float,
    ends: tuple[NDArray, NDArray, NDArray, NDArray, NDArray],
) -> int:
    """How many rays end in a voxel; where, in the arrays of ``ends``, which are those of ``RayHits``.

    Args:
        cells: ``[x + 2, y + 2, z + 2]`` what is occupied, and the border; what is seen is added to it.
        lower, size: ``[3]`` lower corner of the grid and edges of a voxel, metres.
        starts: ``[n, 3]`` or ``[1, 3]`` metres.
        rays: ``[n, 3]`` directions.
        min_range, max_range: metres.
    """
    ray_of, voxel_of, distance_of, points, inward = ends
    wide, deep = cells.shape[1] * cells.shape[2], cells.shape[2]
    nx, ny, nz = cells.shape[0] - 2, cells.shape[1] - 2, cells.shape[2] - 2
    cell, hits = cells.reshape(-1), 0
    for ray in range(len(rays)):
        start = starts[ray if len(starts) > 1 else 0]
        ux, uy, uz = rays[ray, 0], rays[ray, 1], rays[ray, 2]
        length = np.sqrt(ux * ux + uy * uy + uz * uz)
        ux, uy, uz = ux / length, uy / length, uz / length
        vx, vy, vz = ux / size[0], uy / size[1], uz / size[2]
        sx, sy, sz = (start[0] - lower[0]) / size[0], (start[1] - lower[1]) / size[1], (start[2] - lower[2]) / size[2]
        metres, axis = 0.0, -1
        if not (0 < sx < nx and 0 < sy < ny and 0 < sz < nz):  # most rays start inside
            in_x, out_x = _inside(sx, vx, nx)
            in_y, out_y = _inside(sy, vy, ny)
            in_z, out_z = _inside(sz, vz, nz)
            metres = max(in_x, in_y, in_z, 0.0)
            if not metres < min(out_x, out_y, out_z):
                continue
            axis = -1 if metres == 0.0 else 0 if metres == in_x else 1 if metres == in_y else 2
        x, y, z = _at(sx + vx * metres, nx), _at(sy + vy * metres, ny), _at(sz + vz * metres, nz)
        at = ((x + 1) * (ny + 2) + y + 1) * deep + z + 1
        step_x, step_y, step_z = 1.0 if vx > 0 else -1.0, 1.0 if vy > 0 else -1.0, 1.0 if vz > 0 else -1.0
        jump_x, jump_y, jump_z = wide if vx > 0 else -wide, deep if vy > 0 else -deep, 1 if vz > 0 else -1
        # Metres a voxel along each axis; what runs along a face never gets to one: it is infinitely far.
        per_x, per_y, per_z = 1 / vx if vx != 0 else 1.0, 1 / vy if vy != 0 else 1.0, 1 / vz if vz != 0 else 1.0
        from_x, from_y, from_z = sx if vx != 0 else -np.inf, sy if vy != 0 else -np.inf, sz if vz != 0 else -np.inf
        next_x, next_y, next_z = x + (vx > 0) + 0.0, y + (vy > 0) + 0.0, z + (vz > 0) + 0.0
        face_x, face_y, face_z = (next_x - from_x) * per_x, (next_y - from_y) * per_y, (next_z - from_z) * per_z
        while metres <= max_range:
            found = cell[at]
            if found & (_OCCUPIED | _BORDER):
                if found & _BORDER:
                    break
                cell[at] = found | _SEEN
                if metres >= min_range and axis >= 0:
                    ray_of[hits], distance_of[hits] = ray, metres
                    voxel_of[hits, 0] = at // wide - 1
                    voxel_of[hits, 1] = at // deep % (ny + 2) - 1
                    voxel_of[hits, 2] = at % deep - 1
                    points[hits, 0] = start[0] + ux * metres
                    points[hits, 1] = start[1] + uy * metres
                    points[hits, 2] = start[2] + uz * metres
                    inward[hits, 0] = step_x if axis == 0 else 0.0
                    inward[hits, 1] = step_y if axis == 1 else 0.0
                    inward[hits, 2] = step_z if axis == 2 else 0.0
                    hits += 1
                    break
            cell[at] = found | _SEEN
            if face_x <= face_y and face_x <= face_z:
                axis, metres, at, next_x = 0, face_x, at + jump_x, next_x + step_x
                face_x = (next_x - from_x) * per_x
            elif face_y <= face_z:
                axis, metres, at, next_y = 1, face_y, at + jump_y, next_y + step_y
                face_y = (next_y - from_y) * per_y
            else:
                axis, metres, at, next_z = 2, face_z, at + jump_z, next_z + step_z
                face_z = (next_z - from_z) * per_z
    return hits
