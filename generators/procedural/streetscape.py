"""What belongs to the streets: paving, corners, crosswalks, markings, lights, lamps and street trees."""

from __future__ import annotations

import numpy as np

from generators.procedural.roadmap import CROSSWALK, PARKING_WIDTH, STOP_LINE, Junction, RoadMap, Street
from generators.procedural.static import CLASS, StaticWorld

# Furniture keeps this far from the kerb; walkers keep further away from it than that.
FURNITURE = 0.55


def _rect(street: Street, along: tuple[float, float], across: tuple[float, float]) -> tuple[float, float, float, float]:
    """(u0, v0, u1, v1) of a stretch of a street."""
    a, b = sorted(along), sorted(across)
    return (a[0], b[0], a[1], b[1]) if street.axis == 0 else (b[0], a[0], b[1], a[1])


def _point(street: Street, along: float, across: float) -> tuple[float, float]:
    return (along, across) if street.axis == 0 else (across, along)


def stretches(city: RoadMap, number: int, side: int, gap: float) -> list[tuple[float, float]]:
    """The stretches of a street's side between junctions with an arm there, ``gap`` metres short of them."""
    street = city.streets[number]
    spans = []
    for j in city.on(number):
        crossing = city.streets[j.b if street.axis == 0 else j.a]
        # A side without an arm across it (the closed side of a T) is not interrupted.
        if (1 - street.axis, side) in j.arms:
            spans.append((crossing.edge(-1) - gap, crossing.edge(1) + gap))
        elif (street.axis, 1) not in j.arms:
            spans.append((crossing.edge(-1) - gap, street.hi))
        elif (street.axis, -1) not in j.arms:
            spans.append((street.lo, crossing.edge(1) + gap))
    at, found = street.lo, []
    for lo, hi in sorted(spans):
        if lo - at > 4:
            found.append((at, lo))
        at = max(at, hi)
    if street.hi - at > 4:
        found.append((at, street.hi))
    return found


def pave_streets(world: StaticWorld, city: RoadMap) -> None:
    """Sidewalks, roads, parking lanes, corners, crosswalks and, where voxels are fine, markings."""
    for s in city.streets:
        for side in (-1, 1):
            world.pave("sidewalk", *_rect(s, (s.lo, s.hi), (s.edge(side), s.outer(side))))
    for s in city.streets:
        world.pave("road", *_rect(s, (s.lo, s.hi), (s.edge(-1), s.edge(1))))
    for number, s in enumerate(city.streets):
        for side in (-1, 1):
            if s.parks(side):
                for lo, hi in stretches(city, number, side, 10.0):
                    across = (s.edge(side) - side * PARKING_WIDTH, s.edge(side))
                    world.pave("parking", *_rect(s, (lo, hi), across))
    if world.voxel <= 0.4:
        for s in city.streets:
            _mark(world, s)
    for junction in city.junctions:
        _corners(world, city, junction)


def _mark(world: StaticWorld, s: Street) -> None:
    """A solid centre line and broken lines between lanes."""
    half = max(0.1, world.res / 2)
    world.pave("lane_marking", *_rect(s, (s.lo, s.hi), (s.center - half, s.center + half)))
    for side in (-1, 1):
        for lane in range(1, s.count(side)):
            across = s.center + side * lane * s.lane_width
            for start in np.arange(s.lo, s.hi, 7.5):
                world.pave("lane_marking", *_rect(s, (start, start + 3), (across - half, across + half)))


def _corners(world: StaticWorld, city: RoadMap, junction: Junction) -> None:
    """Plain road inside the box, rounded kerbs, crosswalks and stop lines on the arms."""
    a, b = city.streets[junction.a], city.streets[junction.b]
    box = [b.edge(-1), a.edge(-1), b.edge(1), a.edge(1)]
    for axis, sign in ((1, -1), (1, 1)):
        if (axis, sign) not in junction.arms:
            box[2 + sign] = a.center
    if not world.sees((box[0] - 12, box[1] - 12), (box[2] + 12, box[3] + 12)):
        return
    world.pave("road", *box)
    for su in (-1, 1):
        for sv in (-1, 1):
            if (1, sv) not in junction.arms:
                continue
            u, v, r = b.edge(su), a.edge(sv), junction.radius
            window = world.window(min(u, u + su * r), min(v, v + sv * r), max(u, u + su * r), max(v, v + sv * r))
            cu, cv = world.coordinates(window)
            cut = (cu - u - su * r) ** 2 + (cv - v - sv * r) ** 2 > r * r
            world.ground[window][cut] = CLASS["road"]
    for axis, sign in junction.arms:
        s = a if axis == 0 else b
        start = city.arm_start(junction, axis, sign)
        world.pave("road", *_rect(s, (start, start + sign * STOP_LINE), (s.edge(-1), s.edge(1))))
        if junction.crossings:
            along = (start + sign * CROSSWALK[0], start + sign * CROSSWALK[1])
            window = world.window(*_rect(s, along, (s.edge(-1) - 2, s.edge(1) + 2)))
            ground = world.ground[window]
            ground[(ground == CLASS["road"]) | (ground == CLASS["lane_marking"])] = CLASS["crosswalk"]
        if world.voxel <= 0.4:
            side = s.side(-sign)
            line = (start + sign * (STOP_LINE - 0.6), start + sign * (STOP_LINE - 0.2))
            edge = s.center + side * s.count(side) * s.lane_width
            world.pave("lane_marking", *_rect(s, line, (s.center, edge)))


