"""Rays through a voxel grid: what each ray hits first, and which voxels rays pass on the way."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec

# Rays that advance together: their arrays stay in a core's cache.
_TOGETHER = 32768
# Bits of a cell's state. Visited is kept there too, so that one look-up says all there is to know.
_OCCUPIED, _OUTSIDE, _VISITED = 1, 2, 4
# Ended rays wait in a corner cell of the border, which no ray reaches, until they are dropped.
_PARKED = 0
# Steps of 2^-40 voxels: coordinates below 2^12 add up without any rounding.
_FINEST = 2.0**40


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

    Every voxel that a ray crosses is looked at: through an edge or a corner it goes by way of a voxel in
    between. Rays advance together, one layer of voxels across their steepest axis a step: within a layer
    a ray crosses at most one face of each other axis, so at most three voxels. The coordinates at which
    it crosses the layers are rounded once, to 2^-40 voxels, and add up without rounding from there: no
    ray drifts, however far it goes. The voxel that holds the origin never stops a ray, nor does a voxel
    that is entered nearer than ``min_range``.

    Args:
        occupied: bool ``[x, y, z]``.
        grid: places the voxels.
        origin: start of the rays, ``[3]`` for all of them or ``[n, 3]``, metres, in the frame of the
            grid; may lie outside it.
        directions: ``[n, 3]``, any length above 0.
        min_range, max_range: metres along the ray.
    """
    unit = np.asarray(directions, np.float64).T
    unit = unit / np.sqrt((unit * unit).sum(axis=0))
    size, lower = np.asarray(grid.voxel_size)[:, None], np.asarray(grid.origin)[:, None]
    origins = np.atleast_2d(np.asarray(origin, np.float64)).T
    start, speed = np.broadcast_to((origins - lower) / size, unit.shape), unit / size

    # A border of one voxel marks the outside, so no ray has to be compared with the grid's bounds.
    cells = np.full(tuple(n + 2 for n in grid.shape), _OUTSIDE, np.uint8)
    cells[1:-1, 1:-1, 1:-1] = occupied
    cells.reshape(-1)[_PARKED] = _VISITED
    cell = np.full(unit.shape[1], -1, np.int64)
    parts = -(-len(cell) // _TOGETHER)
    for first, end in pairwise(np.linspace(0, len(cell), parts + 1).astype(int)):
        part = slice(first, end)
        _march(_Rays(cells, start[:, part], speed[:, part], min_range, max_range, cell[part]))

    ray = np.flatnonzero(cell >= 0)
    voxel, times = _entered(cells, start[:, ray], speed[:, ray], cell[ray])
    axis, each = times.argmax(axis=0), np.arange(len(ray))
    distance = np.maximum(times[axis, each], 0.0)
    inward = np.zeros((len(ray), 3))
    inward[each, axis] = np.sign(unit[axis, ray])
    return RayHits(
        ray=ray,
        voxel=voxel.T.copy(),
        distance=distance,
        points=(np.broadcast_to(origins, unit.shape)[:, ray] + unit[:, ray] * distance).T.copy(),
        inward=inward,
        seen=(cells[1:-1, 1:-1, 1:-1] & _VISITED) > 0,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Rays:
    """Some rays and what they go through.

    Attributes:
        cells: uint8 ``[x + 2, y + 2, z + 2]`` state of the grid and its border.
        start, speed: float64 ``[3, n]`` in voxels, and voxels a metre.
        min_range, max_range: metres.
        hit: int64 ``[n]`` the flat cell that each ray ended in, -1 for none.
    """

    cells: NDArray[np.uint8]
    start: NDArray[np.float64]
    speed: NDArray[np.float64]
    min_range: float
    max_range: float
    hit: NDArray[np.int64]


def _march(rays: _Rays) -> None:
    """Follow rays to their ends: marks the cells they visit, writes down those they hit."""
    shape = np.subtract(rays.cells.shape, 2)[:, None]
    strides = (rays.cells.shape[1] * rays.cells.shape[2], rays.cells.shape[2], 1)
    start, speed = rays.start, rays.speed
    entry = _entry(start, speed, shape)
    ray = np.flatnonzero((entry < np.inf) & (entry <= rays.max_range))
    if not len(ray):
        return
    if len(ray) < len(entry):
        start, speed, entry = start[:, ray], speed[:, ray], entry[ray]
    start = np.rint(np.clip(start + speed * entry, 0, shape) * _FINEST) / _FINEST
    cell = np.clip(np.floor(start), 0, shape - 1)

    # Of each ray its steepest axis and the two others: k counts layers, u and v cross them.
    along = np.abs(speed)
    steep_x = (along[0] >= along[1]) & (along[0] >= along[2])
    steep_z = ~steep_x & (along[2] > along[1])

    def axes(values: Any) -> tuple[Any, Any, Any]:
        x, y, z = values
        return np.where(steep_x, x, np.where(steep_z, z, y)), np.where(steep_x, y, x), np.where(steep_z, y, z)

    (k0, u0, v0), (k, u, v), (speed_k, du, dv) = axes(start), axes(cell), axes(speed)
    step, step_u, step_v = axes([float(s) for s in strides])
    # In the first layers a ray may be too near, after so many too far; in between nobody has to measure.
    length = 1 / np.abs(speed_k)
    nearest = rays.min_range / length.min() + 1 if rays.min_range > 0 else 0
    furthest = (rays.max_range - entry.max()) / length.max() - 1
    du, dv = (np.rint(d / np.abs(speed_k) * _FINEST) / _FINEST for d in (du, dv))
    ahead = np.where(speed_k > 0, k + 1 - k0, k0 - k)  # layers to the next face, 0 to 1
    u1, v1 = (np.rint((c + d * ahead) * _FINEST) / _FINEST for c, d in ((u0, du), (v0, dv)))
    base = k * step + sum(strides)
    lines = np.stack([u1, v1, du, dv, base, np.sign(speed_k) * step, step_u, step_v, u, v])

    # A ray that comes from outside can end in the first voxel; one that starts inside cannot.
    origin = (base + u * step_u + v * step_v).astype(np.int64)
    rays.cells.reshape(-1)[origin] |= _VISITED
    outside = np.flatnonzero(entry > 0)
    ended = outside[_look(rays, ray[outside], origin[outside], True)]
    lines[:, ended] = 0
    parked, layer = len(ended), 0
    while True:
        if 3 * parked > len(ray):  # each drop copies what is left, so not at every step
            keep = np.flatnonzero(lines[4])
            ray, origin, lines = ray.take(keep), origin.take(keep), lines.take(keep, axis=1)
            parked = 0
            if not len(ray):
                return
        u1, v1, du, dv, base, step, step_u, step_v, u, v = lines
        ranged = layer < nearest or layer > furthest
        # Across the layer, to where the ray leaves it.
        next_u, next_v = np.floor(u1), np.floor(v1)
        both = np.flatnonzero((next_u != u) & (next_v != v))
        between = _between(lines.take(both, axis=1), next_u.take(both), next_v.take(both))
        ended = both[_look(rays, ray.take(both), between, ranged)]
        u[:], v[:] = next_u, next_v
        place = u * step_u
        place += v * step_v
        place += base
        flat = place.astype(np.int64)
        flat[ended] = _PARKED
        if layer == 0:
            flat[flat == origin] = _PARKED
        ended = np.concatenate([ended, _look(rays, ray, flat, ranged)])
        # Into the next layer.
        place += step
        flat = place.astype(np.int64)
        flat[ended] = _PARKED
        ended = np.concatenate([ended, _look(rays, ray, flat, ranged)])
        base += step
        u1 += du
        v1 += dv
        lines[:, ended] = 0
        parked, layer = parked + len(ended), layer + 1


def _between(lines: NDArray[np.float64], next_u: NDArray[np.float64], next_v: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of rays that cross two faces within a layer: the flat cell behind the face that comes first."""
    u1, v1, du, dv, base, _, step_u, step_v, u, v = lines
    first_u = (np.maximum(u, next_u) - u1) / du <= (np.maximum(v, next_v) - v1) / dv
    u, v = np.where(first_u, next_u, u), np.where(first_u, v, next_v)
    return (base + u * step_u + v * step_v).astype(np.int64)


def _look(rays: _Rays, ray: NDArray[np.int64], flat: NDArray[np.int64], ranged: bool) -> NDArray[np.int64]:
    """Rays enter cells: mark these, write down hits; which of the rays end there (positions in ``ray``).

    Args:
        ray: numbers of the rays, ``[n]``.
        flat: the cell that each enters, ``[n]``.
        ranged: whether some may be nearer than ``min_range`` or further than ``max_range``.
    """
    state = rays.cells.reshape(-1)
    found = state.take(flat)
    news = np.flatnonzero(found != _VISITED)  # cells that no ray has passed, and cells that may stop one
    if not len(news):
        return news
    flat, found = flat.take(news), found.take(news)
    if ranged:
        # Whether a free cell is too far matters as well, since it would count as seen.
        asks = np.flatnonzero(((found & _OCCUPIED) > 0) | (rays.max_range < np.inf))
        who, cell = ray.take(news.take(asks)), flat.take(asks)
        distance = _entered(rays.cells, rays.start[:, who], rays.speed[:, who], cell)[1].max(axis=0)
        far, near = asks[distance > rays.max_range], asks[distance < rays.min_range]
        flat[far], found[far] = _PARKED, _OUTSIDE
        state[flat] |= _VISITED
        found[near] &= _OUTSIDE
    else:
        state[flat] = found | _VISITED
    stops = np.flatnonzero((found & (_OCCUPIED | _OUTSIDE)) > 0)
    ends = news.take(stops)
    hits = np.flatnonzero((found.take(stops) & _OCCUPIED) > 0)
    rays.hit[ray.take(ends.take(hits))] = flat.take(stops.take(hits))
    return ends


def _entered(
    cells: NDArray[np.uint8], start: NDArray[np.float64], speed: NDArray[np.float64], flat: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Voxels ``[3, n]`` of flat cells, and metres ``[3, n]`` at which rays pass the near face of each axis."""
    voxel = np.stack(np.unravel_index(flat, cells.shape)) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        times = (voxel + (speed < 0) - start) / speed
    return voxel, np.where(speed == 0, -np.inf, times)


def _entry(start: NDArray[np.float64], speed: NDArray[np.float64], shape: NDArray[np.int64]) -> NDArray[np.float64]:
    """Metres ``[n]`` at which each ray is first inside the grid; infinite: never."""
    if ((start >= 0) & (start < shape)).all():
        return np.zeros(start.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = -start / speed, (shape - start) / speed
    near, far = np.minimum(low, high), np.maximum(low, high)
    parallel, inside = speed == 0, (start >= 0) & (start < shape)
    near[parallel] = np.where(inside[parallel], -np.inf, np.inf)
    far[parallel] = np.where(inside[parallel], np.inf, -np.inf)
    entry = np.maximum(near.max(axis=0), 0.0)
    return np.where(entry < far.min(axis=0), entry, np.inf)
