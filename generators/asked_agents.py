"""Who was asked for is there: agents of a layout that are not decoded at their place are drawn as it asks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import LAYOUT_CLASSES, Layout
from dyncity.grid import GridSpec
from dyncity.layout import MOVING, members
from dyncity.metrics.components import components, with_beside
from dyncity.metrics.vehicles import footprint
from dyncity.movers import without_movers
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy
from dyncity.tracks import Piece, Track, tracks
from generators.specks import GROUNDS

_HELD = 0.5  # of the columns of a place; more of them hold who was asked for, or it is drawn
# What somebody is drawn as of whom no frame tells: the widest and longest that it may be, its height in metres, names.
_KINDS = {
    "vehicle": (
        (1.2, 3.2, 1.7, ("cyclist", "bicyclist", "bicycle")),
        (4.0, 6.5, 1.6, ("car", "vehicle")),
        (np.inf, np.inf, 3.0, ("truck", "vehicle")),
    ),
    "pedestrian": ((np.inf, np.inf, 1.7, ("pedestrian", "person")),),
}


def with_asked(
    volume: NDArray[np.uint8], layout: Layout | None, grid: GridSpec, labels: str, given: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """A volume with everybody that a layout asks for, as far as nothing is in the way.

    A place is a piece of a map in one frame, followed over the frames. Where no more than half of its columns hold its
    class, what of that class touches it or is beside it goes, and its columns are filled upwards from the ground: with
    the class and height that it has in the other frames, else by its size. Where one of those voxels is not free, the
    frame stays as it is.

    Args:
        volume: ``[t, x, y, z]`` class ids.
        layout: on the grid of the volume, or None.
        grid: of the volume.
        labels: the label space.
        given: ``[t, x, y, z]`` voxels that stay, 255 where none does; None: no voxel does.
    """
    if layout is None or not layout.given[MOVING:].any():
        return volume
    result, bare, tables = volume.copy(), without_movers(volume, labels), members(labels)
    ground = _ground(bare, grid, labels)
    for number in range(MOVING, len(tables)):
        ids = np.flatnonzero(tables[number])
        maps = layout.maps[number]
        if not layout.given[number] or not len(ids):
            continue
        seen = tables[number][volume]
        holds = seen.any(axis=-1)
        for place in tracks(maps[..., None], grid):
            held = {t: piece for t, piece in place.items() if holds[t][_columns(piece)].mean() > _HELD}
            kind, height = _look(volume, seen, held) if held else _by_size(LAYOUT_CLASSES[number], place, grid, labels)
            for t in sorted(place.keys() - held.keys()):
                frame = _emptied(result[t], place[t], maps[t], tables[number], bare)
                low = ground[_columns(place[t])] + 1
                x, y = (np.repeat(axis, height) for axis in _columns(place[t]))
                z = (low[:, None] + np.arange(height)).ravel()
                at = (x[z < frame.shape[2]], y[z < frame.shape[2]], z[z < frame.shape[2]])
                stays = given is not None and (given[t][at] != UNKNOWN).any()
                if len(at[2]) and not stays and (frame[at] == taxonomy(labels).free).all():
                    frame[at] = kind
                    result[t] = frame
    return result if given is None else np.where(given == UNKNOWN, result, given)


def columns_held(
    volume: NDArray[np.uint8], layout: Layout | None, labels: str, frames: slice = slice(None)
) -> dict[str, int]:
    """How many columns of some frames of a volume ``[t, x, y, z]`` are asked to hold a moving class, and how many do.

    By name: ``asked_pedestrian_columns``, ``decoded_pedestrian_columns``; nothing of a class that is asked for nowhere.
    """
    counts: dict[str, int] = {}
    for number, name in list(enumerate(LAYOUT_CLASSES))[MOVING:]:
        if layout is None or not layout.given[number]:
            continue
        asked = layout.maps[number, frames]
        if asked.any():
            found = members(labels)[number][volume[frames]].any(axis=-1) & asked
            counts |= {f"asked_{name}_columns": int(asked.sum()), f"decoded_{name}_columns": int(found.sum())}
    return counts


def _columns(piece: Piece) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return piece.voxels[:, 0], piece.voxels[:, 1]


def _ground(bare: NDArray[np.uint8], grid: GridSpec, labels: str) -> NDArray[np.int64]:
    """``[x, y]``: the layer of the ground, where there is none that of the height 0, which is the road."""
    space, level = taxonomy(labels), int(grid.index(np.array([grid.axis(0)[0], grid.axis(1)[0], 0.0]))[0][2])
    solid = np.isin(bare, [space.id(name) for name in (*GROUNDS, "lane_marking") if name in space.classes])
    highest = solid.shape[2] - 1 - solid[..., ::-1].argmax(axis=2)
    return np.where(solid.any(axis=2), highest, level)


def _look(volume: NDArray[np.uint8], seen: NDArray[np.bool_], held: Track) -> tuple[int, int]:
    """Class and height in voxels of somebody in the frames that hold it: those of most of its voxels and columns."""
    ids, heights = [], []
    for t, piece in held.items():
        at = _columns(piece)
        ids.append(volume[t][at][seen[t][at]])
        heights.append(seen[t][at].sum(axis=-1))
    tall = np.concatenate(heights)
    return int(np.bincount(np.concatenate(ids)).argmax()), int(np.bincount(tall[tall > 0]).argmax())


def _by_size(name: str, place: Track, grid: GridSpec, labels: str) -> tuple[int, int]:
    """Class and height in voxels of somebody of whom only the columns are known."""
    edges, space = np.array(grid.voxel_size), taxonomy(labels)
    largest = max(place.values(), key=lambda piece: len(piece.voxels))
    length, width = footprint(largest.voxels[:, :2] * edges[:2], edges)[0]
    fitting = next(row for row in _KINDS[name] if width <= row[0] and length <= row[1])
    known = [c for c in fitting[3] if c in space.classes]
    others = np.flatnonzero(members(labels)[LAYOUT_CLASSES.index(name)])
    return space.id(known[0]) if known else int(others[0]), max(1, round(fitting[2] / edges[2]))


def _emptied(
    frame: NDArray[np.uint8],
    piece: Piece,
    asked: NDArray[np.bool_],
    table: NDArray[np.bool_],
    bare: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """A frame without who is at a place or beside it; who is in somebody else's asked columns too stays."""
    own = np.zeros_like(asked)
    own[_columns(piece)] = True
    near, emptied = with_beside(own), frame.copy()
    for part in components(table[frame]):
        at = part[:, 0], part[:, 1]
        if near[at].any() and not (asked & ~own)[at].any():
            emptied[tuple(part.T)] = bare[tuple(part.T)]
    return emptied
