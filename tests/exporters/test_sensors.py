"""Ray casting against cases that can be worked out by hand, and what must hold for any grid."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.conditions import poses_from_trajectory
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.raycast import cast_rays
from exporters.sensors import HDL_32E, HDL_64E, NUSCENES_CAMERAS, Lidar, camera_mask, scan, seen_over_time

GRID = GridSpec((20, 12, 6), (0.5, 0.5, 0.5), (-5.0, -3.0, -1.0), 5.0)
BUILDING, ROAD = 7, 1


def scene_of(semantics: np.ndarray, grid: GridSpec = GRID, **changes) -> OccupancyScene:
    frames = len(semantics)
    fields = {
        "scene_id": "s",
        "semantics": semantics,
        "poses": np.tile(np.eye(4), (frames, 1, 1)),
        "grid": grid,
        "taxonomy": "native",
        "timestamps_us": np.arange(frames, dtype=np.int64) * 200_000,
    }
    return OccupancyScene(**(fields | changes))


def empty(frames: int = 1, grid: GridSpec = GRID) -> np.ndarray:
    return np.zeros((frames, *grid.shape), np.uint8)


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


@settings(max_examples=60, deadline=None)
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


def test_scan_points_lie_in_the_voxels_they_hit_also_as_float32():
    rng = np.random.default_rng(5)
    semantics = np.where(rng.random((1, *GRID.shape)) < 0.1, BUILDING, 0).astype(np.uint8)
    lidar = Lidar((0.1, 0.0, 0.6), (-40.0, 20.0), beams=24, columns=90, min_range=0.0, max_range=50.0)
    for inset in (0.0, 0.1, 9.0):
        turn = scan(scene_of(semantics), 0, lidar, inset=inset)
        assert len(turn.points) > 500
        ego = turn.points.astype(np.float32) + np.array(lidar.position)
        index, within = GRID.index(ego)
        assert within.all()
        assert (index == turn.voxel).all()
        assert (semantics[0][tuple(turn.voxel.T)] == BUILDING).all()


def test_an_inset_moves_points_off_the_face_to_at_most_the_middle_of_the_voxel():
    semantics = empty()
    semantics[0, 14] = BUILDING
    lidar = Lidar((0.1, 0.1, 0.6), (0.0, 0.0), beams=1, columns=4, min_range=0.0, max_range=50.0)
    for inset, x in ((0.0, 2.0), (0.1, 2.1), (9.0, 2.25)):
        point = scan(scene_of(semantics), 0, lidar, inset=inset).points[0]
        assert point == pytest.approx([x - 0.1, 0.0, 0.0], abs=6e-4)


def test_unknown_voxels_let_rays_through_and_are_never_seen():
    semantics = empty()
    semantics[0, 12:14] = 255
    semantics[0, 16] = BUILDING
    turn = scan(scene_of(semantics), 0, dataclasses.replace(HDL_64E, position=(0.0, 0.0, 0.5)))
    assert turn.seen[16].any()
    assert not turn.seen[12:14].any()
    assert not camera_mask(scene_of(semantics), 0)[12:14].any()


def test_the_sensor_moves_with_the_ego_in_a_world_fixed_grid():
    """Turned left by 90 degrees and 2 m on, the ego's front is the grid's left."""
    semantics = empty(frames=2)
    semantics[:, :, 10] = BUILDING  # a wall from y = 2.0 to 2.5
    poses = poses_from_trajectory(np.array([[0.0, 0, 0], [2.0, 0.0, np.pi / 2]]))
    scene = scene_of(semantics, poses=poses, anchor=0)
    lidar = Lidar((0.0, 0.0, 0.6), (0.0, 0.0), beams=1, columns=4, min_range=0.0, max_range=50.0)
    ahead = scan(scene, 1, lidar)
    assert ahead.voxel.tolist() == [[14, 10, 3]]
    assert ahead.points[0] == pytest.approx([2.0, 0.0, 0.0], abs=1e-3)
    left = scan(scene, 0, lidar)
    assert left.voxel.tolist() == [[10, 10, 3]]
    assert left.points[0] == pytest.approx([0.0, 2.0, 0.0], abs=1e-3)


def test_what_one_pose_saw_counts_as_seen_in_every_frame_that_covers_it():
    """The ego drives 2 m: the voxel seen ahead at 4 m is the one ahead at 2 m in the next frame."""
    poses = poses_from_trajectory(np.array([[0.0, 0, 0], [2.0, 0, 0]]))
    scene = scene_of(empty(frames=2), poses=poses)
    seen = np.zeros(scene.semantics.shape, bool)
    seen[0, 18, 6, 3] = True
    merged = seen_over_time(scene, seen)
    assert merged[1, 14, 6, 3]
    assert merged[0, 18, 6, 3]
    assert merged.sum() == 2
    unknown = scene.semantics.copy()
    unknown[1, 14, 6, 3] = 255
    assert not seen_over_time(dataclasses.replace(scene, semantics=unknown), seen)[1].any()


def test_the_lidar_looks_all_round_between_its_lowest_and_highest_beam():
    directions = HDL_32E.directions()
    assert directions.shape == (32 * 1080, 3)
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1.0)
    elevation = np.rad2deg(np.arcsin(directions[:, 2]))
    assert (elevation.min(), elevation.max()) == pytest.approx((-30.67, 10.67))
    assert directions[0, 0] > 0  # from the top beam, straight ahead
    assert directions[270, 1] > 0.9  # a quarter turn on: left


@pytest.mark.parametrize("camera", NUSCENES_CAMERAS, ids=lambda c: c.name)
def test_cameras_look_where_their_names_say(camera):
    rays = camera.directions(10)
    middle = rays.mean(axis=0)
    yaw = np.rad2deg(np.arctan2(middle[1], middle[0]))
    side = {"FRONT": 0, "LEFT": 55, "RIGHT": -55, "BACK": 180}
    expected = {"CAM_BACK_LEFT": 110, "CAM_BACK_RIGHT": -110}.get(camera.name, side[camera.name.rsplit("_", 1)[1]])
    assert np.cos(np.deg2rad(yaw - expected)) == pytest.approx(1.0)
    assert rays[0, 2] > 0 > rays[-1, 2]  # the first row looks up, the last one down
    rotation = camera.rotation()
    assert rotation @ rotation.T == pytest.approx(np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    # A ray through a pixel projects back onto that pixel.
    pixel = camera.intrinsic() @ (rotation.T @ rays[0])
    assert pixel[:2] / pixel[2] == pytest.approx([5.0, 5.0])


def test_a_frame_of_occ3d_size_takes_well_under_a_second_on_one_core():
    grid = GridSpec((200, 200, 16), (0.4, 0.4, 0.4), (-40.0, -40.0, -1.0), 2.0)
    semantics = empty(grid=grid)
    semantics[..., :3] = ROAD
    scene = scene_of(semantics, grid)
    started = time.process_time()
    scan(scene, 0, HDL_32E)
    camera_mask(scene, 0)
    assert time.process_time() - started < 2.0  # 0.25 s when measured alone
