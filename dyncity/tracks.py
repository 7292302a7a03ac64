"""Pieces of voxels followed from frame to frame: who is who."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.metrics.vehicles import TOP_SPEED

_AT_ONCE = 64  # tracks that are set beside all pieces of their strips: each may have thousands
_TELLING = 3  # frames whose places tell how a vehicle goes on


@dataclass(frozen=True)
class Piece:
    """A component in one frame: voxels ``[n, 3]`` and their middle ``[2]`` seen from above, metres in the world."""

    voxels: NDArray[np.int64]
    middle: NDArray[np.float64]


Track = dict[int, Piece]  # by frame


def tracks(mask: NDArray[np.bool_], grid: GridSpec, poses: NDArray[np.float64] | None = None) -> list[Track]:
    """The components of a mask ``[t, x, y, z]`` followed from frame to frame, over one frame without them too.

    One goes on as the piece that is nearest both ways to where it leads, alike in size, no faster than 20 m/s.

    Args:
        grid: of every frame.
        poses: ``[t, 4, 4]`` grid to world; None: the grid is fixed to the world, and its frame is the world's.
    """
    fixed = np.broadcast_to(np.eye(4), (len(mask), 4, 4)) if poses is None else poses
    pieces = [
        [Piece(part, middle_of(part, grid, pose)) for part in components(frame)]
        for frame, pose in zip(mask, fixed, strict=True)
    ]
    reach = TOP_SPEED / grid.frame_rate
    found: list[Track] = []
    lately: list[Track] = []  # those that may go on, in the order in which they were found
    for t, now in enumerate(pieces):
        left = now
        for gap in (1, 2):
            ending = [track for track in lately if max(track) == t - gap]
            pairs = _pairs(ending, left, t, reach * gap)
            for k, n in pairs.items():
                ending[k][t] = left[n]
            taken = set(pairs.values())
            left = [piece for n, piece in enumerate(left) if n not in taken]
        new: list[Track] = [{t: piece} for piece in left]
        found += new
        lately = [track for track in lately if max(track) >= t - 1] + new
    return found


def middle_of(voxels: NDArray[np.int64], grid: GridSpec, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[2]``: the middle of voxels ``[n, 3]`` from above, metres, in the frame that ``pose`` ``[4, 4]`` leads to."""
    local = grid.origin + (voxels.mean(axis=0) + 0.5) * grid.voxel_size
    return np.asarray(pose[:2, :3] @ local + pose[:2, 3])


def _pairs(ending: list[Track], now: list[Piece], t: int, reach: float) -> dict[int, int]:
    """Which piece each track goes on as: nearest both ways to where it leads, alike in size, within ``reach``.

    Only pieces of a strip of ``reach`` to either side of a track are looked at: noise is thousands of either.
    """
    if not ending or not now:
        return {}
    middles, sizes = np.array([piece.middle for piece in now]), np.array([len(piece.voxels) for piece in now])
    by_x = np.argsort(middles[:, 0], kind="stable")
    lasts = [track[max(track)] for track in ending]
    last = np.array([piece.middle for piece in lasts])
    strip = np.array([-1.0, 1.0]) * (reach + 1e-6) + last[:, :1]
    begin, end = np.searchsorted(middles[by_x, 0], strip).T
    voxels = np.array([len(piece.voxels) for piece in lasts])
    near = []
    for first in range(0, len(ending), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        count = end[some] - begin[some]
        k = np.repeat(np.arange(first, first + len(count)), count)
        n = by_x[np.arange(len(k)) + np.repeat(end[some] - np.cumsum(count), count)]
        ratio = voxels[k] / sizes[n]
        may = (np.linalg.norm(last[k] - middles[n], axis=1) <= reach) & (ratio <= 2) & (ratio >= 0.5)
        near.append(np.stack([k[may], n[may]]))
    k, n = np.concatenate(near, axis=1)
    leads = np.full((len(ending), 2), np.nan)
    for one in np.unique(k):
        leads[one] = middle(ending[one], t)
    gaps = np.linalg.norm(leads[k] - middles[n], axis=1)
    goes, comes = np.lexsort((n, gaps, k)), np.lexsort((k, gaps, n))  # of two as near, the first
    both = np.intersect1d(goes[np.diff(k[goes], prepend=-1) > 0], comes[np.diff(n[comes], prepend=-1) > 0])
    return dict(zip(k[both].tolist(), n[both].tolist(), strict=True))


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
