"""What conditions ask that cannot all be: a path through a wall, agents in one another, a layout against given voxels.

They are found in the frame of the layout and of the given voxels, which places the grid of a clip; nothing is sampled.
``docs/conditions.md`` lists what counts, and what is refused as an error instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import Pose, path_on_grid
from dyncity.conditions import LAYOUT_CLASSES, Agent, Conditions, Layout
from dyncity.grid import GridSpec
from dyncity.layout import MOVING, covered_columns, layout_of
from dyncity.metrics.ego_path import CAR
from dyncity.scene import UNKNOWN

Found = tuple[str, int, float, float]  # what, frame, x, y

_ROAD = LAYOUT_CLASSES.index("road")
_SOLID = tuple(LAYOUT_CLASSES.index(name) for name in ("building", "vegetation"))
_BUILDING = LAYOUT_CLASSES.index("building")
_IN_THE_WAY = (*_SOLID, *range(MOVING, len(LAYOUT_CLASSES)))


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two things that are asked and cannot both be, in consecutive frames.

    Attributes:
        what: the two things, in words.
        first, last: the frames.
        x, y: a place of the first frame, metres, as the grid lies: at the ego of the clip's middle frame, turned to the
            street.
    """

    what: str
    first: int
    last: int
    x: float
    y: float

    def __str__(self) -> str:
        """One line with what, when and where."""
        when = f"frame {self.first}" if self.first == self.last else f"frames {self.first} to {self.last}"
        return f"{when}: {self.what}, at x {self.x:.1f}, y {self.y:.1f} m"


def contradictions(asked: Conditions, grid: GridSpec, labels: str, anchor: int | None) -> list[Contradiction]:
    """The contradictions of one scene's conditions, by kind and frame.

    Args:
        asked: the conditions in full; a path is checked where there is a trajectory.
        grid: of ``asked.given``, and of a layout that does not say its own.
        labels: the label space of ``asked.given``.
        anchor: the frame whose ego pose places the grid, or None: each frame's own.
    """
    if asked.layout is None and asked.given is None:
        return []
    path = [] if asked.trajectory is None else path_on_grid(asked.trajectory, anchor, asked.grid_yaw)
    found: list[Found] = []
    if asked.layout is not None:
        found += _path_in_layout(path, asked.layout, asked.layout.grid or grid)
        found += _path_in_agents(path, asked.layout.agents)
        found += _agents_in_agents(asked.layout.agents, asked.layout.maps.shape[1])  # the same in every scene
        found += _movers_in_buildings(asked.layout, asked.layout.grid or grid)
    if asked.given is not None:
        found += _path_in_given(path, asked.given, grid, labels)
    if asked.layout is not None and asked.given is not None:
        found += _layout_in_given(asked.layout, asked.given, grid, labels)
    return _runs(found)


def _path_in_layout(path: list[Pose], layout: Layout, grid: GridSpec) -> Iterator[Found]:
    """Columns under the ego that are asked to be solid, or somebody. Under trees above a road it can drive."""
    maps = layout.maps & layout.given[:, None, None, None]
    for number in _SOLID if layout.agents else _IN_THE_WAY:  # agents are looked at by themselves
        blocked = maps[number] & ~maps[_ROAD] if number in _SOLID else maps[number]
        what = f"the path leads through columns asked to be {LAYOUT_CLASSES[number]}"
        yield from _under_the_ego(what, path, blocked, grid)


def _path_in_given(path: list[Pose], given: NDArray[np.uint8], grid: GridSpec, labels: str) -> Iterator[Found]:
    """Given voxels that are solid, or somebody, where the ego's body is to be."""
    heights = (grid.axis(2) > 0) & (grid.axis(2) < CAR[2])
    maps = layout_of(given[..., heights], labels).maps
    for number in _IN_THE_WAY:
        what = f"the path leads through given voxels of {LAYOUT_CLASSES[number]}"
        yield from _under_the_ego(what, path, maps[number], grid)


def _under_the_ego(what: str, path: list[Pose], blocked: NDArray[np.bool_], grid: GridSpec) -> Iterator[Found]:
    """The frames in which some column under the ego is ``blocked`` ``[t, x, y]``."""
    for t, at in enumerate(path):
        if blocked[t].any():
            yield from _places(what, t, blocked[t] & covered_columns(grid, CAR[:2], at), grid)


