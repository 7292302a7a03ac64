"""Pieces of voxels followed from frame to frame: who is who in a volume fixed to the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.metrics.vehicles import TOP_SPEED, mutually_nearest

_TELLING = 3  # frames whose places tell how a vehicle goes on


@dataclass(frozen=True)
class Piece:
    """A component in one frame: voxels ``[n, 3]`` and their middle ``[2]`` seen from above, in voxels."""

    voxels: NDArray[np.int64]
    middle: NDArray[np.float64]


Track = dict[int, Piece]  # by frame


def reach_of(grid: GridSpec) -> NDArray[np.float64]:
    """``[2]``: how far anybody gets from one frame to the next, voxels along x and y."""
    return TOP_SPEED / grid.frame_rate / np.array(grid.voxel_size[:2])


def tracks(mask: NDArray[np.bool_], grid: GridSpec) -> list[Track]:
    """The components of a mask ``[t, x, y, z]`` followed from frame to frame, over one frame without them too.

    One goes on as the piece that is nearest both ways to where it leads, alike in size, no faster than 20 m/s.
    """
    pieces = [[Piece(part, part[:, :2].mean(axis=0)) for part in components(frame)] for frame in mask]
    reach = float(reach_of(grid).mean())
    found: list[Track] = []
    for t, now in enumerate(pieces):
        left = now
        for gap in (1, 2):
            ending = [track for track in found if max(track) == t - gap]
            pairs = _pairs(ending, left, t, reach * gap)
            for k, n in pairs.items():
                ending[k][t] = left[n]
            left = [piece for n, piece in enumerate(left) if n not in pairs.values()]
        found += [{t: piece} for piece in left]
    return found


def _pairs(ending: list[Track], now: list[Piece], t: int, reach: float) -> dict[int, int]:
    """Which piece each track goes on as: nearest both ways to where it leads, alike in size, within ``reach``."""
    if not ending or not now:
        return {}
    last = [track[max(track)] for track in ending]
    middles = np.array([piece.middle for piece in now])
    gaps = np.linalg.norm(np.array([middle(track, t) for track in ending])[:, None] - middles, axis=2)
    moved = np.linalg.norm(np.array([piece.middle for piece in last])[:, None] - middles, axis=2)
    ratio = np.array([len(p.voxels) for p in last])[:, None] / np.array([len(p.voxels) for p in now])
    gaps[(moved > reach) | (ratio > 2) | (ratio < 0.5)] = np.inf
    return mutually_nearest(gaps)


def middle(track: Track, t: int) -> NDArray[np.float64]:
    """Where a track is in frame ``t``, between the frames beside it, or on the line through the nearest."""
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
