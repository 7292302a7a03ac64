"""Vehicles are whole: those that were followed through some frames are drawn anew as boxes, in coarse voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import components, cut_off
from dyncity.metrics.vehicles import vehicle_ids
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import Taxonomy, taxonomy
from dyncity.tracks import Track, tracks
from generators.upright import COARSE

Floats = NDArray[np.float64]
Sizes = tuple[tuple[float, float], tuple[float, float]]

# Length and width from and to, metres: what the procedural city draws (generators.procedural.agents), and a bit.
_SIZES: dict[str, Sizes] = {
    "car": ((4.0, 5.2), (1.7, 2.1)),
    "truck": ((6.3, 9.2), (2.2, 2.6)),
    "bus": ((10.2, 12.2), (2.4, 2.6)),
    "trailer": ((5.8, 8.2), (2.2, 2.6)),
    "construction_vehicle": ((4.8, 7.2), (2.1, 2.6)),
    "other_vehicle": ((5.0, 6.4), (1.8, 2.2)),
}
_ANY: Sizes = ((4.0, 12.2), (1.7, 2.6))  # of a class that may be any of them
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
    a quarter of it has no room, or the piece is much the same, the piece stays. Pieces longer than two of their class
    are parted first, where they are narrowest. What covers less than 0.4 of a box, or more than 1.4, stays as it is, so
    does what is a fifth beside it, and so do volumes of voxels lower than 0.5 m, which show more than a box.

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
    joints = _joints(wheels, volume, grid, space) & ~stays
    mask, result = wheels & ~joints, volume.copy()
    cut = [cut_off(columns) for columns in (volume == UNKNOWN).any(axis=3)]
    drawn: list[tuple[Track, int, _Box]] = []
    for track in tracks(mask, grid):
        whole = [t for t, piece in track.items() if not cut[t][_columns(piece.voxels)].any()]
        if len(whole) < _LEAST_FRAMES or any(stays[t][tuple(p.voxels.T)].any() for t, p in track.items()):
            continue
        points = {t: _points(np.unique(track[t].voxels[:, :2], axis=0), grid) for t in whole}
        kind = _kind(track, volume, sum(map(len, points.values())) / len(whole) * _column(grid), space)
        box = _box(points, min(track), max(track), grid, _sizes(kind, space))
        area = len(whole) * box.size.prod() / _column(grid)
        if box.within >= _WITHIN and _SHARE[0] * area <= sum(map(len, points.values())) <= _SHARE[1] * area:
            drawn.append((track, kind, box))
    others = mask.copy()
    for track, _, _ in drawn:
        for t, piece in track.items():
            others[t][tuple(piece.voxels.T)] = False
    anew = (mask & ~others).any(axis=3)
    for t, x, y, z in np.argwhere(joints).tolist():
        others[t, x, y, z] = not anew[t, max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2].any()
    result[wheels & ~others] = space.free
    busy = others.any(axis=3)
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


def _kind(track: Track, volume: NDArray[np.uint8], area: float, space: Taxonomy) -> int:
    """The class that most voxels of a track are of; one that is never about as large counts less."""
    votes = np.bincount(np.concatenate([volume[t][tuple(p.voxels.T)] for t, p in track.items()]))
    weight = {}
    for kind in np.flatnonzero(votes).tolist():
        (short, long), (slim, wide) = _sizes(kind, space)
        weight[kind] = votes[kind] / max(short * slim / area, area / (long * wide), 1.0) ** 2
    return max(weight, key=lambda kind: weight[kind])


def _joints(wheels: NDArray[np.bool_], volume: NDArray[np.uint8], grid: GridSpec, space: Taxonomy) -> NDArray[np.bool_]:
    """What joins vehicles in a row: the narrowest places, about where one of several of equal length would end."""
    edge, joints = max(grid.voxel_size[:2]), np.zeros_like(wheels)
    for t, frame in enumerate(wheels):
        for part in components(frame):
            longest = _sizes(int(np.bincount(volume[t][tuple(part.T)]).argmax()), space)[0][1]
            if np.ptp(part[:, :2], axis=0).max() * edge < longest:
                continue
            points = _points(part, grid)
            points -= points.mean(axis=0)
            along = points @ np.linalg.eigh(points.T @ points)[1][:, 1]
            along -= along.min()
            length = along.max() + edge
            several = round(length / (longest + _APART))
            for end in np.arange(1, several) * length / max(several, 1) - edge / 2:
                places = end + np.array([0.0, 0.4, -0.4, 0.8, -0.8, 1.2, -1.2])
                there = np.abs(along - places[:, None]) < edge / 2 + 1e-6  # not between two columns
                joints[t][tuple(part[there[there.sum(axis=1).argmin()]].T)] = True
    return joints


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
    limits = np.array(sizes)
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
        beside = _neighbours(busy[t], *at[:2]) & ~own[at[:2]]
        room = (result[t][at] == free) & ~stays[t][at] & ~beside
        if len(room) and room.mean() >= _ROOM and not alike:
            at = (at[0][room], at[1][room], level[room])
        elif piece is not None:
            at = (*_columns(piece.voxels), piece.voxels[:, 2])
        else:
            continue
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


def _neighbours(mask: NDArray[np.bool_], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a column at ``x, y`` or one of the eight around it is in a mask ``[x, y]``."""
    padded = np.pad(mask, 1)
    return np.logical_or.reduce([padded[x + i, y + j] for i in range(3) for j in range(3)])
