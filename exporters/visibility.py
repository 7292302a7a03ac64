"""What a drive has seen: the voxels seen from each pose, looked up from all the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.column_words import from_words, to_words
from exporters.compiled import compiled
from exporters.motion import moving_tracks

# More poses add little to what the nearer ones saw, and each costs a look-up of the whole grid a frame.
_MOST_POSES = 8


def seen_over_time(
    scene: OccupancyScene, seen: NDArray[np.bool_], moving: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """What was seen from any pose of the scene: as data sets do that merge the scans of a drive.

    A voxel counts as seen in a frame when its centre lay in a seen voxel in some frame (at most 8
    frames, evenly spread, besides its own). Unknown voxels stay unseen. What moves was elsewhere in other
    frames: its voxels count as seen only where their own frame saw them.

    Args:
        seen: bool ``[t, x, y, z]`` seen in each frame, on the scene's grid.
        moving: of ``moving_tracks``, if at hand.
    """
    merged, words = np.empty(seen.shape, np.bool_), np.stack([to_words(turn) for turn in seen])
    for frame, found in enumerate(words_over_time(scene, words, moving)):
        merged[frame] = from_words(found, seen.shape[3])
    return merged


def words_over_time(
    scene: OccupancyScene, seen: NDArray[np.uint64], moving: NDArray[np.bool_] | None = None
) -> Iterator[NDArray[np.uint64]]:
    """``seen_over_time``, a frame at a time, of and in words (``to_words``): ``[t, x, y, w]``."""
    poses, (_, _, nz) = scene.grid_poses(), scene.grid.shape
    sources = np.unique(np.linspace(0, scene.frames - 1, min(scene.frames, _MOST_POSES)).round().astype(int))
    to_source, centers = np.linalg.inv(poses[sources]), [scene.grid.axis(axis) for axis in range(3)]
    keys: NDArray[np.integer]
    if scene.instances is None:  # without tracks: all classes that can move
        moving, keys = np.isin(np.arange(256), taxonomy(scene.taxonomy).movers), scene.semantics
    else:
        moving, keys = moving_tracks(scene) if moving is None else moving, scene.instances
    for frame in range(scene.frames):
        known = to_words(scene.semantics[frame] != UNKNOWN)
        wanted, merged = known.copy(), known & seen[frame]
        _leave_out(np.ascontiguousarray(keys[frame]), moving, wanted)
        for source, world_to_source in zip(sources.tolist(), to_source, strict=True):
            if source != frame:
                rows, shares = _index_parts(scene.grid, world_to_source @ poses[frame], centers[2])
                if _is_level(rows, shares):
                    _look_up_columns(
                        seen[source], wanted, merged, rows[:2].copy(), shares[:2, 0].copy(), centers[0], centers[1]
                    )
                else:
                    _look_up(seen[source], wanted, merged, nz, rows, shares, centers[0], centers[1])
        yield merged


@compiled
def _leave_out(keys: NDArray[np.integer], moving: NDArray[np.bool_], wanted: NDArray[np.uint64]) -> None:
    """Clear the bits of voxels ``[x, y, z]`` that move, by their keys, in the words ``[x, y, w]``."""
    for x in range(keys.shape[0]):
        for y in range(keys.shape[1]):
            for z in range(keys.shape[2]):
                if moving[keys[x, y, z]]:
                    wanted[x, y, z >> 6] &= ~(np.uint64(1) << np.uint64(z & 63))


def _index_parts(
    grid: GridSpec, relative: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where ``relative`` (4x4, metres) takes voxel centres: ``[3, 2]`` factors of x and y, ``[3, z]`` the rest.

    The index along axis a of the voxel that a centre falls into is the floor of ``rows[a] @ (x, y) + shares[a, z]``.
    """
    size, origin = np.array(grid.voxel_size), np.array(grid.origin)
    rows = relative[:3] / size[:, None]
    return rows[:, :2].copy(), rows[:, 2:3] * z + (rows[:, 3:] - (origin / size)[:, None])


def _is_level(rows: NDArray[np.float64], shares: NDArray[np.float64]) -> bool:
    """Whether whole columns fall into whole columns: between upright poses of one height."""
    same = np.array_equal(np.floor(shares[2]), np.arange(shares.shape[1]))
    return bool(same and not rows[2].any() and (shares[:2] == shares[:2, :1]).all())


@compiled
def _look_up_columns(
    seen: NDArray[np.uint64],
    wanted: NDArray[np.uint64],
    merged: NDArray[np.uint64],
    rows: NDArray[np.float64],
    shares: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> None:
    """``_look_up`` where ``_is_level``, a column at a time: ``rows`` ``[2, 2]``, ``shares`` ``[2]``."""
    nx, ny, words = seen.shape
    u, v = np.empty(ny, np.int64), np.empty(ny, np.int64)
    for i in range(nx):
        for j in range(ny):  # in a loop of its own, which compilers turn into vectors
            u[j] = int(np.floor(rows[0, 0] * x[i] + rows[0, 1] * y[j] + shares[0]))
            v[j] = int(np.floor(rows[1, 0] * x[i] + rows[1, 1] * y[j] + shares[1]))
        for j in range(ny):
            if 0 <= u[j] < nx and 0 <= v[j] < ny:
                for k in range(words):
                    merged[i, j, k] |= wanted[i, j, k] & seen[u[j], v[j], k]


@compiled
def _look_up(
    seen: NDArray[np.uint64],
    wanted: NDArray[np.uint64],
    merged: NDArray[np.uint64],
    nz: int,
    rows: NDArray[np.float64],
    shares: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> None:
    """Add to ``merged`` those ``wanted`` voxels whose centres fall into ``seen`` ones; all words ``[x, y, w]``.

    Args:
        nz: layers of the grid.
        rows, shares: of ``_index_parts``.
        x, y: centres, metres.
    """
    nx, ny, one = seen.shape[0], seen.shape[1], np.uint64(1)
    # Between upright poses a whole column falls into one column.
    upright = shares[0].min() == shares[0].max() and shares[1].min() == shares[1].max()
    for i in range(nx):
        for j in range(ny):
            at_x = rows[0, 0] * x[i] + rows[0, 1] * y[j]
            at_y = rows[1, 0] * x[i] + rows[1, 1] * y[j]
            at_z = rows[2, 0] * x[i] + rows[2, 1] * y[j]
            u, v = int(np.floor(at_x + shares[0, 0])), int(np.floor(at_y + shares[1, 0]))
            if upright and not (0 <= u < nx and 0 <= v < ny):
                continue
            for k in range(nz):
                bit = one << np.uint64(k & 63)
                if wanted[i, j, k >> 6] & ~merged[i, j, k >> 6] & bit:
                    if not upright:
                        u, v = int(np.floor(at_x + shares[0, k])), int(np.floor(at_y + shares[1, k]))
                    w = int(np.floor(at_z + shares[2, k]))
                    if 0 <= w < nz and 0 <= u < nx and 0 <= v < ny and seen[u, v, w >> 6] >> np.uint64(w & 63) & one:
                        merged[i, j, k >> 6] |= bit
