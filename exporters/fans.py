"""Rays of one vertical plane through a voxel grid: their way over the ground is found once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from exporters.column_words import from_words, to_words
from exporters.compiled import compiled
from exporters.raycast import RayHits, cast_rays

# A column of voxels is a word of 64 bits, with a bit below and one above them for the way out.
_HIGHEST = 62
# Two faces nearer to each other than this, metres, are a matter of how a ray's own numbers are rounded.
_SAME = 1e-9
_NOTHING, _LEFT = -1, -2  # in place of the axis of a hit


@dataclass(frozen=True, slots=True, eq=False)
class Fans:
    """Which rays start at one place and lie in one vertical plane, as the beams that a LiDAR fires at once.

    Attributes:
        order: int64 ``[n]`` all rays, fan by fan.
        begins: int64 ``[m + 1]`` where in ``order`` each fan begins, and the end of the last.
        image: int64 ``[m]`` which image each is a column of.
    """

    order: NDArray[np.int64]
    begins: NDArray[np.int64]
    image: NDArray[np.int64]

    def per_ray(self, starts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Starts of rays, ``[1, 3]`` or ``[n, 3]``; from those of images ``[k, 3]`` those of all rays."""
        if len(starts) in (1, len(self.order)):
            return starts
        image = np.empty(len(self.order), np.int64)
        image[self.order] = np.repeat(self.image, np.diff(self.begins))
        return starts[image]


@lru_cache(maxsize=16)
def columns(*shapes: tuple[int, int]) -> Fans:
    """Rays that follow each other as images do, each ``(rows, columns)``, row by row: a column is a fan."""
    order, sizes, before = [], [0], 0
    for rows, wide in shapes:
        order.append(before + np.arange(rows * wide).reshape(rows, wide).T.reshape(-1))
        sizes += [rows] * wide
        before += rows * wide
    image = np.repeat(np.arange(len(shapes)), [wide for _, wide in shapes])
    return Fans(np.concatenate(order), np.cumsum(sizes), image)


def cast_fans(
    occupied: NDArray[np.bool_],
    grid: GridSpec,
    origin: NDArray[np.floating],
    directions: NDArray[np.floating],
    fans: Fans,
    min_range: float = 0.0,
    max_range: float = np.inf,
) -> RayHits:
    """``cast_rays`` on one core in about half of its time, the same to the last bit.

    Rays that pass an edge between voxels so closely that rounding decides which side they take are cast one by one; so
    are fans with a ray straight up or down, and all rays where fans do not do: from outside the grid, in more than 62
    layers.

    Args:
        occupied, grid, origin, directions, min_range, max_range: of ``cast_rays``.
        fans: which rays lie in one vertical plane.
    """
    found = _marched(occupied, grid, origin, directions, fans, min_range, max_range)
    if found is None:
        return cast_rays(occupied, grid, origin, directions, min_range, max_range)
    seen, ends, axes, place = found
    ray = np.flatnonzero(axes >= 0)
    distance, points, inward = np.empty(len(ray)), np.empty((len(ray), 3)), np.zeros((len(ray), 3))
    voxel = ends[ray]
    _place(ray, voxel, axes, *place, distance, points, inward)
    return RayHits(ray, voxel, distance, points, inward, from_words(seen, grid.shape[2]))


def see_fans(
    occupied: NDArray[np.bool_],
    grid: GridSpec,
    origin: NDArray[np.floating],
    directions: NDArray[np.floating],
    fans: Fans,
    min_range: float = 0.0,
    max_range: float = np.inf,
) -> NDArray[np.uint64]:
    """``to_words(cast_fans(...).seen)``, without the trouble of where rays end.

    ``origin`` may also be ``[k, 3]``, of each image that ``fans`` have columns of.
    """
    found = _marched(occupied, grid, origin, directions, fans, min_range, max_range)
    if found is None:
        starts = fans.per_ray(np.atleast_2d(origin))
        return to_words(cast_rays(occupied, grid, starts, directions, min_range, max_range).seen)
    return found[0]


