from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dyncity.anchoring import along, anchored, clip_of, complete_static, ego_windows, path_on_grid
from dyncity.conditions import Conditions, poses_from_trajectory, yaw_between
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE

WINDOW = GridSpec((16, 16, 2), (1.0, 1.0, 1.0), (-8.0, -8.0, -1.0), 5.0)
WIDE = WINDOW.padded((8, 8))
ROAD, CAR, BUILDING = NATIVE.id("road"), NATIVE.id("car"), NATIVE.id("building")


def world_scene(trajectory: np.ndarray, semantics: np.ndarray) -> OccupancyScene:
    t = len(trajectory)
    return OccupancyScene(
        scene_id="w",
        semantics=semantics,
        poses=poses_from_trajectory(trajectory),
        grid=WIDE,
        taxonomy="native",
        timestamps_us=np.arange(t, dtype=np.int64),
        anchor=t // 2,
    )


def straight(frames: int, step: float) -> np.ndarray:
    return np.stack([np.arange(frames) * step, np.zeros(frames), np.zeros(frames)], axis=1)


def city(frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.repeat(rng.choice([0, ROAD, BUILDING], WIDE.shape)[None], frames, axis=0).astype(np.uint8)


def test_windows_along_whole_voxels_are_exact_slices() -> None:
    scene = world_scene(straight(5, 1.0), city(5))
    windows = ego_windows(scene, WINDOW)
    assert windows.anchor is None
    for t in range(5):
        start = 8 + t - 2  # the anchor is frame 2, two voxels ahead of frame 0
        np.testing.assert_array_equal(windows.semantics[t], scene.semantics[t, start : start + 16, 8:-8])


def test_a_window_turned_by_a_quarter_is_a_rotated_slice() -> None:
    trajectory = np.zeros((3, 3))
    trajectory[2, 2] = np.pi / 2
    scene = world_scene(trajectory, city(3))
    turned = ego_windows(scene, WINDOW).semantics[2]
    inner = scene.semantics[2, 8:-8, 8:-8]
    # Forward is now the world's left: x' = y, y' = -x.
    np.testing.assert_array_equal(turned, np.rot90(inner, -1, axes=(0, 1)))


def test_what_the_grid_does_not_cover_is_unknown_not_free() -> None:
    scene = world_scene(straight(5, 8.0), city(5))
    masks = {name: np.ones(scene.semantics.shape, np.uint8) for name in ("mask_lidar", "mask_camera")}
    instances = np.ones(scene.semantics.shape, np.uint16)
    windows = ego_windows(replace(scene, instances=instances, **masks), WINDOW)
    assert (windows.semantics[0, :8] == 255).all()
    assert (windows.semantics[2] != 255).all()
    for array in (windows.mask_lidar, windows.mask_camera, windows.instances):
        assert array is not None
        np.testing.assert_array_equal(array, windows.semantics != 255)  # unseen, and nobody's


def test_cutting_out_and_anchoring_again_gives_the_same_city() -> None:
    scene = world_scene(straight(5, 1.0), city(5))
    again = anchored(ego_windows(scene, WINDOW), WIDE)
    known = again.semantics != 255
    assert known.mean() > 0.25
    np.testing.assert_array_equal(again.semantics[known], scene.semantics[known])


def test_static_classes_are_filled_from_other_frames_and_movers_are_not() -> None:
    semantics = np.full((3, 1, 1, 4), 255, np.uint8)
    semantics[0, 0, 0] = [BUILDING, CAR, 0, 255]
    semantics[2, 0, 0, 0] = ROAD
    filled = complete_static(semantics, "native")
    np.testing.assert_array_equal(filled[1, 0, 0], [BUILDING, 255, 255, 255])
    np.testing.assert_array_equal(filled[2, 0, 0], [ROAD, 255, 255, 255])
    np.testing.assert_array_equal(filled[0, 0, 0], [BUILDING, CAR, 0, 255])


def test_static_classes_are_filled_from_the_nearest_frame() -> None:
    semantics = np.full((4, 1, 1, 1), 255, np.uint8)
    semantics[[0, 1], 0, 0, 0] = [BUILDING, ROAD]
    assert complete_static(semantics, "native").reshape(-1).tolist() == [BUILDING, ROAD, ROAD, ROAD]


def test_the_path_on_a_turned_grid_is_seen_from_that_grid() -> None:
    path = path_on_grid(straight(3, 2.0), 1, np.pi / 2)
    np.testing.assert_allclose(path, [(0, 2, -np.pi / 2), (0, 0, -np.pi / 2), (0, -2, -np.pi / 2)], atol=1e-12)
    np.testing.assert_allclose(path_on_grid(straight(3, 2.0), 1, None), [(-2, 0, 0), (0, 0, 0), (2, 0, 0)])
    assert path_on_grid(straight(3, 2.0), None, None) == [(0.0, 0.0, 0.0)] * 3


def test_a_clip_starts_a_world_of_its_own(make_scene) -> None:  # type: ignore[no-untyped-def]
    scene = make_scene(frames=6)
    clip = clip_of(scene, 2, 3)
    np.testing.assert_array_equal(clip.poses[0], np.eye(4))
    np.testing.assert_allclose(scene.poses[2] @ clip.poses[2], scene.poses[4], atol=1e-12)
    np.testing.assert_array_equal(clip.semantics, scene.semantics[2:5])
    np.testing.assert_array_equal(clip.timestamps_us, scene.timestamps_us[2:5])
    with pytest.raises(InputError, match="has 6 frames"):
        clip_of(scene, 4, 3)


def test_a_grid_turned_to_the_street_is_read_and_placed_where_it_lies() -> None:
    """The ego heads for the world's left; its grid is turned back, so voxels are where they are without any turn."""
    trajectory = np.zeros((3, 3))
    trajectory[1:, 2] = np.pi / 2
    plain = world_scene(np.zeros((3, 3)), city(3))
    turned = replace(world_scene(trajectory, city(3)), conditions=Conditions(grid_yaw=-np.pi / 2))
    np.testing.assert_allclose(turned.grid_poses(), plain.grid_poses(), atol=1e-12)
    np.testing.assert_array_equal(ego_windows(turned, WINDOW).semantics[0], ego_windows(plain, WINDOW).semantics[0])
    again = anchored(ego_windows(turned, WIDE), WIDE)
    seen = again.semantics != UNKNOWN
    assert seen.mean() > 0.7
    np.testing.assert_array_equal(again.semantics[seen], turned.semantics[seen])


def test_a_clip_of_a_longer_scene_keeps_the_direction_of_its_streets() -> None:
    trajectory = np.zeros((6, 3))
    trajectory[:, 2] = 0.1 * np.arange(6)
    scene = OccupancyScene(
        scene_id="e", semantics=np.zeros((6, *WINDOW.shape), np.uint8), poses=poses_from_trajectory(trajectory),
        grid=WINDOW, taxonomy="native", timestamps_us=np.arange(6, dtype=np.int64),
        conditions=Conditions(grid_yaw=-0.3),
    )  # fmt: skip
    assert clip_of(scene, 2, 4).conditions.grid_yaw == pytest.approx(-0.4)
    assert clip_of(replace(scene, conditions=Conditions()), 2, 4).conditions.grid_yaw is None


@pytest.mark.parametrize(
    ("heading", "axis"), [(0.1, 0.0), (0.7, 0.0), (0.9, np.pi / 2), (-2.0, -np.pi / 2), (3.0, np.pi)]
)
def test_along_takes_the_axis_nearest_to_the_heading(heading: float, axis: float) -> None:
    place, pose = poses_from_trajectory(np.array([[1.0, 2.0, 0.4], [5.0, 6.0, 0.4 + heading]]))
    found = along(place, pose)
    np.testing.assert_allclose(found[:3, 3], pose[:3, 3])
    assert np.cos(yaw_between(place, found) - axis) == pytest.approx(1)
