"""What an Occ3D tree promises beyond its bytes: masks, splits, tokens, numbers, determinism."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_tree import taken, write_tree

from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.presets import preset
from dyncity.scene import OccupancyScene
from exporters.cameras import NUSCENES_CAMERAS, Camera, camera_mask
from exporters.native_tree import TreeOptions
from exporters.occ3d import Occ3DNuScenesTree, frame_token, occ3d_frames, quaternion
from exporters.sensors import HDL_32E

OCC3D_GRID = GridSpec((200, 200, 16), (0.4, 0.4, 0.4), (-40.0, -40.0, -1.0), 2.0)


def test_masks_of_the_scene_are_taken_where_it_has_them(make_scene: Callable[..., OccupancyScene]):
    scene = make_scene(3, frames=1, grid=OCC3D_GRID, columns=("mask_lidar", "mask_camera"))
    (frame,) = occ3d_frames(scene, "occ3d-nuscenes", HDL_32E, NUSCENES_CAMERAS)
    known = scene.semantics[0] != 255
    assert (frame.mask_lidar == (scene.mask_lidar[0] & known)).all()
    assert (frame.mask_camera == (scene.mask_camera[0] & known)).all()


def test_what_is_said_to_be_observed_is_what_cameras_may_see(make_scene: Callable[..., OccupancyScene]):
    scene = make_scene(3, frames=2, grid=OCC3D_GRID, columns=("mask_lidar",))
    for number, frame in enumerate(occ3d_frames(scene, "occ3d-nuscenes", HDL_32E, NUSCENES_CAMERAS)):
        observed = (scene.mask_lidar[number] > 0) & (scene.semantics[number] != 255)
        assert (frame.mask_lidar == observed).all()
        assert (frame.mask_camera == (observed & camera_mask(scene, number))).all()
        assert frame.mask_camera.any()


def test_every_class_keeps_its_meaning(make_scene: Callable[..., OccupancyScene]):
    scene = make_scene(4, frames=1, grid=OCC3D_GRID, columns=("mask_lidar", "mask_camera"))
    (frame,) = occ3d_frames(scene, "occ3d-nuscenes", HDL_32E, NUSCENES_CAMERAS)
    for native, occ3d in {0: 17, 1: 11, 5: 13, 7: 15, 15: 8, 17: 4, 18: 10, 25: 7, 255: 17}.items():
        assert (frame.semantics[scene.semantics[0] == native] == occ3d).all()


def test_scenes_on_a_coarse_smaller_grid_fill_their_part_and_leave_the_rest_unknown():
    grid = preset("tiny").grid
    semantics = np.zeros((2, *grid.shape), np.uint8)
    semantics[..., 1] = 1
    scene = OccupancyScene(
        scene_id="tiny",
        semantics=semantics,
        poses=np.tile(np.eye(4), (2, 1, 1)),
        grid=grid,
        taxonomy="native",
        timestamps_us=np.array([0, 200_000]),
    )
    for frame in occ3d_frames(scene, "occ3d-nuscenes", HDL_32E, NUSCENES_CAMERAS):
        assert (frame.semantics[36:164, 36:164, 2] == 11).all()  # z -0.2 to 0.2 m, within 25.6 m
        assert (frame.semantics[:36] == 17).all()
        assert not frame.mask_lidar[:36].any()
        assert frame.mask_lidar[90:110, 90:110, 2].mean() > 0.6


@pytest.mark.parametrize(("scenes", "held_out"), [(1, 0), (2, 1), (5, 1), (8, 1), (16, 2), (100, 15)])
def test_the_last_scenes_are_held_out(tmp_path, scenes, held_out):
    for content in Occ3DNuScenesTree([1] * scenes).finish(tmp_path, []).beside.values():
        taken(content)
    splits = json.loads((tmp_path / "annotations.json").read_text())
    assert len(splits["val_split"]) == held_out
    assert splits["train_split"] + splits["val_split"] == [f"scene-{n:04d}" for n in range(1, scenes + 1)]


def test_tokens_name_a_frame_of_a_scene_for_good():
    assert frame_token("a", 0) == frame_token("a", 0)
    assert len({frame_token(s, f) for s in ("a", "a/1", "b") for f in range(12)}) == 36


def test_chosen_numbers_name_the_scenes():
    assert Occ3DNuScenesTree([1, 1], TreeOptions(sequences=[61, 12345])).names == ["scene-0061", "scene-12345"]
    for wrong in ([1], [1, 1], [-1, 2]):
        with pytest.raises(InputError, match="--sequences"):
            Occ3DNuScenesTree([1, 1], TreeOptions(sequences=wrong))


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_turn_into_the_rotation_they_came_from(values):
    w, x, y, z = np.array(values) / np.linalg.norm(values)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    found = quaternion(rotation)
    assert abs(found @ [w, x, y, z]) == pytest.approx(1.0)
    assert found[0] >= -1e-9


def test_half_turns_have_one_sign():
    assert quaternion(np.diag([-1.0, -1.0, 1.0])) == pytest.approx([0, 0, 0, 1])
    assert quaternion(np.eye(3)).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_the_same_scene_gives_the_same_bytes(tmp_path, make_scene: Callable[..., OccupancyScene]):
    trees = []
    for run in range(2):
        out = tmp_path / str(run)
        out.mkdir()
        write_tree(Occ3DNuScenesTree, out, *(make_scene(seed, frames=2) for seed in range(2)))
        trees.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert len(trees[0]) == 5
    assert trees[0] == trees[1]


def test_a_rig_of_ones_own_makes_the_camera_mask_and_the_annotations(tmp_path, make_scene):
    """One camera that looks back: nothing ahead is in its mask."""
    scene = make_scene(3, frames=1, grid=OCC3D_GRID, semantics=np.zeros((1, 200, 200, 16), np.uint8))
    rig = (Camera("REAR", (0.0, 0.0, 1.5), 180.0, 400.0, width=800, height=600),)
    write_tree(Occ3DNuScenesTree, tmp_path, scene, options=TreeOptions(cameras=rig))
    (path,) = tmp_path.glob("gts/*/*/labels.npz")
    mask = np.load(path, allow_pickle=False)["mask_camera"]
    assert mask[:98].any()
    assert not mask[102:].any()
    (info,) = json.loads((tmp_path / "annotations.json").read_text())["scene_infos"]["scene-0001"].values()
    assert list(info["camera_sensor"]) == ["REAR"]
    assert info["camera_sensor"]["REAR"]["intrinsic"][0] == [400.0, 0.0, 400.0]