def _marched(
    occupied: NDArray[np.bool_],
    grid: GridSpec,
    origin: NDArray[np.floating],
    directions: NDArray[np.floating],
    fans: Fans,
    min_range: float,
    max_range: float,
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int8], tuple[NDArray[np.float64], ...]] | None:
    """What fans see, in words; the voxels that rays end in, the axes along which (negative: in none); where rays are.

    None where fans do not do.
    """
    # Writable or not is a type of its own to numba, which would compile for it once more.
    rays = np.require(directions, np.float64, ["C", "W"])
    starts = np.require(np.atleast_2d(origin), np.float64, ["C", "W"])
    place = (np.array(grid.origin, np.float64), np.array(grid.voxel_size, np.float64), starts, rays)
    nx, ny, nz = grid.shape
    within = (starts - place[0]) / place[1]
    if nz > _HIGHEST or not ((within > 0) & (within < grid.shape)).all():
        return None
    first = fans.order[fans.begins[:-1]] if len(starts) == len(rays) else fans.image
    start_of = np.zeros_like(first) if len(starts) == 1 else first
    blocked, passed = np.zeros((2, nx + 2, ny + 2), np.uint64)
    np.left_shift(to_words(occupied)[..., 0], np.uint64(1), out=blocked[1:-1, 1:-1])
    ends, axes = np.empty((len(rays), 3), np.int64), np.full(len(rays), _NOTHING, np.int8)
    _follow(blocked, passed, nz, *place, min_range, max_range, start_of, fans.order, fans.begins, ends, axes)
    seen = (passed[1:-1, 1:-1] >> np.uint64(1))[..., None]
    left = np.flatnonzero(axes == _LEFT)
    if len(left):
        own = starts if len(starts) == 1 else fans.per_ray(starts)[left]
        others = cast_rays(occupied, grid, own, rays[left], min_range, max_range)
        ends[left[others.ray]], axes[left[others.ray]] = others.voxel, np.abs(others.inward).argmax(axis=1)
        seen |= to_words(others.seen)
    return seen, ends, axes, place


