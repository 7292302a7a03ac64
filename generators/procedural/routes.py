"""Paths that agents follow: lanes, turns at junctions, sampled at equal steps along their length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generators.procedural.roadmap import STOP_LINE, Floats, Junction, RoadMap

STEP = 0.5
LATERAL = 2.4
BRAKING = 2.0


@dataclass(frozen=True)
class Lane:
    """A lane of a street: its number in the map, the side (-1, +1) and the index from the centre line."""

    street: int
    side: int
    index: int


@dataclass(frozen=True, eq=False)
class Path:
    """A curve on the plane, one row every ``STEP`` metres.

    Attributes:
        xy: ``[n, 2]`` metres.
        uv: ``[n, 2]`` the same points in canonical coordinates.
        yaw: ``[n]`` heading, radians, unwrapped.
        limit: ``[n]`` speed that is comfortable in the bends ahead, m/s.
        stops: arc lengths of the stop lines at which the path has to wait in this clip.
        turn: arc length at which a turn begins and ends, or None.
    """

    xy: Floats
    uv: Floats
    yaw: Floats
    limit: Floats
    stops: tuple[float, ...]
    turn: tuple[float, float] | None = None

    @property
    def length(self) -> float:
        """Arc length, metres."""
        return (len(self.xy) - 1) * STEP

    def nearest(self, uv: tuple[float, float]) -> float:
        """Arc length of the point nearest to canonical coordinates."""
        return float(np.argmin(((self.uv - uv) ** 2).sum(axis=1))) * STEP


def make_path(
    city: RoadMap,
    uv: Floats,
    stops: list[tuple[float, float]],
    turn: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> Path:
    """A path through canonical points ``[n, 2]`` (a metre apart or less).

    Args:
        city: the map whose warp applies.
        uv: points in driving order.
        stops: canonical points of the stop lines at which to wait.
        turn: canonical points where the turn begins and ends.
    """
    xy = city.warp.to_real(uv)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    even = np.arange(0.0, s[-1], STEP)
    xy = np.stack([np.interp(even, s, xy[:, 0]), np.interp(even, s, xy[:, 1])], axis=1)
    uv = np.stack([np.interp(even, s, uv[:, 0]), np.interp(even, s, uv[:, 1])], axis=1)
    delta = np.gradient(xy, axis=0)
    yaw = np.unwrap(np.arctan2(delta[:, 1], delta[:, 0]))
    curvature = np.abs(np.gradient(yaw)) / STEP
    curvature = np.convolve(np.pad(curvature, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    energy = LATERAL / np.maximum(curvature, 1e-3)
    # The largest energy at each point from which braking still meets every limit further on.
    ramp = 2 * BRAKING * even
    energy = np.minimum.accumulate((energy + ramp)[::-1])[::-1] - ramp
    path = Path(xy, uv, yaw, np.sqrt(np.maximum(energy, 0.5)), ())
    found = tuple(path.nearest(p) for p in stops)
    ends = (path.nearest(turn[0]), path.nearest(turn[1])) if turn else None
    return Path(path.xy, path.uv, path.yaw, path.limit, found, ends)


class Routes:
    """Builds the paths of a city, each once."""

    def __init__(self, city: RoadMap) -> None:
        self.city = city
        self._paths: dict[tuple[Lane, Junction | None, int], Path] = {}

    def straight(self, lane: Lane) -> Path:
        """The path along a whole lane."""
        key = (lane, None, 0)
        if key not in self._paths:
            street = self.city.streets[lane.street]
            points = self._line(lane, street.lo, street.hi)
            stops = [p for j in self.city.on(lane.street) if (p := self.stop(lane, j))]
            self._paths[key] = make_path(self.city, points, stops)
        return self._paths[key]

    def turning(self, lane: Lane, junction: Junction, sign: int) -> Path | None:
        """The path that turns at a junction to the left (+1) or right (-1); None without such an arm.

        Left turns lead from the innermost lane to the innermost one, right turns from the outermost one
        to the outermost one, whatever the index of ``lane``.
        """
        city = self.city
        start = city.streets[lane.street]
        end_number = junction.b if start.axis == 0 else junction.a
        end = city.streets[end_number]
        d1 = start.direction(lane.side)
        d2 = d1 * sign if start.axis == 0 else -d1 * sign
        if (end.axis, d2) not in junction.arms or (start.axis, -d1) not in junction.arms:
            return None
        out = end.side(d2)
        first = 0 if sign > 0 else start.count(lane.side) - 1
        last = 0 if sign > 0 else end.count(out) - 1
        key = (Lane(lane.street, lane.side, first), junction, sign)
        if key in self._paths:
            return self._paths[key]
        c1, c2 = start.lane(lane.side, first), end.lane(out, last)
        if sign < 0:
            to_kerb = (abs(start.edge(lane.side) - c1), abs(end.edge(out) - c2))
            radius = junction.radius + max(to_kerb)
        else:
            radius = min(start.half(-lane.side), end.half(-out)) + 0.5 * start.lane_width + 1.5
        phi = np.linspace(0, np.pi / 2, 40)
        arc = np.empty((40, 2))
        arc[:, start.axis] = c2 + d1 * radius * (np.sin(phi) - 1)
        arc[:, end.axis] = c1 + d2 * radius * (1 - np.cos(phi))
        incoming = self._line(key[0], start.lo, start.hi)
        incoming = incoming[(arc[0, start.axis] - incoming[:, start.axis]) * d1 > 0.3]
        outgoing = self._line(Lane(end_number, out, last), end.lo, end.hi)
        outgoing = outgoing[(outgoing[:, end.axis] - arc[-1, end.axis]) * d2 > 0.3]
        here = city.along(junction, start.axis)
        stops = [
            p for j in city.on(lane.street) if (p := self.stop(lane, j)) and (city.along(j, start.axis) - here) * d1 < 1
        ]
        points = np.concatenate([incoming, arc, outgoing])
        ends = ((float(arc[0, 0]), float(arc[0, 1])), (float(arc[-1, 0]), float(arc[-1, 1])))
        self._paths[key] = make_path(city, points, stops, ends)
        return self._paths[key]

    def stop(self, lane: Lane, junction: Junction) -> tuple[float, float] | None:
        """The canonical point of the stop line before a junction, where the lane has to wait there."""
        street = self.city.streets[lane.street]
        direction = street.direction(lane.side)
        if junction.green == street.axis or (street.axis, -direction) not in junction.arms:
            return None
        return self.before(lane, junction, STOP_LINE)

    def before(self, lane: Lane, junction: Junction, distance: float) -> tuple[float, float]:
        """The canonical point on a lane ``distance`` metres before a junction's box."""
        street = self.city.streets[lane.street]
        direction = street.direction(lane.side)
        along = self.city.arm_start(junction, street.axis, -direction) - direction * distance
        across = street.lane(lane.side, lane.index)
        return (along, across) if street.axis == 0 else (across, along)

    def _line(self, lane: Lane, lo: float, hi: float) -> Floats:
        """Points a metre apart along a lane, in driving order ``[n, 2]``."""
        street = self.city.streets[lane.street]
        points = np.empty((int(hi - lo) + 1, 2))
        points[:, street.axis] = np.linspace(lo, hi, len(points))[:: street.direction(lane.side)]
        points[:, 1 - street.axis] = street.lane(lane.side, lane.index)
        return points
