"""Cuboids as tracks in the city: numbers, classes, and what stands still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.argoverse2.categories import native_id
from dyncity.datasets.argoverse2.log import Log
from dyncity.errors import InputError
from dyncity.taxonomy import NATIVE

STILL = 1.0  # metres; a track whose centres stay this close to their median stands still
MAX_TRACKS = 65535


@dataclass(frozen=True, slots=True)
class Placed:
    """Cuboids in the city frame, one a row.

    Attributes:
        track: int32 ``[n]`` numbers from 1. label: uint8 ``[n]`` native class ids.
        city_from_box: float64 ``[n, 4, 4]``. size: float64 ``[n, 3]`` length, width, height, metres.
    """

    track: NDArray[np.int32]
    label: NDArray[np.uint8]
    city_from_box: NDArray[np.float64]
    size: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.track)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Placed:
        """Some of the rows."""
        return Placed(self.track[rows], self.label[rows], self.city_from_box[rows], self.size[rows])

    def holds(self, row: int, points: NDArray[np.floating], grow: float = 0.0) -> NDArray[np.bool_]:
        """Which city points ``[..., 3]`` lie in cuboid ``row``, grown by ``grow`` metres on every side."""
        pose = self.city_from_box[row]
        local = np.abs((points - pose[:3, 3]) @ pose[:3, :3])
        x, y, z = self.size[row] / 2 + grow
        return (local[..., 0] <= x) & (local[..., 1] <= y) & (local[..., 2] <= z)


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of a log.

    Attributes:
        times: int64 ``[n]`` ns, one a row of ``placed``, sorted.
        placed: every cuboid where it was annotated.
        still: one cuboid a track that stands still, its best seen one.
        fixed: int32 track numbers of those of ``still`` that no mover's class has: cones, signs,
            bollards. They belong to the static world and are there in every frame.
    """

    times: NDArray[np.int64]
    placed: Placed
    still: Placed
    fixed: NDArray[np.int32]

    def at(self, time: int) -> Placed:
        """The cuboids annotated at a time."""
        start, end = np.searchsorted(self.times, [time, time + 1])
        return self.placed.take(np.arange(start, end))

    def around(self, time: int) -> Placed:
        """The cuboids of the last annotated time up to ``time`` and of the first one from it on."""
        known = np.unique(self.times)
        near = {
            int(known[i])
            for i in (known.searchsorted(time, "right") - 1, known.searchsorted(time))
            if 0 <= i < len(known)
        }
        return self.placed.take(np.isin(self.times, sorted(near)))


def read_tracks(log: Log) -> Tracks:
    """The tracks of a log, numbered by their first time, then by name.

    Raises:
        InputError: more tracks than 16 bits can number, a track twice at one time.
    """
    rows = log.cuboids
    order = np.lexsort((rows.track.astype(str), rows.time)) if len(rows.time) else np.empty(0, np.intp)
    time, names, category = rows.time[order], rows.track[order], rows.category[order]
    size, points = rows.size[order], rows.points[order]
    moments, which = np.unique(time, return_inverse=True)
    city_from_box = log.city_from_ego(moments)[which] @ rows.ego_from_box[order]
    number: dict[str, int] = {}
    track = np.array([number.setdefault(str(name), len(number) + 1) for name in names], np.int32)
    if len(number) > MAX_TRACKS:
        raise InputError(log.annotations_path, f"{len(number)} tracks", f"give at most {MAX_TRACKS} a log")
    if len(np.unique(np.stack([time, track]), axis=1).T) != len(time):
        raise InputError(log.annotations_path, "a track has two cuboids at one time", "keep one of them")

    label = np.zeros(len(track), np.uint8)
    best, fixed = [], []
    for index in range(1, len(number) + 1):
        own = np.flatnonzero(track == index)
        centers = city_from_box[own, :3, 3]
        moves = bool(np.linalg.norm(centers - np.median(centers, axis=0), axis=1).max() > STILL)
        label[own] = native_id(str(category[own[0]]), moves)
        if not moves:
            best.append(own[points[own].argmax()])
            if label[own[0]] not in NATIVE.movers:
                fixed.append(index)
    placed = Placed(track, label, city_from_box, size)
    return Tracks(time, placed, placed.take(np.array(best, np.intp)), np.array(fixed, np.int32))
