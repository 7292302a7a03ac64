"""Simulated sensors against cases that can be worked out by hand."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.conditions import poses_from_trajectory
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.cameras import NUSCENES_CAMERAS, Camera, camera_images, camera_mask, point_map, read_cameras
from exporters.sensors import HDL_32E, HDL_64E, Lidar, even, scan
from exporters.visibility import seen_over_time

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


def test_scan_points_lie_in_the_voxels_they_hit_also_as_float32():
    rng = np.random.default_rng(5)
    semantics = np.where(rng.random((1, *GRID.shape)) < 0.1, BUILDING, 0).astype(np.uint8)
    lidar = Lidar((0.1, 0.0, 0.6), even(-40.0, 20.0, 24), columns=90, min_range=0.0, max_range=50.0)
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
    lidar = Lidar((0.1, 0.1, 0.6), (0.0,), columns=4, min_range=0.0, max_range=50.0)
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
    lidar = Lidar((0.0, 0.0, 0.6), (0.0,), columns=4, min_range=0.0, max_range=50.0)
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


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), tilt=st.sampled_from([0.0, 0.2]), height=st.sampled_from([3, 16]))
def test_merged_voxels_are_those_whose_centres_fall_into_seen_ones(seed, tilt, height):
    """Looked up one by one, level and tilted; unknown and moving voxels keep what their own frame saw of them."""
    rng = np.random.default_rng(seed)
    grid = GridSpec((7, 5, height), (0.5, 0.4, 0.3), (-1.7, -1.0, -0.4), 5.0)
    semantics = rng.choice([0, BUILDING, 17, 255], (3, *grid.shape)).astype(np.uint8)
    poses = poses_from_trajectory(np.concatenate([np.zeros((1, 3)), rng.uniform(-1, 1, (2, 3))]))
    for pose, angle in zip(poses[1:], rng.uniform(-tilt, tilt, 2), strict=True):
        pose[:3, :3] = pose[:3, :3] @ [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    seen = rng.random(semantics.shape) < 0.3
    expected = seen & (semantics != 255)
    for frame, source in itertools.permutations(range(3), 2):
        world = grid.centers() @ poses[frame, :3, :3].T + poses[frame, :3, 3]
        index, inside = grid.index((world - poses[source, :3, 3]) @ poses[source, :3, :3])
        stands = (semantics[frame] != 17) & (semantics[frame] != 255)
        expected[frame] |= seen[source][tuple(np.moveaxis(index, -1, 0))] & inside & stands
    merged = seen_over_time(scene_of(semantics, grid, poses=poses), seen)
    np.testing.assert_array_equal(merged, expected)


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


def test_lost_returns_are_the_share_asked_for_the_same_each_time_and_still_clear_their_way():
    semantics = empty()
    semantics[0, 0] = semantics[0, -1] = semantics[0, :, 0] = semantics[0, :, -1] = BUILDING
    lidar = Lidar((0.1, 0.1, 0.6), even(-30.0, 30.0, 20), columns=360, min_range=0.0, max_range=50.0)
    whole = scan(scene_of(semantics), 0, lidar)
    lossy = dataclasses.replace(lidar, drop_out=0.25)
    part = scan(scene_of(semantics), 0, lossy)
    assert 0.72 < len(part.points) / len(whole.points) < 0.78
    assert {tuple(p) for p in part.points.tolist()} < {tuple(p) for p in whole.points.tolist()}
    assert (part.seen == whole.seen).all()
    assert (scan(scene_of(semantics), 0, lossy).points == part.points).all()
    other = scan(scene_of(semantics, scene_id="other"), 0, lossy)
    assert len(other.points) != len(part.points) or (other.points != part.points).any()
    twice = scene_of(np.repeat(semantics, 2, axis=0))
    first, second = (scan(twice, frame, lossy).points.tolist() for frame in range(2))
    assert first == part.points.tolist()
    assert first != second  # each turn loses others


def test_a_turning_lidar_fires_from_where_the_ego_is_by_then_and_points_are_compensated():
    """4 m in a frame of 1 s, a turn of 1 s: half a turn later the sensor is 2 m on, and looks back."""
    semantics = empty(frames=2)
    semantics[:, 0] = semantics[:, -1] = BUILDING
    poses = poses_from_trajectory(np.array([[0.0, 0, 0], [4.0, 0, 0]]))
    scene = scene_of(semantics, poses=poses, anchor=0, timestamps_us=np.array([0, 1_000_000]))
    lidar = Lidar((0.1, 0.1, 0.6), (0.0,), columns=2, min_range=0.0, max_range=6.0)
    still = scan(scene, 0, lidar)
    assert [round(x, 1) for x in still.points[:, 0].tolist()] == [4.4, -4.6]  # ahead at 4.5, behind at -4.5
    # From 2 m further on the wall behind is 6.6 m away: out of range.
    moving = scan(scene, 0, dataclasses.replace(lidar, turn_seconds=1.0))
    assert moving.voxel[:, 0].tolist() == [19]
    far = dataclasses.replace(lidar, turn_seconds=1.0, max_range=7.0)
    points = scan(scene, 0, far).points
    assert points[:, 0] == pytest.approx(still.points[:, 0], abs=2e-3)  # compensated: the walls stand still


@pytest.mark.parametrize(("frame", "max_range", "hit"), [(1, 7.3, [19, 0]), (2, 7.9, [19])])
def test_a_turn_goes_the_way_to_the_next_frame_and_the_last_one_on_as_before(frame, max_range, hit):
    """2 m, then 1 m a frame of 1 s: half a turn later the sensor is half a metre on in both."""
    semantics = empty(frames=3)
    semantics[:, 0] = semantics[:, -1] = BUILDING
    poses = poses_from_trajectory(np.array([[0.0, 0, 0], [2.0, 0, 0], [3.0, 0, 0]]))
    scene = scene_of(semantics, poses=poses, anchor=0, timestamps_us=np.arange(3) * 1_000_000)
    lidar = Lidar((0.1, 0.1, 0.6), (0.0,), 2, 0.0, max_range, turn_seconds=1.0)
    # The wall behind, at -4.5 m, is 7.1 m away by then, and 8.1 m a frame later; where the frames began, 6.6 and 7.6.
    assert scan(scene, frame, lidar).voxel[:, 0].tolist() == hit


def test_images_show_depth_class_and_instance_of_what_each_pixel_meets():
    semantics, instances = empty(), np.zeros((1, *GRID.shape), np.uint16)
    semantics[0, 16, 4:8, :4] = 17
    instances[0, 16, 4:8, :4] = 9
    camera = Camera("C", (0.1, 0.0, 0.5), 0.0, 50.0, width=100, height=60)
    images = camera_images(scene_of(semantics, instances=instances), 0, camera)
    assert images.depth.shape == images.semantics.shape == images.instances.shape == (60, 100)
    # The car's back is at x = 3: 2.9 m along the axis in every pixel that meets it, y within +-1, z up to 1.
    met = images.instances == 9
    assert (images.semantics[met] == 17).all()
    assert (images.semantics[~met] == 0).all()
    assert images.depth[met & (images.depth < 2.95)] == pytest.approx(2.9)
    rows, columns = np.nonzero(met)
    assert (columns.min(), columns.max()) == (33, 66)  # 50 -+ 50 / 2.9
    assert rows.min() == 30 - 9  # 0.5 m above the axis: 30 - 50 * 0.5 / 2.9
    assert np.isinf(images.depth[~met]).all()
    assert camera_images(scene_of(semantics), 0, camera, stride=4).depth.shape == (15, 25)


def test_point_maps_of_all_cameras_and_frames_lie_on_the_same_world():
    """Each point, a little further along its ray, is in a voxel of the world of the class that the pixel shows."""
    rng = np.random.default_rng(3)
    world = np.where(rng.random(GRID.shape) < 0.03, rng.choice([BUILDING, 12, 17], GRID.shape), 0).astype(np.uint8)
    poses = poses_from_trajectory(np.array([[0.0, 0, 0], [1.3, -0.4, 0.6]]))
    scene = scene_of(np.stack([world, world]), poses=poses, anchor=0)
    cameras = [
        Camera("A", (0.3, 0.1, 0.6), 0.0, 40.0, 64, 48, pitch=8.0),
        Camera("B", (-0.2, 0, 0.7), 130.0, 30.0, 64, 48),
    ]
    for camera, frame in itertools.product(cameras, range(2)):
        images = camera_images(scene, frame, camera, stride=2)
        points = point_map(camera, images.depth, poses[frame], stride=2)
        hit = np.isfinite(images.depth)
        assert points.shape == (24, 32, 3)
        assert hit.sum() > 50
        assert np.isnan(points[~hit]).all()
        lens = (poses[frame] @ camera.to_ego())[:3, 3]
        ahead = points[hit] - lens
        index, inside = GRID.index(points[hit] + 1e-4 * ahead)
        assert inside.all()
        np.testing.assert_array_equal(world[tuple(index.T)], images.semantics[hit])


def test_a_pitched_camera_looks_down():
    camera = Camera("C", (0.0, 0.0, 2.0), 30.0, 50.0, pitch=20.0)
    view = camera.rotation() @ [0, 0, 1]
    assert np.rad2deg(np.arcsin(view[2])) == pytest.approx(-20.0)
    assert np.rad2deg(np.arctan2(view[1], view[0])) == pytest.approx(30.0)
    assert np.linalg.det(camera.rotation()) == pytest.approx(1.0)


def test_a_rig_is_read_from_a_file_and_what_does_not_fit_is_told_in_one_line(tmp_path):
    path = tmp_path / "rig.json"
    row = {"name": "LEFT", "position": [1, 0.5, 1.6], "yaw": 90, "focal": 800.0}
    path.write_text(json.dumps([row, row | {"name": "RIGHT", "yaw": -90, "width": 640, "height": 480}]))
    left, right = read_cameras(path)
    assert left == Camera("LEFT", (1.0, 0.5, 1.6), 90, 800.0)
    assert (right.width, right.height) == (640, 480)
    bad = {
        "not readable as JSON": "{",
        "no list": "{}",
        "unknown field": json.dumps([row | {"fov": 1}]),
        "has no yaw": json.dumps([{k: v for k, v in row.items() if k != "yaw"}]),
        "three numbers for position": json.dumps([row | {"position": [1, 2]}]),
        "focal is": json.dumps([row | {"focal": "wide"}]),
        "position is": json.dumps([row | {"position": [1, 2, "x"]}]),
        "without extent": json.dumps([row | {"focal": 0}]),
        "twice": json.dumps([row, row]),
        "letters": json.dumps([row | {"name": "../x"}]),
    }
    for text, content in bad.items():
        path.write_text(content)
        with pytest.raises(InputError, match=text):
            read_cameras(path)
    with pytest.raises(InputError, match="there is no such file"):
        read_cameras(tmp_path / "none.json")