@compiled
def _follow(
    blocked: NDArray[np.uint64],
    passed: NDArray[np.uint64],
    nz: int,
    lower: NDArray[np.float64],
    size: NDArray[np.float64],
    starts: NDArray[np.float64],
    rays: NDArray[np.float64],
    min_range: float,
    max_range: float,
    start_of: NDArray[np.int64],
    order: NDArray[np.int64],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    axes: NDArray[np.int8],
) -> None:
    """Mark in ``passed`` ``[x + 2, y + 2]`` what rays see, and find where they end; distances are over the ground.

    Args:
        blocked: ``[x + 2, y + 2]`` what is occupied, a word a column.
        nz: layers of the grid.
        lower, size, starts, rays, min_range, max_range: of ``cast_fans``.
        start_of: ``[m]`` which of ``starts`` is that of each fan.
        order, begins: of ``Fans``.
        ends: ``[n, 3]`` the voxel that each ray ends in, filled in where it ends in one.
        axes: ``[n]`` the axis along which it enters that; what is there stays where there is none.
    """
    nx, ny = blocked.shape[0] - 2, blocked.shape[1] - 2
    blocked_by_column, passed_by_column, one = blocked.reshape(-1), passed.reshape(-1), np.uint64(1)
    # The way of a fan: its columns, how far each is, the axis along which it is entered, and their words.
    most = nx + ny + 2
    column, entered, axis_of = np.empty(most, np.int64), np.empty(most), np.empty(most, np.int8)
    stands, seen = np.empty(most, np.uint64), np.empty(most, np.uint64)
    for fan in range(len(begins) - 1):
        first = order[begins[fan]]
        place = (starts[start_of[fan]] - lower) / size
        far = np.sqrt(rays[first, 0] * rays[first, 0] + rays[first, 1] * rays[first, 1])
        upright = False
        for n in range(begins[fan], begins[fan + 1]):
            upright |= rays[order[n], 0] == 0 and rays[order[n], 1] == 0
        if upright:  # straight up or down there is no way over the ground
            for n in range(begins[fan], begins[fan + 1]):
                axes[order[n]] = _LEFT
            continue
        vx, vy = rays[first, 0] / far / size[0], rays[first, 1] / far / size[1]
        x, y = int(np.floor(place[0])), int(np.floor(place[1]))
        step_x, step_y = 1 if vx > 0 else -1, 1 if vy > 0 else -1
        # What runs along a face never gets to one: it is infinitely far.
        per_x, per_y = 1 / vx if vx != 0 else 1.0, 1 / vy if vy != 0 else 1.0
        from_x, from_y = place[0] if vx != 0 else -np.inf, place[1] if vy != 0 else -np.inf
        next_x, next_y = x + (vx > 0) + 0.0, y + (vy > 0) + 0.0
        face_x, face_y = (next_x - from_x) * per_x, (next_y - from_y) * per_y
        metres, axis, way, tied = 0.0, -1, 0, False
        while True:
            column[way], entered[way], axis_of[way] = (x + 1) * (ny + 2) + y + 1, metres, axis
            stands[way], seen[way] = blocked_by_column[column[way]], 0
            if x < 0 or y < 0 or x >= nx or y >= ny:
                break
            way += 1
            # Both at 0, of a start in a corner, is nothing that rounding has a say in.
            tied |= abs(face_x - face_y) < _SAME and max(face_x, face_y) > 0
            if face_x <= face_y:
                axis, metres, x, next_x = 0, face_x, x + step_x, next_x + step_x
                face_x = (next_x - from_x) * per_x
            else:
                axis, metres, y, next_y = 1, face_y, y + step_y, next_y + step_y
                face_y = (next_y - from_y) * per_y
        if tied:
            for n in range(begins[fan], begins[fan + 1]):
                axes[order[n]] = _LEFT
            continue
        last = np.uint64(way)
        stands[last] = ~np.uint64(0)  # beyond the grid nothing goes on

        for n in range(begins[fan], begins[fan + 1]):
            ray = order[n]
            far, up = np.sqrt(rays[ray, 0] * rays[ray, 0] + rays[ray, 1] * rays[ray, 1]), rays[ray, 2]
            share = far / np.sqrt(far * far + up * up)
            least, furthest = min_range * share, max_range * share
            per_z, from_z = (far / up * size[2], place[2]) if up != 0 else (1.0, -np.inf)
            z, jump = int(np.floor(place[2])), 1 if up > 0 else -1
            next_z = z + (up > 0) + 0.0
            face_z = (next_z - from_z) * per_z
            at, bit, axis = np.uint64(0), one << np.uint64(z + 1), _NOTHING
            seen[at] |= bit
            while True:
                # Along the layer, as far as it goes.
                bound = min(face_z, furthest)
                while axis == _NOTHING and entered[at + one] <= bound:
                    at += one
                    if stands[at] & bit and (at == last or entered[at] >= least):
                        axis = axis_of[at]
                    else:
                        seen[at] |= bit
                if axis >= 0 or face_z > furthest:
                    break
                if (at > 0 and face_z - entered[at] < _SAME) or entered[at + one] - face_z < _SAME:
                    axis = _LEFT
                    break
                z += jump
                if z < 0 or z >= nz:
                    break
                bit = one << np.uint64(z + 1)
                if stands[at] & bit and face_z >= least:
                    axis = 2
                    break
                seen[at] |= bit
                next_z += jump
                face_z = (next_z - from_z) * per_z
            if axis == _LEFT:
                axes[ray] = _LEFT
            elif axis >= 0 and at != last:
                seen[at] |= bit
                ends[ray, 0], ends[ray, 1] = column[at] // (ny + 2) - 1, column[at] % (ny + 2) - 1
                ends[ray, 2], axes[ray] = z, axis
        for n in range(way):
            passed_by_column[column[n]] |= seen[n]


@compiled
def _place(
    ray: NDArray[np.int64],
    voxel: NDArray[np.int64],
    axes: NDArray[np.int8],
    lower: NDArray[np.float64],
    size: NDArray[np.float64],
    starts: NDArray[np.float64],
    rays: NDArray[np.float64],
    distance: NDArray[np.float64],
    points: NDArray[np.float64],
    inward: NDArray[np.float64],
) -> None:
    """Fill the last three, which are those of ``RayHits``, in the steps that each ray takes alone.

    Args:
        ray, voxel: of ``RayHits``.
        axes: of all rays, along which each enters its voxel.
        inward: 0 before.
    """
    for n in range(len(ray)):
        k, axis = ray[n], axes[ray[n]]
        own = k if len(starts) > 1 else 0
        ux, uy, uz = rays[k, 0], rays[k, 1], rays[k, 2]
        length = np.sqrt(ux * ux + uy * uy + uz * uz)
        ahead = rays[k, axis] > 0
        face = voxel[n, axis] + (0.0 if ahead else 1.0)
        metres = (face - (starts[own, axis] - lower[axis]) / size[axis]) * (1 / (rays[k, axis] / length / size[axis]))
        distance[n], inward[n, axis] = metres, 1.0 if ahead else -1.0
        for a in range(3):
            points[n, a] = starts[own, a] + rays[k, a] / length * metres
