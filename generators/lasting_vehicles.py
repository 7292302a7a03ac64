"""Vehicles do not appear and vanish: those that were followed for some frames are there in all, the others in none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.metrics.vehicles import TOP_SPEED, mutually_nearest, vehicle_ids
from dyncity.taxonomy import taxonomy

_TELLING = 3  # frames whose places tell how a vehicle goes on


@dataclass(frozen=True)
class _Piece:
    """A component in one frame: voxels ``[n, 3]`` and their middle ``[2]`` seen from above, in voxels."""

    voxels: NDArray[np.int64]
    middle: NDArray[np.float64]


Track = dict[int, _Piece]  # by frame


def lasting_vehicles(volume: NDArray[np.uint8], grid: GridSpec, labels: str) -> NDArray[np.uint8]:
    """A volume ``[t, x, y, z]`` fixed to the world in which no vehicle appears or vanishes on its way.

    Vehicles are followed from frame to frame, over one frame in which they are missing too; each is of the class that
    most of its voxels are of in all frames. Where it is missing, before it is first found and after it was last, it is
    put where its way leads, in the shape of the nearest frame, if all of that place is free and on the grid. What is
    found in one frame alone, out of reach of the sides, is taken out.

    Args:
        volume: class ids; components of vehicles are single vehicles (``generators.fragments``).
        grid: of the volume.
        labels: the label space.
    """
    ids, free = vehicle_ids(labels), taxonomy(labels).free
    reach = TOP_SPEED / grid.frame_rate / np.array(grid.voxel_size[:2])  # voxels a frame
    tracks = _tracks([_pieces(frame, ids) for frame in volume], float(reach.mean()))
    result, sides = volume.copy(), np.array(volume.shape[1:3])
    for track in (t for t in tracks if len(t) == 1):
        ((t, piece),) = track.items()
        if _inside(piece.voxels[:, :2], reach, sides):
            result[t][tuple(piece.voxels.T)] = free
    for track in (t for t in tracks if len(t) > 1):
        kind = np.bincount(np.concatenate([volume[t][tuple(p.voxels.T)] for t, p in track.items()])).argmax()
        first, last = min(track), max(track)
        for frames in (range(first, last + 1), range(last + 1, len(volume)), range(first - 1, -1, -1)):
            for t in frames:
                piece = track[min(track, key=lambda k: abs(k - t))]
                moved = np.rint(_middle(track, t) - piece.middle).astype(int)
                at = piece.voxels + np.array([*moved, 0])
                if t in track or (_inside(at[:, :2], np.zeros(2), sides) and (result[t][tuple(at.T)] == free).all()):
                    result[t][tuple(at.T)] = kind
                elif not first < t < last:
                    break  # it went on behind what stands there
    return result


def _pieces(frame: NDArray[np.uint8], ids: list[int]) -> list[_Piece]:
    return [_Piece(part, part[:, :2].mean(axis=0)) for part in components(np.isin(frame, ids))]


def _inside(columns: NDArray[np.int64], border: NDArray[np.float64], sides: NDArray[np.int64]) -> bool:
    """Whether columns ``[n, 2]`` are all on the grid, and farther than ``border`` from its sides."""
    return bool(((columns >= border) & (columns < sides - border)).all())


def _tracks(pieces: list[list[_Piece]], reach: float) -> list[Track]:
    """The pieces of each vehicle by frame, within ``reach`` voxels a frame of each other."""
    tracks: list[Track] = []
    for t, now in enumerate(pieces):
        left = now
        for gap in (1, 2):
            ending = [track for track in tracks if max(track) == t - gap]
            pairs = _pairs(ending, left, t, reach * gap)
            for k, n in pairs.items():
                ending[k][t] = left[n]
            left = [piece for n, piece in enumerate(left) if n not in pairs.values()]
        tracks += [{t: piece} for piece in left]
    return tracks


def _pairs(ending: list[Track], now: list[_Piece], t: int, reach: float) -> dict[int, int]:
    """Which piece each track goes on as: nearest both ways to where it leads, alike in size, within ``reach``."""
    if not ending or not now:
        return {}
    last = [track[max(track)] for track in ending]
    middles = np.array([piece.middle for piece in now])
    gaps = np.linalg.norm(np.array([_middle(track, t) for track in ending])[:, None] - middles, axis=2)
    moved = np.linalg.norm(np.array([piece.middle for piece in last])[:, None] - middles, axis=2)
    ratio = np.array([len(p.voxels) for p in last])[:, None] / np.array([len(p.voxels) for p in now])
    gaps[(moved > reach) | (ratio > 2) | (ratio < 0.5)] = np.inf
    return mutually_nearest(gaps)


def _middle(track: Track, t: int) -> NDArray[np.float64]:
    """Where a vehicle is in frame ``t``, between the frames beside it, or on the line through the nearest."""
    if t in track:
        return track[t].middle
    before, after = [k for k in track if k < t], [k for k in track if k > t]
    if before and after:
        a, b = max(before), min(after)
        return track[a].middle + (track[b].middle - track[a].middle) * (t - a) / (b - a)
    near = np.array(sorted(track, key=lambda k: abs(k - t))[:_TELLING])
    middles = np.array([track[k].middle for k in near])
    if len(near) == 1:
        return middles[0]
    steps = near - near.mean()
    speed = steps @ (middles - middles.mean(axis=0)) / (steps @ steps)
    return np.asarray(middles[0] + speed * (t - near[0]))
