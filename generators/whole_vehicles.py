"""Vehicles are whole: those that were followed through some frames are drawn anew as boxes, in coarse voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import columns_under, components, cut_off, with_beside
from dyncity.metrics.vehicles import vehicle_ids
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import Taxonomy, taxonomy
from dyncity.tracks import Piece, Track, middle_of, tracks
from generators.upright import COARSE
from generators.vehicles_apart import apart

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sizes = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

# Length, width, and height over its columns on average, from and to, metres: what the procedural city draws
# (generators.procedural.agents), and a bit; a car is lower over bonnet and boot.
_SIZES: dict[str, Sizes] = {
    "car": ((4.0, 5.2), (1.7, 2.1), (1.1, 1.7)),
    "truck": ((6.3, 9.2), (2.2, 2.6), (2.4, 3.6)),
    "bus": ((10.2, 12.2), (2.4, 2.6), (2.6, 3.4)),
    "trailer": ((5.8, 8.2), (2.2, 2.6), (2.4, 3.4)),
    "construction_vehicle": ((4.8, 7.2), (2.1, 2.6), (2.4, 3.2)),
    "other_vehicle": ((5.0, 6.4), (1.8, 2.2), (2.1, 2.6)),
}
_ANY: Sizes = ((4.0, 12.2), (1.7, 2.6), (1.1, 3.6))  # of a class that may be any of them
_BY_AREA, _BY_HEIGHT = 2, 12  # powers by which a class counts less that is never so large, or so high
_SOME = 0.1  # of a lump that is of a class, if one in it may be
_LEAST_FRAMES = 3  # that somebody is wholly seen in
_SHARE = (0.4, 1.4)  # of a box that is covered on average: less is a crumb, more are several
_WITHIN = 0.8  # of the pieces that has to be in the box, or they are of several
_ALIKE = 0.8  # of what is in a box or a piece, the share in both, if the piece is a box already
_ROOM = 0.75  # of a box that has to be free
_GROWN = 0.1  # voxels: a column is in a box that is so much larger, as in the procedural city
_APART = 0.8  # metres between two who are parked in a row
_YAWS = np.deg2rad([0, 90, 15, -15, 75, 105, 30, -30, 60, 120, 45, 135])  # along the grid if in doubt
_BESIDE = np.deg2rad(20.0)  # of where one goes, the headings that may be its own
_BEND = np.deg2rad(15.0)  # a way that turns by less is straight


@dataclass(frozen=True)
class _Box:
    """A vehicle: poses ``[t, 3]`` (x, y, heading) from its first to its last frame, length and width, in metres."""

    pose: Floats
    size: Floats
    within: float  # share of its pieces that is in it


def whole_vehicles(
    volume: NDArray[np.uint8], grid: GridSpec, labels: str, given: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """A volume fixed to the world in which vehicles that were followed through three frames or more are boxes.

    A box is as long and wide as its pieces are on average, within what its class may be, and heads where they go, or as
    it covers most of them. It lies on the smooth way of the pieces, and is as high along it as they are. In each frame
    from the first to the last it takes the place of its piece, of what is free, and is next to no other vehicle; where
    a quarter of it has no room, or the piece is much the same, the piece stays, without what touches another. What
    covers less than 0.4 of a box, or more than 1.4, or is a fifth beside it, is taken for several that touch
    (``generators.vehicles_apart``), or stays as it is; so do volumes of voxels lower than 0.5 m, which show more than
    a box.

    Args:
        volume: ``[t, x, y, z]`` class ids.
        grid: where it lies.
        labels: the label space.
        given: ``[t, x, y, z]`` voxels that stay, with the vehicles that they are of; 255 where none does.
    """
    if grid.voxel_size[2] < COARSE:
        return volume
    space, ids = taxonomy(labels), vehicle_ids(labels)
    wheels = np.isin(volume, ids)
    stays = np.zeros(volume.shape, bool) if given is None else given != UNKNOWN
    result = volume.copy()
    cut = [cut_off(columns) for columns in (volume == UNKNOWN).any(axis=3)]
    drawn: list[tuple[Track, int, _Box]] = []
    others = wheels.copy()
    for track in tracks(wheels, grid):
        if any(stays[t][tuple(p.voxels.T)].any() for t, p in track.items()):
            continue
        vehicle = _vehicle(track, volume, grid, space, cut)
        found = [(track, vehicle)] if vehicle else _parted(track, volume, grid, space, cut)
        if found:
            drawn += [(part, *box) for part, box in found]
            for t, piece in track.items():
                others[t][tuple(piece.voxels.T)] = False
            for t, voxels in _beyond_sides(track, [part for part, _ in found], cut, grid):
                others[t][tuple(voxels.T)] = True
    result[wheels & ~others] = space.free
    busy: NDArray[np.bool_] = np.asarray(others.any(axis=3))
    for track, kind, box in sorted(drawn, key=lambda one: -one[2].size[0]):
        _draw(result, busy, track, kind, box, grid, space.free, stays)
    return result


def _sizes(kind: int, space: Taxonomy) -> Sizes:
    return _SIZES.get(space.classes[kind].replace("-", "_"), _ANY)


def _column(grid: GridSpec) -> float:
    """Square metres of the ground under a column."""
    return float(grid.voxel_size[0] * grid.voxel_size[1])


def _columns(voxels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return voxels[:, 0], voxels[:, 1]


def _points(columns: NDArray[np.int64], grid: GridSpec) -> Floats:
    """``[n, 2]`` centres of columns, metres."""
    return np.asarray(grid.origin[:2] + (columns[:, :2] + 0.5) * grid.voxel_size[:2])


def _kind(track: Track, volume: NDArray[np.uint8], measured: tuple[float, float], space: Taxonomy) -> int:
    """The class that most voxels of a track are of; those that are never about as large and as high count less.

    Args:
        measured: square metres seen from above, and metres of height over them on average.
    """
    votes = np.bincount(np.concatenate([volume[t][tuple(p.voxels.T)] for t, p in track.items()]))
    weight = {}
    for kind in np.flatnonzero(votes).tolist():
        (short, long), (slim, wide), high = _sizes(kind, space)
        off = np.log(_beyond(measured[0], (short * slim, long * wide))), np.log(_beyond(measured[1], high))
        weight[kind] = votes[kind] * np.exp(-_BY_AREA * off[0] - _BY_HEIGHT * off[1])
    return max(weight, key=lambda kind: weight[kind])


def _beyond(value: float, limits: tuple[float, float]) -> float:
    """How many times a value is below or above its limits; 1 within."""
    return max(limits[0] / value, value / limits[1], 1.0)


def _vehicle(
    track: Track, volume: NDArray[np.uint8], grid: GridSpec, space: Taxonomy, cut: list[NDArray[np.bool_]]
) -> tuple[int, _Box] | None:
    """The class and box of a track; None where it is seen whole too seldom, or is no box of its class."""
    whole = [t for t, piece in track.items() if not cut[t][_columns(piece.voxels)].any()]
    if len(whole) < _LEAST_FRAMES:
        return None
    points = {t: _points(columns_under(track[t].voxels), grid) for t in whole}
    columns = sum(map(len, points.values()))
    high = sum(len(track[t].voxels) for t in whole) / columns * grid.voxel_size[2]
    kind = _kind(track, volume, (columns / len(whole) * _column(grid), high), space)
    box = _box(points, min(track), max(track), grid, _sizes(kind, space))
    area = len(whole) * box.size.prod() / _column(grid)
    fits = box.within >= _WITHIN and _SHARE[0] * area <= columns <= _SHARE[1] * area
    return (kind, box) if fits else None


def _parted(
    track: Track, volume: NDArray[np.uint8], grid: GridSpec, space: Taxonomy, cut: list[NDArray[np.bool_]]
) -> list[tuple[Track, tuple[int, _Box]]]:
    """The vehicles that a track is of, if it is several, or one with rags (``generators.vehicles_apart``)."""
    if len(track) < _LEAST_FRAMES:
        return []
    edge, first = max(grid.voxel_size[:2]), min(track)
    votes = np.bincount(np.concatenate([volume[t][tuple(piece.voxels.T)] for t, piece in track.items()]))
    kinds = np.flatnonzero(votes >= _SOME * votes.sum()).tolist()
    sizes = {kind: np.mean(_sizes(kind, space)[:2], axis=1) for kind in kinds}
    columns = {t: columns_under(piece.voxels) for t, piece in track.items()}
    route = _box({t: _points(own, grid) for t, own in columns.items()}, first, max(track), grid, _ANY).pose
    moves = np.linalg.norm(route[-1, :2] - route[0, :2]) > 2 * edge
    way = np.rint((route[:, :2] - route[0, :2]) / grid.voxel_size[:2]).astype(np.int64) * int(moves)
    standing = {t: own - way[t - first] for t, own in columns.items()}
    top = {t: volume[t][(*own.T, _highest(track[t], own))] for t, own in columns.items()}
    parted = []
    for own in apart(standing, top, sizes, route[[len(route) // 2], 2] if moves else _YAWS, edge):
        part: Track = {}
        for t, piece in track.items():
            inside = _among(piece.voxels[:, :2] - way[t - first], own)
            if inside.any():
                part[t] = Piece(piece.voxels[inside], middle_of(piece.voxels[inside], grid, np.eye(4)))
        vehicle = _vehicle(part, volume, grid, space, cut)
        if vehicle is not None:
            parted.append((part, vehicle))
    return parted


def _beyond_sides(
    track: Track, parts: list[Track], cut: list[NDArray[np.bool_]], grid: GridSpec
) -> list[tuple[int, NDArray[np.int64]]]:
    """What of a track, by frame, is in none of its parts and may go on beyond the sides of the grid."""
    left = []
    for t, piece in track.items():
        mask = np.zeros(grid.shape, bool)
        mask[tuple(piece.voxels.T)] = True
        for part in parts:
            if t in part:
                mask[tuple(part[t].voxels.T)] = False
        if (mask[tuple(piece.voxels.T)] & cut[t][_columns(piece.voxels)]).any():  # mostly not: nothing to part then
            left += [(t, voxels) for voxels in components(mask) if cut[t][_columns(voxels)].any()]
    return left


def _among(columns: NDArray[np.int64], those: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the columns ``[n, 2]`` are one of ``those`` ``[m, 2]``."""
    low, high = those.min(axis=0), those.max(axis=0)
    table = np.zeros(high - low + 1, bool)
    table[tuple((those - low).T)] = True
    found = ((columns >= low) & (columns <= high)).all(axis=1)
    found[found] = table[tuple((columns[found] - low).T)]
    return np.asarray(found)


