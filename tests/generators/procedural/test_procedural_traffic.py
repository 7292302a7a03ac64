"""Traffic keeps the rules: nobody drives through anything, everybody stays where he may be."""

import dataclasses

import numpy as np
import pytest

from dyncity.grid import GridSpec
from dyncity.presets import preset
from dyncity.scene import SceneSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.agents import overlap
from generators.procedural.city import ProceduralCity
from generators.procedural.ego import SIZE

TINY = preset("tiny")
FINE = dataclasses.replace(
    TINY,
    grid=GridSpec((256, 256, 32), (0.2, 0.2, 0.2), (-25.6, -25.6, -1.2), 5.0),
    clip=dataclasses.replace(TINY.clip, margin=(0, 0)),
)
LONG = dataclasses.replace(
    TINY,
    grid=dataclasses.replace(TINY.grid, frame_rate=2.0),
    clip=dataclasses.replace(TINY.clip, frames=16),
)


@pytest.fixture(scope="module")
def cities():
    """Built scenes: short clips on a fine raster, and 7.5 s clips."""
    fine = ProceduralCity(FINE)
    long = ProceduralCity(LONG)
    return [fine.build(SceneSpec(k, 21)) for k in range(14)] + [long.build(SceneSpec(k, 22)) for k in range(10)]


def corners(pose, size):
    """``[..., 4, 2]`` corners of a box, written without the code under test."""
    signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) / 2
    local = signs * np.asarray(size)[:2]
    turn = np.array([[np.cos(pose[2]), -np.sin(pose[2])], [np.sin(pose[2]), np.cos(pose[2])]])
    return local @ turn.T + np.asarray(pose)[:2]


def apart(a, b):
    """Whether two convex quadrilaterals have a line between them."""
    for polygon in (a, b):
        for edge in np.roll(polygon, -1, axis=0) - polygon:
            normal = np.array([-edge[1], edge[0]])
            if (a @ normal).max() <= (b @ normal).min() or (b @ normal).max() <= (a @ normal).min():
                return True
    return False


def test_no_two_boxes_overlap_and_none_the_ego(cities):
    for built in cities:
        poses = np.concatenate([built.ego[None], built.agents.pose])
        sizes = np.concatenate([[SIZE], built.agents.size])
        for t in range(poses.shape[1]):
            boxes = [corners(p, s) for p, s in zip(poses[:, t], sizes, strict=True)]
            reach = np.hypot(sizes[:, 0], sizes[:, 1]) / 2
            for i in range(len(boxes)):
                gap = np.hypot(*(poses[i + 1 :, t, :2] - poses[i, t, :2]).T)
                for j in np.flatnonzero(gap < reach[i] + reach[i + 1 :]) + i + 1:
                    assert apart(boxes[i], boxes[j])


def inside_points(pose, size, step=0.2):
    """Real points that fill a box."""
    a = np.linspace(-size[0] / 2 + 0.06, size[0] / 2 - 0.06, int(size[0] / step) + 2)
    b = np.linspace(-size[1] / 2 + 0.06, size[1] / 2 - 0.06, int(size[1] / step) + 2)
    a, b = (m.ravel() for m in np.meshgrid(a, b))
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return np.stack([pose[0] + cos * a - sin * b, pose[1] + sin * a + cos * b], axis=1)


def seen(world, uv):
    return ((uv > world.lo) & (uv < world.hi)).all(axis=1)


