"""Fans of rays against the same rays one by one: hits to the last bit, and every voxel seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.grid import GridSpec
from exporters.cameras import NEAREST, NUSCENES_CAMERAS
from exporters.column_words import to_words
from exporters.fans import cast_fans, columns, see_fans
from exporters.raycast import RayHits, cast_rays
from exporters.sensors import HDL_64E, even


def assert_same(ours: RayHits, one_by_one: RayHits) -> None:
    """Every array the same, to the bit."""
    for field in dataclasses.fields(RayHits):
        np.testing.assert_array_equal(getattr(ours, field.name), getattr(one_by_one, field.name), field.name)


def fan_rays(azimuths: np.ndarray, elevations: np.ndarray) -> np.ndarray:
    """``[elevations * azimuths, 3]``, row by row, as a LiDAR has them."""
    flat, up = np.cos(elevations)[:, None], np.sin(elevations)[:, None]
    rays = np.stack(np.broadcast_arrays(flat * np.cos(azimuths), flat * np.sin(azimuths), up), axis=-1)
    return rays.reshape(-1, 3)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.9]),
    ranges=st.sampled_from([(0.0, np.inf), (1.0, np.inf), (0.7, 5.0)]),
    steep=st.booleans(),
)
def test_a_fan_finds_what_its_rays_find_one_by_one(seed, density, ranges, steep):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, [30, 30, 63]).tolist())
    grid = GridSpec(shape, tuple(rng.choice([0.2, 0.4, 0.375, 0.8], 3).tolist()), tuple(rng.uniform(-9, 0, 3)), 5.0)
    occupied = rng.random(shape) < density
    origin = grid.origin + np.array(shape) * grid.voxel_size * rng.uniform(0.01, 0.99, 3)
    azimuths = np.append(rng.uniform(0, 7, 12), [0.0])  # the last runs along the faces
    elevations = np.append(rng.uniform(-1.57, 1.57, 8) * (1 if steep else 0.2), [0.0])
    rays = fan_rays(azimuths, elevations) * rng.uniform(0.1, 5)
    fans = columns((len(elevations), len(azimuths)))
    one_by_one = cast_rays(occupied, grid, origin, rays, *ranges)
    assert_same(cast_fans(occupied, grid, origin, rays, fans, *ranges), one_by_one)


def test_rays_through_edges_take_the_side_that_they_take_one_by_one():
    """Along the diagonals of a LiDAR in a corner of voxels, and level with the corners that lie ahead of it."""
    rng = np.random.default_rng(4)
    grid = GridSpec((40, 40, 12), (0.4, 0.4, 0.4), (-8.0, -8.0, -1.0), 5.0)
    rays = fan_rays(np.arange(16) * (np.pi / 8), np.append(rng.uniform(-0.3, 0.3, 20), np.arctan([0.5, 0.25, -0.5])))
    for density in (0.0, 0.02):
        occupied = rng.random(grid.shape) < density
        for origin in (np.array([0.0, 0.0, 0.3]), np.array([0.0, 0.2, 1.0])):
            ours = cast_fans(occupied, grid, origin, rays, columns((23, 16)), 1.0)
            assert_same(ours, cast_rays(occupied, grid, origin, rays, 1.0))


def test_fans_of_several_sizes_start_where_each_does():
    rng = np.random.default_rng(5)
    grid = GridSpec((40, 40, 12), (0.4, 0.4, 0.4), (-8.0, -8.0, -1.0), 5.0)
    occupied = rng.random(grid.shape) < 0.03
    rays = np.concatenate([fan_rays(rng.uniform(0, 7, n), rng.uniform(-0.4, 0.4, 11 - n)) for n in (3, 7)])
    origins = np.repeat([[0.3, 0.1, 1.2], [-1.7, 2.2, 0.4]], [24, 28], axis=0)
    fans = columns((8, 3), (4, 7))
    ours = cast_fans(occupied, grid, origins, rays, fans, NEAREST)
    assert len(ours.ray) > 20
    assert_same(ours, cast_rays(occupied, grid, origins, rays, NEAREST))


@pytest.mark.parametrize("sensor", ["lidar", "rig"])
def test_what_sensors_fire_are_fans(sensor):
    rng = np.random.default_rng(6)
    grid = GridSpec((100, 100, 16), (0.8, 0.8, 0.4), (-40.0, -40.0, -1.0), 5.0)
    occupied = rng.random(grid.shape) < 0.01
    if sensor == "lidar":
        lidar = dataclasses.replace(HDL_64E, elevations=even(-20, 5, 16))
        rays, origins, fans = lidar.directions(), np.array(lidar.position), lidar.fans()
    else:
        rays = np.concatenate([camera.directions(40) for camera in NUSCENES_CAMERAS])
        fans = columns(*(camera.rows_columns(40) for camera in NUSCENES_CAMERAS))
        origins = np.repeat([camera.position for camera in NUSCENES_CAMERAS], len(rays) // 6, axis=0)
    for first, end in zip(fans.begins, fans.begins[1:], strict=False):
        own = rays[fans.order[first:end], :2]
        np.testing.assert_allclose(own[:, 0] * own[0, 1], own[:, 1] * own[0, 0], atol=1e-12)
    expected = to_words(cast_rays(occupied, grid, origins, rays, 1.0).seen)
    np.testing.assert_array_equal(see_fans(occupied, grid, origins, rays, fans, 1.0), expected)
    if sensor == "rig":
        places = np.array([camera.position for camera in NUSCENES_CAMERAS])
        np.testing.assert_array_equal(see_fans(occupied, grid, places, rays, fans, 1.0), expected)
    assert_same(cast_fans(occupied, grid, origins, rays, fans, 1.0), cast_rays(occupied, grid, origins, rays, 1.0))


@pytest.mark.parametrize(
    ("shape", "origin", "ray"),
    [
        ((20, 20, 63), (0.0, 0.0, 1.0), (1.0, 0.3, 0.1)),  # more layers than a word has bits for
        ((20, 20, 8), (-30.0, 0.1, 0.3), (1.0, 0.0, 0.0)),  # from outside
        ((20, 20, 8), (0.1, 0.1, -0.3), (0.0, 0.0, 1.0)),  # straight up
        ((20, 20, 8), (0.1, 0.1, 2.3), (0.0, 0.0, -1.0)),  # straight down
    ],
)
def test_what_fans_cannot_do_is_done_ray_by_ray(shape, origin, ray):
    grid = GridSpec(shape, (0.5, 0.5, 0.5), (-5.0, -5.0, -1.0), 5.0)
    occupied = np.random.default_rng(7).random(shape) < 0.7
    rays = np.array([ray])
    ours = cast_fans(occupied, grid, np.array(origin), rays, columns((1, 1)))
    assert len(ours.ray) == 1
    assert_same(ours, cast_rays(occupied, grid, np.array(origin), rays))
