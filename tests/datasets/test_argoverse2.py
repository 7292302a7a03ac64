"""Geometry of imported Argoverse 2 logs, on logs whose geometry is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argoverse2_log import Car, Drive
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.datasets.argoverse2.categories import NATIVE_CLASS, native_id
from dyncity.datasets.argoverse2.ground_map import dilate, fill
from dyncity.datasets.argoverse2.log import Log
from dyncity.datasets.argoverse2.voxelise import read_world, scene
from dyncity.grid import GridSpec
from dyncity.presets import preset
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import NATIVE

TINY = preset("tiny").grid
FREE, UNKNOWN = 0, 255
ID = {name: index for index, name in enumerate(NATIVE.classes)}


def read(drive: Drive, folder: Path, grid: GridSpec = TINY) -> OccupancyScene:
    return scene(read_world(Log(drive.write(folder)), grid), "log")


def moved(from_scene: OccupancyScene, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Semantics of frame i's voxels, and of frame j where those lie, for those inside both."""
    pose = np.linalg.inv(from_scene.poses[j]) @ from_scene.poses[i]
    points = from_scene.grid.centers().reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]
    index, inside = from_scene.grid.index(points)
    return from_scene.semantics[i].reshape(-1)[inside], from_scene.semantics[j][tuple(index[inside].T)]


def at(shown: OccupancyScene, frame: int, x: float, y: float, z: float) -> int:
    index, inside = shown.grid.index(np.array([x, y, z]))
    assert inside
    return int(shown.semantics[frame][tuple(index)])


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.0])
def test_a_car_takes_exactly_the_voxels_whose_centres_it_holds(tmp_path: Path, yaw: float) -> None:
    """4 x 2 x 1.5 m at 10 m ahead, 3.2 m left: 5 x 2 x 1 voxels, whichever way the road runs."""
    shown = read(Drive(yaw=yaw, speed=0.0, cars=[Car(10.0, 3.2)]), tmp_path)
    expected = np.zeros(TINY.shape, bool)
    expected[42:47, 35:37, 2] = True
    for frame in range(shown.frames):
        np.testing.assert_array_equal(shown.semantics[frame] == ID["car"], expected)
        np.testing.assert_array_equal(shown.instances[frame] == 1, expected)


def test_a_moving_car_keeps_its_number_and_its_boxes_follow_it(tmp_path: Path) -> None:
    cars = [Car(10.0, 3.2, speed=8.0, name="b"), Car(5.0, -3.2, name="a", category="BUS", size=(10.0, 2.5, 3.2))]
    shown = read(Drive(cars=cars), tmp_path)
    boxes = shown.boxes
    assert boxes is not None
    bus, car = 1, 2  # numbered by first time, then by name
    for frame in range(shown.frames):
        assert set(np.unique(shown.instances[frame][shown.semantics[frame] == ID["car"]])) == {car}
        assert set(np.unique(shown.instances[frame][shown.semantics[frame] == ID["bus"]])) == {bus}
    own = boxes.track == car
    assert list(boxes.frame[own]) == list(range(shown.frames))
    np.testing.assert_allclose(boxes.center[own, 0], 10.0 + 8.0 * 0.2 * np.arange(shown.frames), atol=1e-3)
    np.testing.assert_allclose(boxes.center[own, 1:], [[3.2, 0.75]] * shown.frames, atol=1e-3)
    np.testing.assert_allclose(boxes.size[own], [[4.0, 2.0, 1.5]] * shown.frames, atol=1e-6)
    assert set(boxes.label[own]) == {ID["car"]}


@pytest.mark.parametrize(("yaw", "slope"), [(0.0, 0.0), (0.4, 0.08), (2.5, -0.12)])
def test_the_road_lies_at_height_zero_also_on_a_slope(tmp_path: Path, yaw: float, slope: float) -> None:
    shown = read(Drive(yaw=yaw, slope=slope, frames=3), tmp_path)
    road = shown.semantics[0] == ID["road"]
    assert road[:, 22:42, 1].mean() > 0.85  # the crossing takes the rest
    assert road.any(axis=(0, 1)).nonzero()[0].tolist() == [1]
    assert (shown.semantics[0][:, 24:40, 0] == UNKNOWN).all()  # nobody looked under the road


def test_the_map_becomes_road_crosswalk_sidewalk_and_terrain_where_they_are(tmp_path: Path) -> None:
    shown = read(Drive(frames=3), tmp_path)
    assert at(shown, 0, 10, 7.0, 0) == ID["road"]
    assert at(shown, 0, 21.5, 2, 0) == ID["crosswalk"]
    assert at(shown, 0, 10, 9.5, 0) == at(shown, 0, 10, -9.5, 0) == ID["sidewalk"]
    assert at(shown, 0, 10, 13.5, 0) == ID["terrain"]
    assert at(shown, 0, 10, 20, 0) == UNKNOWN  # the height raster ends 8 m beside the road


