"""Vehicles do not appear and vanish: those that were followed for some frames are there in all, the others in none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import with_beside
from dyncity.metrics.vehicles import TOP_SPEED, vehicle_ids
from dyncity.taxonomy import taxonomy
from dyncity.tracks import middle, tracks


def lasting_vehicles(volume: NDArray[np.uint8], grid: GridSpec, labels: str) -> NDArray[np.uint8]:
    """A volume ``[t, x, y, z]`` fixed to the world in which no vehicle appears or vanishes on its way.

    Vehicles are followed from frame to frame, over one frame in which they are missing too; each is of the class that
    most of its voxels are of in all frames. Where it is missing, before it is first found and after it was last, it is
    put where its way leads, in the shape of the nearest frame, if all of that place is free and on the grid, and no
    vehicle is right beside it: they would be one lump. What is found in one frame alone, out of reach of the sides, is
    taken out.

    Args:
        volume: class ids; components of vehicles are single vehicles (``generators.fragments``).
        grid: of the volume.
        labels: the label space.
    """
    ids, free = vehicle_ids(labels), taxonomy(labels).free
    edges, found = np.array(grid.voxel_size[:2]), tracks(np.isin(volume, ids), grid)
    vehicles = np.isin(np.arange(256), ids)
    reach = TOP_SPEED / grid.frame_rate / edges  # voxels that anybody gets from one frame to the next
    result, sides = volume.copy(), np.array(volume.shape[1:3])
    for track in (t for t in found if len(t) == 1):
        ((t, piece),) = track.items()
        if _inside(piece.voxels[:, :2], reach, sides):
            result[t][tuple(piece.voxels.T)] = free
    for track in (t for t in found if len(t) > 1):
        kind = np.bincount(np.concatenate([volume[t][tuple(p.voxels.T)] for t, p in track.items()])).argmax()
        first, last = min(track), max(track)
        for frames in (range(first, last + 1), range(last + 1, len(volume)), range(first - 1, -1, -1)):
            for t in frames:
                piece = track[min(track, key=lambda k: abs(k - t))]
                # Halves of voxels are common: the tail of a float must not decide which way they go.
                moved = np.rint(np.round((middle(track, t) - piece.middle) / edges, 6)).astype(int)
                at = piece.voxels + np.array([*moved, 0])
                if t in track or _has_room(at, result[t], vehicles, free):
                    result[t][tuple(at.T)] = kind
                elif not first < t < last:
                    break  # it went on behind what stands there
    return result


def _has_room(at: NDArray[np.int64], frame: NDArray[np.uint8], vehicles: NDArray[np.bool_], free: int) -> bool:
    """Whether voxels ``[n, 3]`` are on the grid, and free, and no vehicle is within a column of them."""
    if not _inside(at[:, :2], np.zeros(2), np.array(frame.shape[:2])) or (frame[tuple(at.T)] != free).any():
        return False
    columns = np.zeros(frame.shape[:2], bool)
    columns[at[:, 0], at[:, 1]] = True
    return not vehicles[frame[with_beside(columns)]].any()


def _inside(columns: NDArray[np.int64], border: NDArray[np.float64], sides: NDArray[np.int64]) -> bool:
    """Whether columns ``[n, 2]`` are all on the grid, and farther than ``border`` from its sides."""
    return bool(((columns >= border) & (columns < sides - border)).all())
