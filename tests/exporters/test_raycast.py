"""Ray casting against cases that can be worked out by hand, and against a march in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.errors import InputError
from dyncity.grid import GridSpec
from exporters import raycast_torch
from exporters.raycast import cast_rays

GRID = GridSpec((20, 12, 6), (0.5, 0.5, 0.5), (-5.0, -3.0, -1.0), 5.0)


def test_a_ray_ends_in_the_first_occupied_voxel_and_says_where_it_entered():
    occupied = np.zeros(GRID.shape, bool)
    occupied[14, 6, 2] = occupied[16, 6, 2] = True
    hits = cast_rays(occupied, GRID, np.array([0.1, 0.2, 0.3]), np.array([[3.0, 0, 0], [-1.0, 0, 0]]))
    assert hits.ray.tolist() == [0]
    assert hits.voxel.tolist() == [[14, 6, 2]]
    assert hits.points[0] == pytest.approx([2.0, 0.2, 0.3])  # voxel 14 begins at -5 + 14 * 0.5
    assert hits.distance[0] == pytest.approx(1.9)
    assert hits.inward.tolist() == [[1.0, 0.0, 0.0]]


def test_a_wall_hides_what_is_behind_it_and_the_space_before_it_is_seen():
    occupied = np.zeros(GRID.shape, bool)
    occupied[14, :, :] = True
    sideways = np.linspace(-1, 1, 41)
    directions = np.stack([np.ones(41), sideways, 0.3 * sideways], axis=1)
    seen = cast_rays(occupied, GRID, np.array([0.1, 0.1, 0.1]), directions).seen
    assert seen[11:15, 6, 2].all()
    assert not seen[15:].any()
    assert not seen[:10].any()


def test_rays_from_outside_enter_the_grid_and_rays_past_it_do_not():
    occupied = np.zeros(GRID.shape, bool)
    occupied[0, 6, 2] = True
    origin = np.array([-9.0, 0.2, 0.3])
    hits = cast_rays(occupied, GRID, origin, np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0]]))
    assert hits.ray.tolist() == [0]
    assert hits.voxel.tolist() == [[0, 6, 2]]
    assert hits.points[0] == pytest.approx([-5.0, 0.2, 0.3])
    assert hits.inward.tolist() == [[1.0, 0.0, 0.0]]
    assert hits.seen.sum() == 1


def test_ranges_are_kept_and_the_voxel_of_the_sensor_does_not_blind_it():
    occupied = np.zeros(GRID.shape, bool)
    occupied[10, 6, 2] = occupied[11, 6, 2] = occupied[17, 6, 2] = True
    origin, ahead = np.array([0.1, 0.2, 0.3]), np.array([[1.0, 0, 0]])
    assert cast_rays(occupied, GRID, origin, ahead).voxel.tolist() == [[11, 6, 2]]
    assert cast_rays(occupied, GRID, origin, ahead, min_range=1.0).voxel.tolist() == [[17, 6, 2]]
    far = cast_rays(occupied, GRID, origin, ahead, min_range=1.0, max_range=3.0)
    assert len(far.ray) == 0
    assert far.seen[16, 6, 2]
    assert not far.seen[17, 6, 2]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.02, 0.2, 0.9]),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    voxel=st.tuples(*[st.sampled_from([0.2, 0.5, 0.375])] * 3),
    inside=st.booleans(),
)
def test_before_its_hit_a_ray_only_passes_free_voxels_and_the_hit_is_occupied(seed, density, shape, voxel, inside):
    """Checked by walking along each ray in small steps, which shares nothing with the traversal."""
    rng = np.random.default_rng(seed)
    grid = GridSpec(shape, voxel, tuple(rng.uniform(-2, 0, 3)), 5.0)
    occupied = rng.random(shape) < density
    size = np.array(shape) * voxel
    origin = grid.origin + size * (rng.random(3) if inside else rng.uniform(-1, 2, 3))
    directions = rng.normal(size=(30, 3))
    directions[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    hits = cast_rays(occupied, grid, origin, directions)
    assert occupied[tuple(hits.voxel.T)].all()
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    start, start_inside = grid.index(origin)
    ends = dict(zip(hits.ray.tolist(), hits.distance.tolist(), strict=True))
    for ray in range(len(unit)):
        end = ends.get(ray, float(np.linalg.norm(size) * 4))
        steps = np.arange(0.0, max(end - 1e-6, 0.0), 0.01)
        index, within = grid.index(origin + unit[ray] * steps[:, None])
        passed = index[within]
        own = (passed == start).all(axis=1) & start_inside
        assert not occupied[tuple(passed[~own].T)].any()
        assert hits.seen[tuple(passed.T)].all()
        if ray in ends:
            lower = grid.origin + hits.voxel[hits.ray == ray][0] * np.array(voxel)
            entry = origin + unit[ray] * end
            assert (entry >= lower - 1e-9).all()
            assert (entry <= lower + np.array(voxel) + 1e-9).all()
    # Nothing else is seen: free voxels, hits, the voxel of the sensor itself.
    blocked = hits.seen & occupied
    blocked[tuple(hits.voxel.T)] = False
    if start_inside:
        blocked[tuple(start)] = False
    assert not blocked.any()


def exact_march(occupied: np.ndarray, start: tuple[int, ...], direction: tuple[int, ...], parts: int):
    """Voxels that a ray crosses up to its first hit, and whether it met a face, edge or corner at once.

    All in fractions: ``start`` in voxels / ``parts``, ``direction`` in whole numbers.
    """
    at = [Fraction(s, parts) for s in start]
    voxel = [int(a // 1) for a in at]
    passed, ties = [tuple(voxel)], False
    while True:
        times = [
            None if d == 0 else (Fraction(v + (d > 0)) - a) / d for v, d, a in zip(voxel, direction, at, strict=True)
        ]
        soonest = min(t for t in times if t is not None)
        axes = [k for k, t in enumerate(times) if t == soonest]
        ties |= len(axes) > 1
        voxel[axes[0]] += 1 if direction[axes[0]] > 0 else -1
        if not all(0 <= v < n for v, n in zip(voxel, occupied.shape, strict=True)):
            return passed, None, ties
        passed.append(tuple(voxel))
        if occupied[tuple(voxel)]:
            return passed, tuple(voxel), ties


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from([0.0, 0.01, 0.1]))
def test_seen_and_hit_voxels_are_those_of_a_march_in_fractions(seed, density):
    """Voxel by voxel the same, however close rays pass by edges; rays through an edge itself are left out."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 40, 3).tolist())
    grid = GridSpec(shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 5.0)
    occupied = rng.random(shape) < density
    start = tuple(int(rng.integers(1, 64 * n)) | 1 for n in shape)  # odd 64ths: never on a face
    rays = rng.integers(-50, 51, (40, 3))
    rays = rays[(rays != 0).any(axis=1)]
    marches = [exact_march(occupied, start, tuple(map(int, ray)), 64) for ray in rays]
    clear = [n for n, (_, _, ties) in enumerate(marches) if not ties]
    hits = cast_rays(occupied, grid, np.array(start) / 64, rays[clear].astype(float))
    expected = np.zeros(shape, bool)
    for n in clear:
        expected[tuple(np.array(marches[n][0]).T)] = True
    np.testing.assert_array_equal(hits.seen, expected)
    found = dict(zip(hits.ray.tolist(), map(tuple, hits.voxel.tolist()), strict=True))
    assert found == {k: marches[n][1] for k, n in enumerate(clear) if marches[n][1] is not None}


