"""Where the ego starts and which path it takes, so that it does what it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dyncity.conditions import Command, nearest_axis
from generators.procedural.roadmap import PARKING_WIDTH, STOP_LINE, Floats, RoadMap
from generators.procedural.routes import STEP, Lane, Path, Routes, make_path

SIZE = (4.6, 1.9, 1.6)
TRIES = 6
_CLEAR = 2.0  # metres from a turn to where the street is straight


@dataclass(frozen=True, eq=False)
class EgoPlan:
    """The ego's part in the traffic.

    Attributes:
        path, start: the path it follows and its arc length at the first frame.
        speed, desired: at the first frame and without anyone ahead, m/s.
        still: whether it stands for the whole clip.
        lane: the lane it is on; None at the kerb.
        routes: the paths of the city with the lights as the ego needs them.
    """

    path: Path
    start: float
    speed: float
    desired: float
    still: bool
    lane: Lane | None
    routes: Routes

    def pose(self, s: Floats) -> Floats:
        """``[n]`` arc lengths -> ``[n, 3]`` x, y, yaw."""
        at = np.arange(len(self.path.xy)) * STEP
        return np.stack([np.interp(s, at, c) for c in (*self.path.xy.T, self.path.yaw)], axis=1)

    def grid_yaw(self, yaw: float) -> float:
        """How far the street lies from an ego that heads for ``yaw`` (``Conditions.grid_yaw``), radians.

        Who does not turn drives along the street. In a turn it is the street that leads into it or the one that leads
        out of it, whichever of the four directions of its lattice is nearest.
        """
        if self.path.turn is None:
            return 0.0
        begin, end = self.path.turn
        streets = self.pose(np.array([begin - _CLEAR, end + _CLEAR]))[:, 2]
        return min((nearest_axis(street - yaw) for street in streets.tolist()), key=abs)


def draw_command(rng: np.random.Generator) -> Command:
    """A command where none is asked for: mostly forward."""
    options: tuple[Command, ...] = ("static", "forward", "left", "right")
    return options[int(rng.choice(4, p=(0.15, 0.45, 0.2, 0.2)))]


def plan_ego(city: RoadMap, command: Command, rng: np.random.Generator, duration: float) -> EgoPlan | None:
    """A start and a path for a command near the junction at (0, 0); sets that junction's lights.

    Args:
        city: its junctions are changed so that the lights suit the ego.
        command: what the ego does.
        rng: the EGO stream.
        duration: of the clip, seconds.

    Returns:
        The plan, or None where this city has no place for it.
    """
    if command == "forward":
        return _forward(city, rng, duration)
    if command == "static":
        parked = _parked(city, rng) if rng.random() < 0.35 else None
        return parked or _waiting(city, rng)
    return _turning(city, 1 if command == "left" else -1, rng, duration)


def _main(city: RoadMap, axis: int) -> int:
    return next(k for k, s in enumerate(city.streets) if s.axis == axis and s.center == 0)


def _light(city: RoadMap, number: int, green: int, only_at_origin: bool = False) -> None:
    """Set the green axis of the junctions of a street, or of the one at (0, 0)."""
    for k, j in enumerate(city.junctions):
        if number in (j.a, j.b) and (not only_at_origin or city.at(j) == (0.0, 0.0)):
            city.junctions[k] = replace(j, green=green)


def _lane(city: RoadMap, number: int, rng: np.random.Generator) -> Lane:
    side = int(rng.choice([-1, 1]))
    return Lane(number, side, int(rng.integers(city.streets[number].count(side))))


def _forward(city: RoadMap, rng: np.random.Generator, duration: float) -> EgoPlan | None:
    cross = city.streets[_main(city, 1)]
    # The other main street may end at the junction; then the first one is taken.
    axis = int(rng.random() < 0.35 and min(cross.hi, -cross.lo) > 1)
    number = _main(city, axis)
    street = city.streets[number]
    lane = _lane(city, number, rng)
    _light(city, number, axis)
    routes = Routes(city)
    path = routes.straight(lane)
    across = street.lane(lane.side, lane.index)
    for along in rng.uniform(-55, 55, TRIES):
        start = path.nearest((along, across) if axis == 0 else (across, along))
        desired = float(rng.uniform(5.0, 13.9))
        speed = min(desired * float(rng.uniform(0.75, 1.0)), float(path.limit[int(start / STEP)]))
        # On a bend the ego would turn without being told to.
        first = int(start / STEP)
        driven = path.yaw[first : first + int(desired * duration / STEP) + 2]
        if np.abs(driven - driven[0]).max() < np.deg2rad(9):
            return EgoPlan(path, start, speed, desired, False, lane, routes)
    return None


def _turning(city: RoadMap, sign: int, rng: np.random.Generator, duration: float) -> EgoPlan | None:
    options = [(axis, side) for axis in (0, 1) for side in (-1, 1)]
    for k in rng.permutation(4):
        axis, side = options[int(k)]
        number = _main(city, axis)
        _light(city, number, axis, only_at_origin=True)
        routes = Routes(city)
        junction = next(j for j in city.junctions if city.at(j) == (0.0, 0.0))
        street = city.streets[number]
        lane = Lane(number, side, 0 if sign > 0 else street.count(side) - 1)
        path = routes.turning(lane, junction, sign)
        if path is None or path.turn is None:
            continue
        begin, end = path.turn
        slow = float(path.limit[int((begin + end) / 2 / STEP)])
        before = min(14.0, 0.15 * slow * duration)
        start = begin + float(rng.uniform(-before, 0.3 * (end - begin)))
        speed = float(path.limit[int(start / STEP)]) * float(rng.uniform(0.85, 1.0))
        return EgoPlan(path, start, speed, 13.0, False, lane, routes)
    return None


def _waiting(city: RoadMap, rng: np.random.Generator) -> EgoPlan | None:
    """At a red light, first to third in the queue."""
    axis = int(rng.random() < 0.4)
    number = _main(city, axis)
    junction = next(j for j in city.junctions if city.at(j) == (0.0, 0.0))
    lane = _lane(city, number, rng)
    if (axis, -city.streets[number].direction(lane.side)) not in junction.arms:
        return None
    _light(city, number, 1 - axis, only_at_origin=True)
    routes = Routes(city)
    junction = next(j for j in city.junctions if city.at(j) == (0.0, 0.0))
    path = routes.straight(lane)
    place = int(rng.choice([0, 1, 2], p=(0.4, 0.35, 0.25)))
    start = path.nearest(routes.before(lane, junction, STOP_LINE)) - 0.6 - SIZE[0] / 2 - 7.4 * place
    return EgoPlan(path, start, 0.0, 12.0, True, lane, routes)


def _parked(city: RoadMap, rng: np.random.Generator) -> EgoPlan | None:
    """At the kerb of a street with parking lanes."""
    axis = int(rng.random() < 0.4)
    number = _main(city, axis)
    street = city.streets[number]
    side = int(rng.choice([-1, 1]))
    if not street.parks(side):
        return None
    along = float(rng.uniform(22, 48) * rng.choice([-1, 1]))
    if not street.lo + 8 < along < street.hi - 8:
        return None
    points = np.empty((41, 2))
    points[:, axis] = along + np.linspace(-20, 20, 41) * street.direction(side)
    points[:, 1 - axis] = street.edge(side) - side * (PARKING_WIDTH / 2)
    path = make_path(city, points, [])
    return EgoPlan(path, 20.0, 0.0, 0.0, True, None, Routes(city))


def follow(trajectory: Floats, plan: EgoPlan) -> Floats:
    """``[t, 3]`` real poses of a given trajectory that begins where the plan begins."""
    x, y, yaw = plan.pose(np.array([plan.start]))[0]
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack(
        [
            x + cos * trajectory[:, 0] - sin * trajectory[:, 1],
            y + sin * trajectory[:, 0] + cos * trajectory[:, 1],
            yaw + trajectory[:, 2],
        ],
        axis=1,
    )


def misfit(trajectory: Floats, plan: EgoPlan) -> float:
    """Mean distance in metres between a given trajectory and the plan's path at the same mileage."""
    given = follow(trajectory, plan)
    driven = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(given[:, :2], axis=0).T))])
    path = plan.pose(plan.start + driven)
    return float(np.hypot(*(given[:, :2] - path[:, :2]).T).mean())


def swept(poses: Floats) -> Floats:
    """``[n, 2]`` real points a metre apart or less along the ego's axis, over all its poses ``[t, 3]``."""
    half = (SIZE[0] - SIZE[1]) / 2
    steps = np.linspace(0, len(poses) - 1, 4 * len(poses))
    x, y, yaw = (np.interp(steps, np.arange(len(poses)), c)[:, None] for c in poses.T)
    along = np.linspace(-half, half, 5)
    return np.stack([x + np.cos(yaw) * along, y + np.sin(yaw) * along], axis=-1).reshape(-1, 2)