def test_painted_lines_are_drawn_in_fine_voxels_only(tmp_path: Path) -> None:
    fine = GridSpec((64, 64, 8), (0.4, 0.4, 0.4), (-12.8, -12.8, -1.0), 5.0)
    shown = read(Drive(frames=3), tmp_path, fine)
    lines = (shown.semantics[0] == ID["lane_marking"]).any(axis=2)
    assert lines.all(axis=0).nonzero()[0].tolist() in ([31], [32], [31, 32])  # y = 0, unbroken
    assert not lines[:, [20, 21, 22, 23]].any()  # the boundary at y = -4 is not painted
    coarse = scene(read_world(Log(tmp_path / Drive().name), TINY), "log")
    assert not (coarse.semantics == ID["lane_marking"]).any()


def test_poses_are_the_log_s_own_and_start_at_the_identity(tmp_path: Path) -> None:
    shown = read(Drive(yaw=1.0, slope=0.1, frames=21), tmp_path)
    assert shown.frames == 11
    np.testing.assert_array_equal(shown.poses[0], np.eye(4))
    expected = np.tile(np.eye(4), (11, 1, 1))
    expected[:, 0, 3] = 4.0 * 0.2 * np.arange(11)  # along the slope, which is the first ego's own x
    np.testing.assert_allclose(shown.poses, expected, atol=1e-6)
    np.testing.assert_array_equal(np.diff(shown.timestamps_us), 200_000)
    assert shown.conditions.command == "forward"


@pytest.mark.parametrize("with_ego", [False, True])
def test_both_names_of_the_annotations_are_read_and_the_ego_is_no_obstacle(tmp_path: Path, with_ego: bool) -> None:
    shown = read(Drive(with_ego=with_ego, cars=[Car(10.0, 3.2)]), tmp_path)
    assert set(shown.boxes.track) == {1}
    assert at(shown, 3, 1.5, 0, 0.8) == FREE
    assert at(shown, 0, 10, 3.2, 0.8) == ID["car"]


def test_a_log_with_nothing_but_the_ego_is_an_empty_street(tmp_path: Path) -> None:
    shown = read(Drive(with_ego=True), tmp_path)
    assert len(shown.boxes) == 0
    assert shown.instances.max() == 0


def test_without_sweeps_the_space_above_the_road_is_free_and_all_else_unknown(tmp_path: Path) -> None:
    shown = read(Drive(frames=3), tmp_path)
    assert at(shown, 0, 10, 5, 0.8) == at(shown, 0, 10, 5, 3.2) == FREE
    assert at(shown, 0, 10, 5, 4.6) == UNKNOWN  # above 4 m
    assert at(shown, 0, 10, 10, 0.8) == at(shown, 0, 10, 20, 0.8) == UNKNOWN  # beside the road
    assert shown.provenance["free_space"] == "drivable"


def test_a_parked_car_that_is_not_annotated_for_a_while_leaves_unknown_and_not_free(tmp_path: Path) -> None:
    shown = read(Drive(speed=0.0, cars=[Car(10.0, 3.2, frames=range(4)), Car(0, -5, name="c")]), tmp_path)
    assert at(shown, 0, 10, 3.2, 0.8) == ID["car"]
    assert at(shown, 4, 10, 3.2, 0.8) == UNKNOWN


def test_cones_and_signs_belong_to_the_static_world_and_stay_when_no_longer_annotated(tmp_path: Path) -> None:
    cone = Car(10.0, 3.0, size=(0.4, 0.4, 0.8), category="CONSTRUCTION_CONE", frames=range(2))
    shown = read(Drive(speed=0.0, cars=[cone], with_ego=True), tmp_path)
    cones = shown.semantics == ID["traffic_cone"]
    assert (cones.sum(axis=(1, 2, 3)) == 1).all()  # smaller than a voxel, and yet there
    np.testing.assert_array_equal(cones[0], cones[-1])


@pytest.mark.parametrize(("sweeps", "free_space"), [(1, "rays+drivable"), (2, "rays+drivable"), (11, "rays")])
def test_sweeps_show_walls_the_space_before_them_and_nothing_behind(
    tmp_path: Path, sweeps: int, free_space: str
) -> None:
    shown = read(Drive(sweeps=sweeps, walls=(12.4,)), tmp_path)
    assert shown.provenance["free_space"] == free_space
    for x in (-10, 0, 10):
        assert at(shown, 0, x, 12.4, 1.6) == ID["unclassified"]
        assert at(shown, 0, x, 10.0, 1.6) == FREE
        assert at(shown, 0, x, 15.0, 1.6) == UNKNOWN
    assert at(shown, 0, 0, 12.4, 0) == ID["terrain"]  # the wall's foot stands on the ground


