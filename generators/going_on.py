"""Movers go on: who comes moving out of the frames of the chunk before, or is lost on its way, keeps that way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import columns_under, with_beside
from dyncity.metrics.vehicles import MOVING_SPEED, vehicle_ids
from dyncity.movers import without_movers
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy
from dyncity.tracks import Track, middle, tracks
from generators.degenerate import drivable_ids
from generators.standing_still import with_given

_ON_THE_ROAD = 0.5  # of its columns; with fewer a straight line has led it off a bend
_STEPS = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the one before, the longest first: who cannot go on brakes


@dataclass(frozen=True)
class _Step:
    """A vehicle in a new frame: its voxels ``[n, 3]``, and the tracks of who comes up too close to them."""

    frame: int
    voxels: NDArray[np.int64]
    gone: list[Track]


def going_on(
    volume: NDArray[np.uint8],
    given: NDArray[np.uint8] | None,
    shared: int,
    grid: GridSpec,
    labels: str,
    taken: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """A chunk in which vehicles that move in its shared frames keep their way in the frames after them.

    The network knows them and draws them again a step behind, slower, or merged with another. Each is put, frame after
    frame, where a straight line through its last three frames leads, in the shape of the last; what was decoded of it
    there goes, and so does who comes up in the new frames within a column of its place. Those whose way is free go
    first, then those who are held up: they brake, to three quarters of the step before or less, and stand where
    they cannot go. Where one would leave the grid or the road, or something has come to where it stands, it is left as
    decoded from then on.

    Args:
        volume: ``[t, x, y, z]`` class ids, fixed to the world; components of vehicles are single vehicles.
        given: ``[t, x, y, z]`` voxels that stay, 255 where none does; None: none do.
        shared: how many frames, from the first on, are the chunk's before.
        grid: of the volume.
        labels: the label space.
        taken: ``[t, x, y]`` columns that they keep out of, those of the ego; None: none are.
    """
    drive = _Drive(volume, given, grid, labels, taken)
    return drive.after_all_have_gone([(track, shared - 1) for track in drive.found])


def not_lost(
    volume: NDArray[np.uint8],
    given: NDArray[np.uint8] | None,
    grid: GridSpec,
    labels: str,
    taken: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """A volume in which vehicles that move go on, as ``going_on`` says, behind the frame in which they are lost.

    A car becomes a stub for a frame, which is taken for a motorcyclist, or one lump with another. What comes up where
    it should be goes. The same is done backwards in time for those that come up on their way.
    """
    for way in (slice(None), slice(None, None, -1)):
        told = None if given is None else given[way]
        held = None if taken is None else taken[: len(volume)][way]
        drive = _Drive(volume[way], told, grid, labels, held)
        lost = [(track, max(track)) for track in drive.found if max(track) < len(volume) - 1]
        volume = drive.after_all_have_gone(lost)[way]
    return volume


class _Drive:
    """The new frames while vehicles are put into them.

    Attributes:
        found: tracks of vehicles.
        decoded: ``[t, x, y, z]`` what was decoded, without those that have gone on and who came too close to them.
        put: ``[t, x, y, z]`` those that have gone on, 255 elsewhere.
    """

    def __init__(
        self,
        volume: NDArray[np.uint8],
        given: NDArray[np.uint8] | None,
        grid: GridSpec,
        labels: str,
        taken: NDArray[np.bool_] | None,
    ) -> None:
        vehicles = vehicle_ids(labels)
        others = [mover for mover in taxonomy(labels).movers if mover not in vehicles]
        self.found = tracks(np.isin(volume, vehicles), grid)
        self._all = [*self.found, *tracks(np.isin(volume, others), grid)]
        self._bare = without_movers(volume, labels)
        self._road = np.asarray(drivable_ids(labels)[self._bare].any(axis=-1))
        self._vehicles, self._free = np.isin(np.arange(256), vehicles), taxonomy(labels).free
        self._volume, self._grid = volume, grid
        self._given = np.full_like(volume, UNKNOWN) if given is None else given
        self._taken = np.zeros(volume.shape[:3], bool) if taken is None else taken
        self.decoded, self.put = volume.copy(), np.full_like(volume, UNKNOWN)

    def after_all_have_gone(self, ends: list[tuple[Track, int]]) -> NDArray[np.uint8]:
        """The volume after all who come moving to a frame have gone on behind it, those first whose way is free."""
        waiting = [(track, end) for track, end in ends if _comes_moving(track, end, self._grid)]
        went = True
        while went:
            held_up = [(track, end) for track, end in waiting if not self._go(track, end, brakes=False)]
            went, waiting = len(held_up) < len(waiting), held_up
        for track, end in waiting:
            self._go(track, end, brakes=True)
        return with_given(with_given(self.decoded, self.put), self._given)

    def _go(self, track: Track, end: int, brakes: bool) -> bool:
        """Let a vehicle go on behind a frame; without ``brakes`` only if nothing is in its way. Whether it went."""
        told = {t: piece for t, piece in track.items() if t <= end}
        last, edges = told[end], np.array(self._grid.voxel_size[:2])
        place, speed = last.middle, middle(told, end + 1) - last.middle
        steps: list[_Step] = []
        for t in range(end + 1, len(self._volume)):
            for share in _STEPS if brakes else _STEPS[:1]:
                # Halves of voxels are common: the tail of a float must not decide which way they go.
                moved = np.rint(np.round((place + share * speed - last.middle) / edges, 6)).astype(int)
                voxels = last.voxels + np.array([*moved, 0])
                if not self._leads_on(voxels):
                    return self._gone_on(track, end, steps)
                step = self._step(track, end, t, voxels)
                if step is not None:
                    break
            if step is None:
                return brakes and self._gone_on(track, end, steps)
            steps.append(step)
            speed = share * speed
            place = place + speed
        return self._gone_on(track, end, steps)

    def _leads_on(self, voxels: NDArray[np.int64]) -> bool:
        """Whether voxels are on the grid, and on the road."""
        columns = voxels[:, :2]
        if not ((columns >= 0) & (columns < self._grid.shape[:2])).all():
            return False
        return bool(self._road[tuple(columns_under(columns).T)].mean() >= _ON_THE_ROAD)

    def _step(self, track: Track, end: int, t: int, voxels: NDArray[np.int64]) -> _Step | None:
        """A vehicle at a place in frame ``t``; None where something is in its way, or a vehicle right beside it."""
        at = tuple(voxels.T)
        columns = np.zeros(self._grid.shape[:2], bool)
        columns[at[:2]] = True
        near = with_beside(columns)
        new = [other for other in self._all if t in other and min(other) > end]
        gone = [other for other in new if near[tuple(other[t].voxels[:, :2].T)].any()]
        here = _without([track, *gone], t, self.decoded[t], self._bare)
        held = (here[at] != self._free) | (self._given[t][at] != UNKNOWN) | (self.put[t][at] != UNKNOWN)
        beside = self._vehicles[here[near]].any() or (self.put[t][near] != UNKNOWN).any()
        return None if held.any() or beside or (columns & self._taken[t]).any() else _Step(t, voxels, gone)

    def _gone_on(self, track: Track, end: int, steps: list[_Step]) -> bool:
        """Put a vehicle, as it looks in its last frame, where it goes; True."""
        look = self._volume[end][tuple(track[end].voxels.T)]
        for step in steps:
            for t in range(len(self._volume)):
                self.decoded[t] = _without(step.gone, t, self.decoded[t], self._bare)
            self.decoded[step.frame] = _without([track], step.frame, self.decoded[step.frame], self._bare)
            self.put[step.frame][tuple(step.voxels.T)] = look
        return True


def _comes_moving(track: Track, to: int, grid: GridSpec) -> bool:
    """Whether it moved over the two steps to a frame, as ``dyncity.metrics.vehicles`` says it."""
    if not {to, to - 2} <= track.keys():
        return False
    way = float(np.linalg.norm(track[to].middle - track[to - 2].middle))
    return way > max(2 * MOVING_SPEED / grid.frame_rate, float(np.hypot(*grid.voxel_size[:2])))


def _without(gone: list[Track], t: int, frame: NDArray[np.uint8], bare: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame without what some tracks hold in it."""
    emptied = frame.copy()
    for at in (tuple(track[t].voxels.T) for track in gone if t in track):
        emptied[at] = bare[at]
    return emptied
