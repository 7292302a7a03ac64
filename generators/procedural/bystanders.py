"""Who stands and who walks: parked vehicles and pedestrians; and whether agents are where they may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from generators.procedural.agents import Agents, draw_kind, draw_size
from generators.procedural.lots import Parked
from generators.procedural.roadmap import CROSSWALK, PARKING_WIDTH, Floats, RoadMap
from generators.procedural.static import CLASS, DRIVABLE, StaticWorld
from generators.procedural.streetscape import stretches

KERBSIDE = {"car": 0.86, "other_vehicle": 0.06, "motorcycle": 0.04, "bicycle": 0.04}


def no_agents(frames: int) -> Agents:
    """Nobody."""
    return Agents([], np.zeros((0, 3)), np.zeros((0, frames, 3)))


def heading(city: RoadMap, uv: Floats, direction: Floats) -> Floats:
    """``[..., 3]`` real x, y, yaw of canonical points that face a canonical direction."""
    here, there = city.warp.to_real(uv), city.warp.to_real(uv + 0.5 * direction)
    delta = there - here
    return np.concatenate([here, np.arctan2(delta[..., 1], delta[..., 0])[..., None]], axis=-1)


def park(city: RoadMap, world: StaticWorld, lots: list[Parked], rng: np.random.Generator) -> Agents:
    """Vehicles in the parking lanes, and those that ``lots`` says; their poses in one frame."""
    places = [p for p in lots if world.sees(p.uv, p.uv)]
    for number, s in enumerate(city.streets):
        for side in (-1, 1):
            if not s.parks(side):
                continue
            taken = rng.uniform(0.1, 0.65)
            across = s.edge(side) - side * PARKING_WIDTH / 2
            for lo, hi in stretches(city, number, side, 11.0):
                at = lo + 3.5
                while at < hi - 3.5:
                    spot = (at, across) if s.axis == 0 else (across, at)
                    if world.sees(spot, spot) and rng.random() < taken:
                        d = float(s.direction(side))
                        kind = draw_kind(rng, KERBSIDE)
                        places.append(Parked(spot, (d, 0.0) if s.axis == 0 else (0.0, d), kind))
                    at += float(rng.uniform(6.4, 7.5))
    if not places:
        return no_agents(1)
    uv, direction = np.array([p.uv for p in places]), np.array([p.direction for p in places])
    pose = heading(city, uv, direction)[:, None]
    kinds = [p.kind for p in places]
    return Agents(kinds, np.array([draw_size(rng, k) for k in kinds]), pose)


def walk(
    city: RoadMap, world: StaticWorld, rng: np.random.Generator, frames: int, substeps: int, step: float
) -> tuple[Agents, Floats]:
    """Pedestrians on sidewalks and crosswalks.

    Returns:
        The pedestrians, and their positions ``[p, steps, 2]`` at every substep of the clip.
    """
    starts: list[tuple[float, float]] = []
    ways: list[tuple[float, float]] = []
    density = rng.uniform(0.015, 0.05)
    for s in city.streets:
        lo, hi = max(s.lo, world.lo[s.axis]), min(s.hi, world.hi[s.axis])
        for side in (-1, 1):
            for _ in range(rng.poisson(max(hi - lo, 0) * density)):
                along = float(rng.uniform(lo, hi))
                across = s.edge(side) + side * float(rng.uniform(1.3, s.sidewalk - 0.5))
                starts.append((along, across) if s.axis == 0 else (across, along))
                d = float(rng.choice([-1, 1]))
                ways.append((d, 0.0) if s.axis == 0 else (0.0, d))
    forbidden = []
    for j in city.junctions:
        for axis, sign in j.arms:
            s = city.streets[j.a if axis == 0 else j.b]
            edge = city.arm_start(j, axis, sign)
            band = sorted((edge + sign * CROSSWALK[0], edge + sign * CROSSWALK[1]))
            if j.green == axis and j.signals:
                a, b = (band[0] - 1, s.edge(-1) - 0.8), (band[1] + 1, s.edge(1) + 0.8)
                forbidden.append((a, b) if axis == 0 else (a[::-1], b[::-1]))
            elif j.crossings and rng.random() < (0.7 if j.green != axis else 0.12):
                for _ in range(int(rng.integers(1, 4))):
                    along = float(rng.uniform(band[0] + 0.45, band[1] - 0.45))
                    across = float(rng.uniform(s.edge(-1) - 1.0, s.edge(1) + 1.0))
                    starts.append((along, across) if axis == 0 else (across, along))
                    d = float(rng.choice([-1, 1]))
                    ways.append((0.0, d) if axis == 0 else (d, 0.0))
    steps = (frames - 1) * substeps + 1
    if not starts:
        return no_agents(frames), np.zeros((0, steps, 2))
    n = len(starts)
    speed = rng.uniform(0.8, 1.7, n) * (rng.random(n) > 0.08)
    size = np.array([draw_size(rng, "pedestrian") for _ in range(n)])
    way = np.array(ways)
    time = np.arange(steps) * step
    uv = np.array(starts)[:, None] + (way * speed[:, None])[:, None] * time[:, None]
    allowed = _on_foot(world, uv)
    for low, high in forbidden:
        inside = ((uv > low) & (uv < high)).all(axis=2)
        allowed &= ~np.asarray(inside).any(axis=1)
    uv, way, size = uv[allowed], way[allowed], size[allowed]
    pose = heading(city, uv, np.broadcast_to(way[:, None], uv.shape))
    return Agents(["pedestrian"] * len(uv), size, pose[:, ::substeps]), pose[..., :2]


def _on_foot(world: StaticWorld, uv: Floats) -> NDArray[np.bool_]:
    """Whether paths ``[p, steps, 2]`` keep to sidewalk and crosswalk and clear of what stands there."""
    fine = np.ones(len(uv), bool)
    for du, dv in ((0.3, 0.3), (0.3, -0.3), (-0.3, 0.3), (-0.3, -0.3)):
        i, j = world.cells(uv + np.array([du, dv]))
        ground = world.ground[i, j]
        fine &= ((ground == CLASS["sidewalk"]) | (ground == CLASS["crosswalk"])).all(axis=1)
        fine &= (world.standing[i, j] == 0).all(axis=1)
    if world.thin.uv:
        gap = ((uv[:, ::4, None] - np.array(world.thin.uv)) ** 2).sum(axis=-1).min(axis=(1, 2))
        fine &= gap > 0.65**2
    return fine


def on_the_road(city: RoadMap, world: StaticWorld, agents: Agents) -> NDArray[np.bool_]:
    """Which vehicles keep their whole box on drivable ground, clear of everything, in all frames."""
    a, b = np.meshgrid(np.linspace(-1, 1, 13), np.linspace(-1, 1, 5), indexing="ij")
    local = np.stack([a.ravel(), b.ravel()], axis=1) * (agents.size[:, None, :2] / 2 - 0.05)
    cos, sin = np.cos(agents.pose[..., 2])[..., None], np.sin(agents.pose[..., 2])[..., None]
    a, b = local[:, None, :, 0], local[:, None, :, 1]
    xy = agents.pose[..., None, :2] + np.stack([cos * a - sin * b, sin * a + cos * b], axis=-1)
    uv = city.warp.to_canonical(xy)
    i, j = world.cells(uv)
    drivable = np.isin(np.arange(256), [CLASS[name] for name in DRIVABLE])
    fine = drivable[world.ground[i, j]] & (world.standing[i, j] == 0)
    beyond = ((uv < world.lo) | (uv > world.hi)).any(axis=-1)
    keep = (fine | beyond).all(axis=(1, 2))
    # Thin things elsewhere stand on ground that the test above has ruled out.
    thin = np.array(world.thin.uv).reshape(-1, 2)
    i, j = world.cells(thin)
    on_road = city.warp.to_real(thin[drivable[world.ground[i, j]]])
    delta = on_road - agents.pose[..., None, :2]
    ahead = np.abs(cos * delta[..., 0] + sin * delta[..., 1]) < agents.size[:, None, None, 0] / 2 + 0.15
    aside = np.abs(cos * delta[..., 1] - sin * delta[..., 0]) < agents.size[:, None, None, 1] / 2 + 0.15
    return keep & ~(ahead & aside).any(axis=(1, 2))
