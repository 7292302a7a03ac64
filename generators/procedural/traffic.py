"""Vehicles in motion: spawned on lanes and turns, driven by the intelligent driver model.

Each vehicle looks along its own path; whatever stands on it within 45 m (another vehicle, the ego, a
pedestrian, also one who is about to step there) is what it follows or stops for. A red light is a
standing obstacle at the stop line. Model: Treiber, Hennecke, Helbing 2000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generators.procedural.agents import KINDS, Agents, compatible, draw_kind, draw_size
from generators.procedural.ego import SIZE, EgoPlan
from generators.procedural.roadmap import STOP_LINE, Floats, Junction, RoadMap, Street
from generators.procedural.routes import STEP, Lane, Path
from generators.procedural.static import StaticWorld

ACCELERATION, DECELERATION, HEADWAY, STANDSTILL = 1.8, 2.5, 1.1, 2.0
LOOK, SPACING = 30, 1.5
SUBSTEP = 0.2
STRAIGHT = {"car": 0.68, "truck": 0.08, "bus": 0.06, "other_vehicle": 0.07, "motorcyclist": 0.06, "cyclist": 0.05}
# Long vehicles do not turn.
SHORT = {"car": 0.80, "other_vehicle": 0.08, "motorcyclist": 0.06, "cyclist": 0.06}


@dataclass
class Driver:
    """A vehicle before the clip begins: its path, arc length of its centre, kind, size, desired speed."""

    path: Path
    s: float
    kind: str
    size: tuple[float, float, float]
    desired: float


def spawn(city: RoadMap, plan: EgoPlan, world: StaticWorld, rng: np.random.Generator) -> list[Driver]:
    """Vehicles on all lanes of the visible streets and in the turns of its junctions."""
    found: list[Driver] = []
    busy = float(rng.uniform(10, 40))
    for junction in city.junctions:
        found += _in_turns(city, plan, world, rng, junction)
    for number, street in enumerate(city.streets):
        if street.axis == 0 and not world.lo[1] < street.center < world.hi[1]:
            continue
        if street.axis == 1 and not world.lo[0] < street.center < world.hi[0]:
            continue
        for side in (-1, 1):
            for index in range(street.count(side)):
                found += _on_lane(city, plan, world, rng, Lane(number, side, index), street, busy)
    return found


def _draw(rng: np.random.Generator, path: Path, s: float, straight: bool) -> Driver:
    kind = draw_kind(rng, STRAIGHT if straight else SHORT)
    return Driver(path, s, kind, draw_size(rng, kind), float(rng.uniform(*KINDS[kind][3])))


def _visible(world: StaticWorld, path: Path, s: float) -> bool:
    u, v = path.uv[min(int(s / STEP), len(path.uv) - 1)]
    return bool(world.lo[0] < u < world.hi[0] and world.lo[1] < v < world.hi[1])


def _in_turns(
    city: RoadMap, plan: EgoPlan, world: StaticWorld, rng: np.random.Generator, junction: Junction
) -> list[Driver]:
    """Vehicles that are turning when the clip begins, from the arms that have green."""
    u, v = city.at(junction)
    if not world.sees((u - 15, v - 15), (u + 15, v + 15)):
        return []
    number = junction.a if junction.green == 0 else junction.b
    found = []
    for side in (-1, 1):
        for sign in (-1, 1):
            if rng.random() > 0.35:
                continue
            path = plan.routes.turning(Lane(number, side, 0), junction, sign)
            if path is not None and path.turn is not None:
                s = float(rng.uniform(path.turn[0] - 6, path.turn[1] + 2))
                found.append(_draw(rng, path, s, straight=False))
    return found


def _on_lane(
    city: RoadMap,
    plan: EgoPlan,
    world: StaticWorld,
    rng: np.random.Generator,
    lane: Lane,
    street: Street,
    busy: float,
) -> list[Driver]:
    """Vehicles along a lane from its end to its beginning, queues at red lights, some about to turn."""
    path = plan.routes.straight(lane)
    ends = [j for j in city.on(lane.street) if (street.axis, street.direction(lane.side)) not in j.arms]
    found: list[Driver] = []
    front, queue = path.length - float(rng.uniform(0, busy)), 0
    while front > 8:
        if not _visible(world, path, front):
            front -= 8.0
            continue
        # Short vehicles only where the ego may stand in the queue, so that its place is not taken.
        driver = _draw(rng, path, 0.0, straight=lane != plan.lane)
        for stop in path.stops:
            if stop - 0.3 < front < stop + 2 * STOP_LINE + 18 + driver.size[0]:
                front, queue = stop - float(rng.uniform(0.3, 1.2)), int(rng.integers(1, 5))
        driver.s = front - driver.size[0] / 2
        turned = _maybe_turn(city, plan, rng, lane, driver, bool(ends))
        if turned is not None:
            found.append(turned)
        queue -= 1
        front -= driver.size[0] + float(rng.uniform(1.6, 3.0) if queue > 0 else rng.uniform(5, 8 + 2 * busy))
    return found


def _maybe_turn(
    city: RoadMap, plan: EgoPlan, rng: np.random.Generator, lane: Lane, driver: Driver, must: bool
) -> Driver | None:
    """The driver, on a turning path where it turns at the next junction; None where it cannot go on."""
    street = city.streets[lane.street]
    direction = street.direction(lane.side)
    here = driver.path.uv[min(max(int(driver.s / STEP), 0), len(driver.path.uv) - 1), street.axis]
    ahead = [j for j in city.on(lane.street) if (city.along(j, street.axis) - here) * direction > 14]
    if not ahead:
        return None if must else driver
    junction = min(ahead, key=lambda j: abs(city.along(j, street.axis) - here))
    dead_end = (street.axis, direction) not in junction.arms
    if not dead_end and (driver.size[0] > 6.5 or rng.random() > 0.35):
        return driver
    signs = [1] * (lane.index == 0) + [-1] * (lane.index == street.count(lane.side) - 1)
    for k in rng.permutation(len(signs)):
        path = plan.routes.turning(lane, junction, signs[int(k)])
        if path is not None and path.turn is not None and driver.s < path.turn[0] - 1:
            if driver.size[0] > 6.5:
                driver.kind, driver.size = "car", draw_size(rng, "car")
            return Driver(path, driver.s, driver.kind, driver.size, driver.desired)
    return None if dead_end else driver


class Simulation:
    """Drives the vehicles of a clip; row 0 is the ego.

    Args:
        plan: the ego's.
        drivers: the other vehicles.
        walkers: ``[p, steps, 2]`` positions of pedestrians at every substep.
        ego: ``[steps, 3]`` where the ego's motion is given, else None.
        step: seconds a substep.
    """

    def __init__(self, plan: EgoPlan, drivers: list[Driver], walkers: Floats, ego: Floats | None, step: float) -> None:
        everyone = [Driver(plan.path, plan.start, "car", SIZE, plan.desired), *drivers]
        everyone = [d for k, d in enumerate(everyone) if k == 0 or 3 < d.s < d.path.length - 3]
        paths = list({id(d.path): d.path for d in everyone}.values())
        number = {id(p): k for k, p in enumerate(paths)}
        longest = max(len(p.xy) for p in paths)

        def pack(values: list[Floats]) -> Floats:
            return np.stack([np.pad(v, (0, longest - len(v)), mode="edge") for v in values])

        self.x, self.y = pack([p.xy[:, 0] for p in paths]), pack([p.xy[:, 1] for p in paths])
        self.heading, self.limit = pack([p.yaw for p in paths]), pack([p.limit for p in paths])
        stops = [p.stops + (np.inf,) * (12 - len(p.stops)) for p in paths]
        self.kind = [d.kind for d in everyone]
        self.size = np.array([d.size for d in everyone])
        self.path = np.array([number[id(d.path)] for d in everyone])
        self.stops = np.array([stops[k][:12] for k in self.path])
        self.s = np.array([d.s for d in everyone])
        self.desired = np.array([d.desired for d in everyone])
        self.walkers, self.ego, self.step = walkers, ego, step
        self.still = plan.still
        self._select(compatible(self.poses(0)[:, None], self.size + np.array([0.8, 0.0, 0.0]), 0.4))
        self.v = np.zeros(len(self.s))
        gap, lead = self._ahead(0)
        self.v = np.minimum(self.desired, self._limit())
        self.v = np.minimum(self.v, lead + np.sqrt(2 * 1.5 * np.maximum(gap - 2.5, 0)))
        self.v[0] = min(self.v[0], plan.speed)

    def _select(self, keep: NDArray[np.bool_]) -> None:
        self.kind = [k for k, kept in zip(self.kind, keep, strict=True) if kept]
        self.size, self.path, self.stops = self.size[keep], self.path[keep], self.stops[keep]
        self.s, self.desired = self.s[keep], self.desired[keep]

    def _limit(self) -> Floats:
        k = np.clip((self.s / STEP).astype(np.int64), 0, self.limit.shape[1] - 1)
        return self.limit[self.path, k]

    def _sample(self, s: Floats) -> tuple[Floats, Floats, Floats]:
        """x, y, yaw at arc lengths ``[n, ...]``; row i on the path of vehicle i."""
        path = self.path.reshape(-1, *(1,) * (s.ndim - 1))
        at = np.clip(s / STEP, 0, self.x.shape[1] - 1.001)
        k = at.astype(np.int64)
        w = at - k
        mixed = [c[path, k] * (1 - w) + c[path, k + 1] * w for c in (self.x, self.y, self.heading)]
        return mixed[0], mixed[1], mixed[2]

    def poses(self, now: int) -> Floats:
        """``[n, 3]`` x, y, yaw of all vehicles at a substep."""
        pose = np.stack(self._sample(self.s), axis=1)
        if self.ego is not None:
            pose[0] = self.ego[now]
        return pose

    def _ahead(self, now: int) -> tuple[Floats, Floats]:
        """Free metres ahead of each vehicle and the speed at which what is there moves along."""
        pose, n = self.poses(now), len(self.s)
        forward = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], axis=1)
        reach = (self.size[:, 0] - self.size[:, 1])[:, None] / 2
        discs = [pose[:, :2] + forward * reach * f for f in (-1.0, -0.33, 0.33, 1.0)]
        later = min(now + round(1.0 / self.step), self.walkers.shape[1] - 1)
        walkers = [self.walkers[:, now], self.walkers[:, later]]
        center = np.concatenate(discs + walkers)
        radius = np.concatenate([np.tile(self.size[:, 1] / 2, 4), np.full(2 * len(self.walkers), 0.4)])
        speed = np.concatenate([np.tile(forward * self.v[:, None], (4, 1)), np.zeros((2 * len(self.walkers), 2))])
        owner = np.concatenate([np.tile(np.arange(n), 4), np.full(2 * len(self.walkers), -1)])
        along = np.arange(LOOK) * SPACING
        x, y, yaw = self._sample((self.s + self.size[:, 0] / 2)[:, None] + along)
        delta = center - pose[:, None, :2]
        near = (delta**2).sum(axis=2) < (LOOK * SPACING + 6.0) ** 2
        near &= (delta * forward[:, None]).sum(axis=2) > 0
        near &= owner != np.arange(n)[:, None]
        who, what = np.nonzero(near)
        square = (x[who] - center[what, 0, None]) ** 2 + (y[who] - center[what, 1, None]) ** 2
        hit = square < ((self.size[who, 1] / 2 + radius[what] + 0.3) ** 2)[:, None]
        met = np.where(hit.any(axis=1), hit.argmax(axis=1), LOOK)
        first = np.full(n, LOOK)
        np.minimum.at(first, who, met)
        nearest = (met < LOOK) & (met == first[who])
        obstacle = np.zeros(n, np.int64)
        obstacle[who[nearest]] = what[nearest]
        course = yaw[np.arange(n), np.minimum(first, LOOK - 1)]
        lead = speed[obstacle, 0] * np.cos(course) + speed[obstacle, 1] * np.sin(course)
        free = np.where(first < LOOK, np.maximum(first * SPACING - 0.7, 0.1), 100.0)
        lead = np.where(first < LOOK, np.maximum(lead, 0), self.desired)
        to_stop = self.stops - (self.s + self.size[:, 0] / 2)[:, None]
        to_stop = np.where(to_stop > -0.5, to_stop + STANDSTILL, np.inf).min(axis=1)
        halt = to_stop < free
        return np.where(halt, to_stop, free), np.where(halt, 0.0, lead)

    def advance(self, now: int) -> None:
        """One substep of the intelligent driver model, from substep ``now``."""
        gap, lead = self._ahead(now)
        wish = np.maximum(np.minimum(self.desired, self._limit()), 0.1)
        wanted = STANDSTILL + self.v * HEADWAY
        wanted += self.v * (self.v - lead) / (2 * np.sqrt(ACCELERATION * DECELERATION))
        push = 1 - (self.v / wish) ** 4 - (np.maximum(wanted, STANDSTILL) / np.maximum(gap, 0.1)) ** 2
        speed = np.maximum(self.v + np.clip(ACCELERATION * push, -7.0, ACCELERATION) * self.step, 0)
        if self.still:
            speed[0] = 0.0
        self.s = self.s + (self.v + speed) / 2 * self.step
        self.v = speed

    def run(self, frames: int, substeps: int) -> Agents:
        """All vehicles over the clip, the ego first."""
        poses = [self.poses(0)]
        for now in range((frames - 1) * substeps):
            self.advance(now)
            if (now + 1) % substeps == 0:
                poses.append(self.poses(now + 1))
        return Agents(self.kind, self.size, np.stack(poses, axis=1))