def test_vehicles_stay_on_the_carriageway_and_clear_of_all_that_stands(cities):
    drivable = [NATIVE.id(n) for n in ("road", "lane_marking", "crosswalk", "parking")]
    for built in cities:
        world = built.world
        thin = built.city.warp.to_real(np.array(world.thin.uv))
        everyone = [(np.array(SIZE), built.ego)]
        everyone += [
            (s, p)
            for k, s, p in zip(built.agents.kind, built.agents.size, built.agents.pose, strict=True)
            if k != "pedestrian"
        ]
        for size, poses in everyone:
            for pose in poses:
                uv = built.city.warp.to_canonical(inside_points(pose, size))
                i, j = world.cells(uv[seen(world, uv)])
                assert np.isin(world.ground[i, j], drivable).all()
                assert (world.standing[i, j] == 0).all()
                delta = thin - pose[:2]
                ahead = np.abs(np.cos(pose[2]) * delta[:, 0] + np.sin(pose[2]) * delta[:, 1])
                aside = np.abs(np.cos(pose[2]) * delta[:, 1] - np.sin(pose[2]) * delta[:, 0])
                assert not ((ahead < size[0] / 2) & (aside < size[1] / 2)).any()


def test_pedestrians_stay_on_sidewalks_and_crosswalks(cities):
    allowed = [NATIVE.id("sidewalk"), NATIVE.id("crosswalk")]
    crossing = 0
    for built in cities:
        world = built.world
        for kind, pose in zip(built.agents.kind, built.agents.pose, strict=True):
            if kind != "pedestrian":
                continue
            uv = built.city.warp.to_canonical(pose[:, :2])
            i, j = world.cells(uv)
            here = seen(world, uv)
            assert np.isin(world.ground[i, j][here], allowed).all()
            assert (world.standing[i, j][here] == 0).all()
            crossing += (world.ground[i, j] == NATIVE.id("crosswalk")).any()
    assert crossing > 10


def test_traffic_moves_turns_and_waits(cities):
    pose = np.concatenate([b.agents.pose for b in cities[:14]])
    kinds = np.concatenate([b.agents.kind for b in cities[:14]])
    vehicles = pose[kinds != "pedestrian"]
    travel = np.hypot(*(vehicles[:, -1, :2] - vehicles[:, 0, :2]).T)
    turned = np.abs(vehicles[:, -1, 2] - vehicles[:, 0, 2])
    assert (travel > 3).sum() > 30
    assert (travel < 0.2).sum() > 30
    assert ((turned > np.deg2rad(15)) & (travel > 2)).sum() >= 5
    speed = np.hypot(*np.diff(vehicles[..., :2], axis=1).transpose(2, 0, 1)) * 5.0
    assert speed.max() < 15
    assert np.diff(speed, axis=1).min() * 5.0 > -8.5


def test_nobody_crosses_a_stop_line_on_red():
    """Over a long clip no vehicle enters a junction from an arm that has to wait."""
    generator = ProceduralCity(LONG)
    for k in range(6):
        built = generator.build(SceneSpec(k, 30))
        city = built.city
        uv = city.warp.to_canonical(built.agents.pose[..., :2])
        for junction in city.junctions:
            street = city.streets[junction.b if junction.green == 0 else junction.a]
            crossing = city.streets[junction.a if junction.green == 0 else junction.b]
            waits = 1 - junction.green
            center = city.at(junction)
            for kind, path in zip(built.agents.kind, uv, strict=True):
                if kind == "pedestrian":
                    continue
                on_arm = np.abs(path[0, 1 - waits] - center[1 - waits]) < street.half(1) + street.half(-1)
                before = abs(path[0, waits] - center[waits]) - max(crossing.half(1), crossing.half(-1))
                toward = (center[waits] - path[0, waits]) * (path[-1, waits] - path[0, waits]) > 0
                if on_arm and toward and 4 < before < 40:
                    assert abs(path[-1, waits] - center[waits]) > max(crossing.half(1), crossing.half(-1)) - 1.0


def test_the_overlap_test_is_exact():
    box, size = np.array([0.0, 0.0, 0.0]), np.array([4.0, 2.0])
    assert overlap(box, size, np.array([3.9, 0.0, 0.0]), size)
    assert not overlap(box, size, np.array([4.1, 0.0, 0.0]), size)
    diagonal = np.array([3.1, 2.1, np.pi / 4])
    assert not overlap(box, size, diagonal, np.array([1.0, 1.0]))
    assert overlap(box, size, diagonal - np.array([0.4, 0.4, 0.0]), np.array([2.0, 1.0]))