def test_with_many_sweeps_free_space_is_what_rays_crossed(tmp_path: Path) -> None:
    shown = read(Drive(sweeps=11), tmp_path)
    assert at(shown, 0, 6, 5, 0.8) == FREE
    assert at(shown, 0, 6, 5, 3.2) == UNKNOWN  # above the sensor, and nothing up there sent a ray back
    assert at(shown, 0, 1.5, 0, 0.8) == FREE  # where the ego itself was


def test_what_moves_leaves_no_trail_and_single_points_no_voxel(tmp_path: Path) -> None:
    drive = Drive(
        sweeps=11, cars=[Car(-10.0, 3.2, speed=15.0)], specks=((8.0, -5.0, 1.6), (8.1, -5.0, 1.6)), walls=(12.4,)
    )
    shown = read(drive, tmp_path)
    solid = (shown.semantics == ID["unclassified"]).any(axis=(0, 3))
    assert solid.any(axis=0).nonzero()[0].tolist() == [47]  # the wall alone
    assert (shown.semantics == ID["car"]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("sweeps", [0, 2, 11])
def test_static_voxels_stay_where_they_are_when_the_ego_drives_by_whole_voxels(tmp_path: Path, sweeps: int) -> None:
    """At 4 m/s a frame is one voxel: frames posed into each other must be equal, voxel for voxel."""
    drive = Drive(sweeps=sweeps, walls=(12.4,), cars=[Car(10.0, 3.2, speed=2.0), Car(2.0, -6.0, name="p")])
    shown = read(drive, tmp_path)
    a, b = moved(shown, 0, 5)
    static = ~np.isin(a, NATIVE.movers) & ~np.isin(b, NATIVE.movers)
    assert static.mean() > 0.9
    np.testing.assert_array_equal(a[static], b[static])


@pytest.mark.parametrize(("yaw", "slope"), [(0.3, 0.0), (1.0, 0.06)])
def test_static_voxels_agree_up_to_nearest_neighbours_on_any_path(tmp_path: Path, yaw: float, slope: float) -> None:
    shown = read(Drive(yaw=yaw, slope=slope, speed=7.3, sweeps=11, walls=(12.4, -11.0)), tmp_path)
    a, b = moved(shown, 0, 5)
    known = (a != UNKNOWN) & (b != UNKNOWN)
    assert (a == b)[known].mean() > 0.97
    both = known & (a != FREE) & (b != FREE)
    assert both.sum() > 1000
    assert (a == b)[both].mean() > 0.95


def test_pieces_of_a_log_hold_the_same_voxels_as_the_whole(tmp_path: Path) -> None:
    world = read_world(Log(Drive(cars=[Car(10.0, 3.2, speed=6.0)]).write(tmp_path)), TINY)
    whole, piece = scene(world, "whole"), scene(world, "piece", 2, 3)
    np.testing.assert_array_equal(piece.semantics, whole.semantics[2:5])
    np.testing.assert_array_equal(piece.instances, whole.instances[2:5])
    np.testing.assert_array_equal(piece.poses[0], np.eye(4))
    assert set(piece.boxes.frame) == {0, 1, 2}


def test_a_quiet_moment_is_a_frame_where_a_sweep_shows_that_it_was_recorded(tmp_path: Path) -> None:
    drive = Drive(sweeps=11, cars=[Car(5.0, 3.2, frames=range(4)), Car(5.0, -3.2, name="c", frames=range(6, 11))])
    shown = read(drive, tmp_path, preset("carlasc").grid)
    assert shown.frames == 11
    assert not np.isin(shown.semantics[5], NATIVE.movers).any()


def test_all_categories_have_a_native_class_and_unlisted_ones_go_by_their_motion() -> None:
    assert len(NATIVE_CLASS) == 30
    assert set(NATIVE_CLASS.values()) <= set(NATIVE.classes)
    assert native_id("HOVERCRAFT", moves=True) == ID["other_vehicle"]
    assert native_id("HOVERCRAFT", moves=False) == ID["other_object"]


@settings(max_examples=40)
@given(st.integers(3, 9), st.integers(0, 2**31))
def test_polygons_fill_the_cells_whose_centres_they_hold(corners: int, seed: int) -> None:
    """Against the crossing number of every cell centre, corners far outside included."""
    outline = np.random.default_rng(seed).uniform(-8, 28, (corners, 2))
    mask = np.zeros((20, 23), bool)
    fill(mask, outline)
    y, x = np.mgrid[0:20, 0:23] + 0.5
    inside = np.zeros_like(mask)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (y0 <= y) != (y1 <= y)
        inside ^= crosses & (x > x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    np.testing.assert_array_equal(mask, inside)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.0, 6.0))
def test_dilation_sets_what_lies_within_the_radius(seed: int, radius: float) -> None:
    mask = np.random.default_rng(seed).random((14, 17)) < 0.03
    y, x = np.mgrid[0:14, 0:17]
    near = np.zeros_like(mask)
    for r, c in np.argwhere(mask):
        near |= (y - r) ** 2 + (x - c) ** 2 <= radius**2
    np.testing.assert_array_equal(dilate(mask, radius), near)