def test_no_ray_slips_through_a_diagonal_wall_of_voxels_that_touch_at_edges():
    """Exactly through edges and corners too: it goes by way of a voxel in between."""
    occupied = np.zeros((16, 16, 4), bool)
    for n in range(16):  # a staircase: each voxel shares a face with the next one
        occupied[n, 15 - n] = True
        if n:
            occupied[n, 16 - n] = True
    grid = GridSpec((16, 16, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 5.0)
    angles = np.linspace(0, np.pi / 2, 2001)
    rays = np.stack([np.cos(angles), np.sin(angles), np.zeros(2001)], axis=1)
    rays = np.concatenate([rays, [[1, 1, 0], [2, 1, 0], [1, 2, 0], [3, 1, 0]]])
    for origin in ([1.0, 1.0, 1.5], [0.5, 0.5, 1.5], [2.0, 1.0, 2.0]):
        hits = cast_rays(occupied, grid, np.array(origin), rays)
        assert len(hits.ray) == len(rays)
        assert not hits.seen[np.add.outer(np.arange(16), np.arange(16)) > 16].any()


def test_each_ray_may_start_somewhere_else():
    rng = np.random.default_rng(3)
    occupied = rng.random(GRID.shape) < 0.03
    origins = GRID.origin + rng.random((200, 3)) * [10, 6, 3]
    rays = rng.normal(size=(200, 3))
    together = cast_rays(occupied, GRID, origins, rays, max_range=4.0)
    alone = [cast_rays(occupied, GRID, o, r[None], max_range=4.0) for o, r in zip(origins, rays, strict=True)]
    assert together.ray.tolist() == [n for n, hits in enumerate(alone) if len(hits.ray)]
    np.testing.assert_array_equal(together.voxel, np.concatenate([hits.voxel for hits in alone]))
    np.testing.assert_allclose(together.points, np.concatenate([hits.points for hits in alone]))
    np.testing.assert_array_equal(together.seen, np.logical_or.reduce([hits.seen for hits in alone]))


@pytest.mark.parametrize("limits", [(0.0, 3.3), (1.7, 2.4), (2.0, np.inf)])
def test_within_its_range_a_ray_is_as_without(limits):
    """What is nearer does not stop it, what is further is neither hit nor seen."""
    rng = np.random.default_rng(8)
    occupied = rng.random(GRID.shape) < 0.05
    origin, rays = np.array([0.1, 0.2, 0.3]), rng.normal(size=(300, 3))
    hits = cast_rays(occupied, GRID, origin, rays, *limits)
    assert (hits.distance >= limits[0]).all()
    assert (hits.distance <= limits[1]).all()
    cleared = occupied & ~near_voxels(occupied, origin, limits[0])
    open_hits = cast_rays(cleared, GRID, origin, rays)
    within = (open_hits.distance >= limits[0] + 0.9) & (open_hits.distance <= limits[1])
    assert set(open_hits.ray[within].tolist()) <= set(hits.ray.tolist())
    corners = np.abs(GRID.centers() - origin) - 0.25
    nearest = np.linalg.norm(np.maximum(corners, 0), axis=-1)
    assert not hits.seen[nearest > limits[1]].any()


def near_voxels(occupied: np.ndarray, origin: np.ndarray, distance: float) -> np.ndarray:
    """Voxels of which some part is nearer than ``distance``."""
    corners = np.abs(GRID.centers() - origin) - 0.25
    return np.linalg.norm(np.maximum(corners, 0), axis=-1) < distance


def test_no_rays_and_no_room_are_fine():
    hits = cast_rays(np.zeros(GRID.shape, bool), GRID, np.zeros(3), np.zeros((0, 3)))
    assert len(hits.ray) == 0
    assert not hits.seen.any()
    assert len(cast_rays(np.ones(GRID.shape, bool), GRID, np.full(3, 90.0), np.eye(3)).ray) == 0


def assert_alike(device: str, seed: int, limits: tuple[float, float]) -> None:
    """All that rays find on a device is what the compiled loop finds, to the last bit."""
    rng = np.random.default_rng(seed)
    grid = GridSpec(tuple(rng.integers(1, 30, 3).tolist()), (0.2, 0.5, 0.375), (-1.0, -2.0, 0.3), 5.0)
    occupied = rng.random(grid.shape) < rng.choice([0.0, 0.02, 0.3])
    size = np.array(grid.shape) * grid.voxel_size
    origin = grid.origin + size * rng.uniform(-0.3, 1.3, (50, 3) if seed % 2 else 3)
    if seed % 3 == 0:
        origin = np.round(origin, 1)  # on faces, along faces
    rays = rng.normal(size=(50, 3))
    rays[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    rays[6:12] = rng.integers(-2, 3, (6, 3)) + np.array([1e-9, 0, 0])
    one, other = (cast_rays(occupied, grid, origin, rays, *limits, device=d) for d in (None, device))
    for name in ("ray", "voxel", "distance", "points", "inward", "seen"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype


LIMITS = st.sampled_from([(0.0, np.inf), (1.0, 3.0), (0.0, 2.0)])


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), limits=LIMITS)
def test_all_rays_together_find_what_each_finds_alone(seed, limits):
    assert_alike("cpu", seed, limits)


@pytest.mark.gpu
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), limits=LIMITS)
def test_on_a_gpu_rays_find_the_same(seed, limits):
    assert_alike("cuda", seed, limits)


def test_more_rays_than_are_cast_at_once(monkeypatch):
    monkeypatch.setattr(raycast_torch, "_AT_ONCE", 7)
    assert_alike("cpu", 4, (0.0, np.inf))
    assert_alike("cpu", 5, (0.0, np.inf))


def test_no_rays_on_a_device_and_no_device():
    hits = cast_rays(np.zeros(GRID.shape, bool), GRID, np.zeros(3), np.zeros((0, 3)), device="cpu")
    assert hits.voxel.shape == (0, 3)
    assert not hits.seen.any()
    with pytest.raises(InputError, match="warp"):
        cast_rays(np.zeros(GRID.shape, bool), GRID, np.zeros(3), np.eye(3), device="warp")
