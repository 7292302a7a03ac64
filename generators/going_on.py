"""Movers go on at a seam: who comes moving out of the frames of the chunk before keeps its way in the new ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.vehicles import MOVING_SPEED, vehicle_ids
from dyncity.movers import without_movers
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy
from dyncity.tracks import Track, middle, tracks
from generators.degenerate import drivable_ids
from generators.laid_out import with_beside
from generators.standing_still import with_given

_ON_THE_ROAD = 0.5  # of its columns; with fewer a straight line has led it off a bend


def going_on(
    volume: NDArray[np.uint8], given: NDArray[np.uint8], shared: int, grid: GridSpec, labels: str
) -> NDArray[np.uint8]:
    """A chunk in which vehicles that move in its shared frames keep their way in the frames after them.

    The network knows them and draws them again a step behind, slower, or merged with another. Each is put, frame after
    frame, where a straight line through its last three frames leads, in the shape of the last; what was decoded of it
    there goes, and so does who comes up in the new frames within a column of its place. Where it would leave the grid
    or the road, or something given, what stands or another vehicle is in its way, it is left as decoded from then on.

    Args:
        volume: ``[t, x, y, z]`` class ids, fixed to the world; components of vehicles are single vehicles.
        given: ``[t, x, y, z]`` voxels that stay, 255 where none does.
        shared: how many frames, from the first on, are the chunk's before.
        grid: of the volume.
        labels: the label space.
    """
    found, bare = tracks(np.isin(volume, vehicle_ids(labels)), grid), without_movers(volume, labels)
    decoded, put = volume.copy(), np.full_like(volume, UNKNOWN)
    road = np.asarray(drivable_ids(labels)[bare].any(axis=-1))
    edges, free = np.array(grid.voxel_size[:2]), taxonomy(labels).free
    strangers = [track for track in found if min(track) >= shared]
    for track in (track for track in found if _comes_moving(track, shared, grid)):
        told = {t: piece for t, piece in track.items() if t < shared}
        last = told[shared - 1]
        look = volume[shared - 1][tuple(last.voxels.T)]
        for t in range(shared, len(volume)):
            # Halves of voxels are common: the tail of a float must not decide which way they go.
            moved = np.rint(np.round((middle(told, t) - last.middle) / edges, 6)).astype(int)
            place = last.voxels + np.array([*moved, 0])
            if not ((place[:, :2] >= 0) & (place[:, :2] < grid.shape[:2])).all():
                break
            at = tuple(place.T)
            columns = np.zeros(grid.shape[:2], bool)
            columns[at[:2]] = True
            near = with_beside(columns[None])[0]
            gone = [other for other in strangers if t in other and near[tuple(other[t].voxels[:, :2].T)].any()]
            here = _without([track, *gone], t, decoded[t], bare)
            blocked = (here[at] != free) | (given[t][at] != UNKNOWN) | (put[t][at] != UNKNOWN)
            if road[columns].mean() < _ON_THE_ROAD or blocked.any():
                break
            for k in range(shared, len(volume)):
                decoded[k] = _without(gone, k, decoded[k], bare)
            decoded[t], put[t][at] = here, look
    return with_given(with_given(decoded, put), given)


def _comes_moving(track: Track, shared: int, grid: GridSpec) -> bool:
    """Whether it moved over the last two steps of the shared frames, as ``dyncity.metrics.vehicles`` says it."""
    if not {shared - 1, shared - 3} <= track.keys():
        return False
    way = float(np.linalg.norm(track[shared - 1].middle - track[shared - 3].middle))
    return way > max(2 * MOVING_SPEED / grid.frame_rate, float(np.hypot(*grid.voxel_size[:2])))


def _without(gone: list[Track], t: int, frame: NDArray[np.uint8], bare: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame without what some tracks hold in it."""
    emptied = frame.copy()
    for at in (tuple(track[t].voxels.T) for track in gone if t in track):
        emptied[at] = bare[at]
    return emptied