def _highest(piece: Piece, columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The layer ``[n]`` of the highest voxel of a piece in each of the columns ``[n, 2]``, all that it stands in."""
    low = columns.min(axis=0)
    layer = np.zeros(columns.max(axis=0) - low + 1, np.int64)
    np.maximum.at(layer, tuple((piece.voxels[:, :2] - low).T), piece.voxels[:, 2])
    return layer[tuple((columns - low).T)]


def _box(points: dict[int, Floats], first: int, last: int, grid: GridSpec, sizes: Sizes) -> _Box:
    """The box of a vehicle from the centres ``[n, 2]`` of its columns in the frames that show it whole."""
    edge, frames = max(grid.voxel_size[:2]), np.arange(first, last + 1)
    times = np.array(list(points))
    middles = np.array([own.mean(axis=0) for own in points.values()])
    way = np.polyfit(times, middles, 1)[0] * np.ptp(times)
    if np.linalg.norm(way) <= 2 * edge:
        place, headings = np.repeat(middles.mean(axis=0)[None], len(frames), axis=0), _YAWS[:, None]
    else:
        powers = np.arange(3 if len(times) > 4 else 2)
        curve = np.linalg.lstsq((times[:, None] - first) ** powers, middles, rcond=None)[0]
        place = (frames[:, None] - first) ** powers @ curve
        speed = (powers[1:] * (frames[:, None] - first) ** powers[:-1]) @ curve[1:]
        straight, turning = np.arctan2(way[1], way[0]), np.arctan2(speed[:, 1], speed[:, 0])
        off = np.abs(np.angle(np.exp(1j * (turning - straight)))).max()
        near = _YAWS[np.abs(np.angle(np.exp(2j * (_YAWS - straight)))) / 2 <= _BESIDE]
        headings = turning[None] if _BEND < off < np.pi / 2 else np.array([*near, straight])[:, None]
    yaws = np.broadcast_to(headings, (len(headings), len(frames)))  # [k, t]
    number = np.repeat(times - first, [len(own) for own in points.values()])  # [n], the frame of each column
    local = _turned(np.concatenate(list(points.values())) - place[number], yaws[:, number])  # [k, n, 2]
    limits = np.array(sizes[:2])
    found = np.clip(np.sqrt(12 * local.var(axis=1)), limits[:, 0], limits[:, 1])  # [k, 2], as of even rectangles
    inside = (np.abs(local) <= found[:, None] / 2 + _GROWN * edge).all(axis=2).sum(axis=1)
    either = len(number) + len(times) * found.prod(axis=1) / _column(grid) - inside
    best = int((inside / either).argmax())
    return _Box(np.column_stack([place, yaws[best]]), found[best], float(inside[best]) / len(number))


def _turned(points: Floats, yaw: Floats) -> Floats:
    """``[..., 2]`` points as seen along headings of their leading shape, or of one that broadcasts with it."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)


def _draw(
    result: NDArray[np.uint8],
    busy: NDArray[np.bool_],
    track: Track,
    kind: int,
    box: _Box,
    grid: GridSpec,
    free: int,
    stays: NDArray[np.bool_],
) -> None:
    """Draw a vehicle into a volume without it, and into ``busy`` ``[t, x, y]``, the columns of vehicles, in place."""
    edge, first, (nx, ny) = max(grid.voxel_size[:2]), min(track), result.shape[1:3]
    along, levels = _profile(track, box, grid)
    reach = np.hypot(*box.size) / 2 + edge
    low, high = box.pose[:, :2].min(axis=0) - reach, box.pose[:, :2].max(axis=0) + reach
    x, y = np.nonzero(
        ((grid.axis(0) >= low[0]) & (grid.axis(0) <= high[0]))[:, None]
        & ((grid.axis(1) >= low[1]) & (grid.axis(1) <= high[1]))
    )
    centres = _points(np.column_stack([x, y]), grid)
    for t, (*place, yaw) in enumerate(box.pose.tolist(), start=first):
        local = _turned(centres - place, np.array(yaw))
        inside = (np.abs(local) <= box.size / 2 + _GROWN * edge).all(axis=1)
        ahead, column = local[inside, 0], (x[inside], y[inside])
        piece = track.get(t)
        own = np.zeros((nx, ny), bool)
        if piece is not None:
            own[_columns(piece.voxels)] = True
        both = own[column].sum()
        alike = both >= _ALIKE * (own.sum() + len(ahead) - both)
        number, level = np.nonzero(levels[np.abs(along - ahead[:, None]).argmin(axis=1)])
        at = (column[0][number], column[1][number], level)
        room = _room(result[t], busy[t], stays[t], at, free)
        if piece is not None and (alike or room.sum() < _ROOM * len(room)):
            at = (*_columns(piece.voxels), piece.voxels[:, 2])
            room = _room(result[t], busy[t], stays[t], at, free)
        elif piece is None and room.sum() < _ROOM * len(room):
            continue
        at = (at[0][room], at[1][room], at[2][room])
        result[t][at] = kind
        busy[t][at[:2]] = True


def _profile(track: Track, box: _Box, grid: GridSpec) -> tuple[Floats, NDArray[np.bool_]]:
    """Places along a vehicle ``[m]``, metres from its middle, and the layers ``[m, z]`` that it fills there."""
    edge, first, height = max(grid.voxel_size[:2]), min(track), grid.shape[2]
    count: dict[int, NDArray[np.int64]] = {}
    for t, piece in track.items():
        *place, yaw = box.pose[t - first]
        ahead = _turned(_points(piece.voxels, grid) - place, yaw)[:, 0]
        for step, level in zip(np.rint(ahead / edge).astype(int).tolist(), piece.voxels[:, 2].tolist(), strict=True):
            count.setdefault(step, np.zeros(height, np.int64))[level] += 1
    steps = sorted(count)
    table = np.array([count[step] for step in steps])
    return np.array(steps) * edge, 2 * table >= table.max(axis=1, keepdims=True)


def _room(
    frame: NDArray[np.uint8], busy: NDArray[np.bool_], stays: NDArray[np.bool_], at: tuple[Ints, Ints, Ints], free: int
) -> NDArray[np.bool_]:
    """Which of the voxels ``at`` of a frame are free, and next to no column of another vehicle."""
    return (frame[at] == free) & ~stays[at] & ~with_beside(busy)[at[:2]]