def furnish_streets(world: StaticWorld, city: RoadMap, rng: np.random.Generator) -> None:
    """Traffic lights and signs at junctions; trees, lamps, bins and signs along the kerbs."""
    for junction in city.junctions:
        _signals(world, city, junction)
    for number, s in enumerate(city.streets):
        if s.lanes == (2, 2) and rng.random() < 0.35:
            _median(world, city, number, "barrier" if rng.random() < 0.5 else "vegetation")
        for side in (-1, 1):
            if s.parks(side) and rng.random() < 0.3:
                _roadworks(world, city, number, side, rng)
            leafy = rng.random() < {"downtown": 0.5, "suburb": 0.8, "industrial": 0.25, "mixed": 0.65}[city.style]
            spacing, lamp = rng.uniform(8, 14), rng.uniform(22, 32)
            radius = rng.uniform(1.3, 2.1) if s.parks(side) else rng.uniform(1.1, 1.35)
            kerb = s.edge(side)
            for lo, hi in stretches(city, number, side, 8.0):
                draws = rng.random((int((hi - lo) / spacing) + 1, 4))
                for k, draw in enumerate(draws):
                    at = lo + 1 + k * spacing
                    if at > hi - 1:
                        break
                    u, v = _point(s, at, kerb + side * 0.75)
                    if leafy and draw[0] < 0.85 and world.sees((u - 3, v - 3), (u + 3, v + 3)):
                        base = 2.7 + 0.7 * draw[1]
                        world.tree(u, v, radius * (0.85 + 0.3 * draw[2]), base, base + 2 + 3 * draw[3])
                    elif draw[0] > 0.9 or (not leafy and draw[0] > 0.75):
                        _small(world, *_point(s, at + 2, kerb + side * FURNITURE), draw)
                for at in np.arange(lo + spacing / 2, hi - 1, lamp):
                    u, v = _point(s, float(at), kerb + side * FURNITURE)
                    if world.sees((u, v), (u, v)):
                        world.pole(u, v, 7.0)


def _median(world: StaticWorld, city: RoadMap, number: int, name: str) -> None:
    """A barrier or a hedge between the directions of a wide street, open at the junctions."""
    s = city.streets[number]
    both = [set(stretches(city, number, side, 12.0)) for side in (-1, 1)]
    for lo, hi in sorted(both[0] & both[1]):
        world.fill(name, *_rect(s, (lo, hi), (s.center - 0.25, s.center + 0.25)), 0.9)


def _roadworks(world: StaticWorld, city: RoadMap, number: int, side: int, rng: np.random.Generator) -> None:
    """A closed piece of a parking lane: barriers at its ends and cones along it."""
    s = city.streets[number]
    for lo, hi in stretches(city, number, side, 12.0):
        length = float(rng.uniform(6, 14))
        if hi - lo < length + 4:
            continue
        at = float(rng.uniform(lo + 2, hi - length - 2))
        inner, outer = s.edge(side) - side * (PARKING_WIDTH - 0.5), s.edge(side) - side * 0.3
        for end in (at, at + length):
            world.fill("barrier", *_rect(s, (end - 0.2, end + 0.2), (inner, outer)), 1.0)
        for cone in np.arange(at + 1.5, at + length - 1, 2.0):
            world.small("traffic_cone", *_point(s, float(cone), inner), 0.75)


def _small(world: StaticWorld, u: float, v: float, draw: np.ndarray) -> None:
    if not world.sees((u, v), (u, v)):
        return
    if draw[1] < 0.5:
        world.small("other_object", u, v, 1.1)
    else:
        world.pole(u, v, 2.6, "traffic_sign", 2.0, 2.8)


def _signals(world: StaticWorld, city: RoadMap, junction: Junction) -> None:
    """A light, or a stop sign where the street has to wait, to the right of each incoming lane."""
    for axis, sign in junction.arms:
        s = city.streets[junction.a if axis == 0 else junction.b]
        if not junction.signals and axis == junction.green:
            continue
        side = s.side(-sign)
        along = city.arm_start(junction, axis, sign) + sign * (CROSSWALK[1] + 0.9)
        u, v = _point(s, along, s.edge(side) + side * FURNITURE)
        if not world.sees((u, v), (u, v)):
            continue
        if junction.signals:
            world.pole(u, v, 3.4, "traffic_light", 2.6, 3.6)
        else:
            world.pole(u, v, 2.6, "traffic_sign", 2.0, 2.8)