def _path_in_agents(path: list[Pose], agents: tuple[Agent, ...]) -> Iterator[Found]:
    """Agents that the ego drives into."""
    for number, agent in enumerate(agents):
        for t, at in enumerate(path):
            x, y, yaw = agent.at(t)
            if _overlap(CAR[:2], at, agent.size, (x, y, yaw)):
                yield f"the path leads through agents[{number}] ({agent.kind})", t, x, y


@lru_cache(maxsize=1)
def _agents_in_agents(agents: tuple[Agent, ...], frames: int) -> tuple[Found, ...]:
    """Agents that stand in one another."""
    return tuple(_overlapping(agents, frames))


def _overlapping(agents: tuple[Agent, ...], frames: int) -> Iterator[Found]:
    reach = np.array([np.hypot(*agent.size) / 2 for agent in agents])
    for t in range(frames):
        places = [agent.at(t) for agent in agents]
        centers = np.array(places).reshape(-1, 3)[:, :2]
        for a in range(len(agents) - 1):
            near = np.linalg.norm(centers[a + 1 :] - centers[a], axis=1) < reach[a] + reach[a + 1 :]
            for b in (a + 1 + np.flatnonzero(near)).tolist():
                if _overlap(agents[a].size, places[a], agents[b].size, places[b]):
                    x, y = (centers[a] + centers[b]) / 2
                    yield f"agents[{a}] and agents[{b}] overlap", t, float(x), float(y)


def _movers_in_buildings(layout: Layout, grid: GridSpec) -> Iterator[Found]:
    """Columns that are asked to be a building, and somebody. Trees and signs may stand over both."""
    for number in range(MOVING, len(LAYOUT_CLASSES)):
        if layout.given[number] and layout.given[_BUILDING]:
            both = layout.maps[number] & layout.maps[_BUILDING]
            for t in np.flatnonzero(both.any(axis=(1, 2))).tolist():
                what = f"columns asked to be {LAYOUT_CLASSES[number]} are asked to be building"
                yield from _places(what, t, both[t], grid)


def _layout_in_given(layout: Layout, given: NDArray[np.uint8], grid: GridSpec, labels: str) -> Iterator[Found]:
    """Columns of which the layout says one thing and the given voxels another."""
    holds = layout_of(given, labels).maps
    known = (given != UNKNOWN).all(axis=-1)
    for number in np.flatnonzero(layout.given).tolist():
        name = LAYOUT_CLASSES[number]
        missing, extra = layout.maps[number] & known & ~holds[number], holds[number] & ~layout.maps[number]
        for t in range(len(given)):
            yield from _places(f"{name} is asked for where the given voxels have none", t, missing[t], grid)
            yield from _places(f"given voxels of {name} lie where none is asked for", t, extra[t], grid)


def _places(what: str, frame: int, columns: NDArray[np.bool_], grid: GridSpec) -> Iterator[Found]:
    """The first of some columns ``[x, y]`` of a frame, if there is any."""
    if columns.any():
        i, j = np.argwhere(columns)[0]
        yield what, frame, float(grid.axis(0)[i]), float(grid.axis(1)[j])


def _runs(found: list[Found]) -> list[Contradiction]:
    """What is found in frame after frame as one contradiction."""
    kinds: dict[str, list[Contradiction]] = {}
    for what, frame, x, y in found:
        merged = kinds.setdefault(what, [])
        if merged and merged[-1].last == frame - 1:
            merged[-1] = replace(merged[-1], last=frame)
        else:
            merged.append(Contradiction(what, frame, frame, x, y))
    return [one for merged in kinds.values() for one in merged]


def _overlap(size: tuple[float, float], at: Pose, other: tuple[float, float], there: Pose) -> bool:
    """Whether two boxes from above overlap: no side of either has the other one wholly beyond it."""
    a, b = _corners(size, at), _corners(other, there)
    for yaw in (at[2], there[2], at[2] + np.pi / 2, there[2] + np.pi / 2):
        axis = np.array([np.cos(yaw), np.sin(yaw)])
        if (a @ axis).max() <= (b @ axis).min() or (b @ axis).max() <= (a @ axis).min():
            return False
    return True


def _corners(size: tuple[float, float], at: Pose) -> NDArray[np.float64]:
    """The corners ``[4, 2]`` of a box from above."""
    x, y, yaw = at
    ahead, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    return np.array([(x, y) + a * size[0] / 2 * ahead + b * size[1] / 2 * left for a in (1, -1) for b in (1, -1)])
