"""Occ3D-Waymo trees, read by a minimal reader written from the format's description alone."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from npz_bytes import read_npz
from street_scene import street
from written_tree import peak_of, write_tree

from dyncity.taxonomy import NATIVE
from exporters.cameras import Camera
from exporters.native_tree import TreeOptions
from exporters.occ3d_waymo import Occ3DWaymoTree


def read_frame(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a frame, bytes or booleans of 200 x 200 x 16."""
    arrays = {name.removesuffix(".npy"): array for name, array in read_npz(path, "u1|b1").items()}
    assert {array.shape for array in arrays.values()} == {(200, 200, 16)}
    return arrays


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    folders, end = write_tree(Occ3DWaymoTree, out, *(street(name) for name in ("first", "second", "third")))
    assert folders == ["training/000", "training/001", "validation/000"]
    assert end.roots == (".",)
    return out


@pytest.fixture(scope="module")
def frame(root) -> dict[str, np.ndarray]:
    return read_frame(root / "training/000/000_04.npz")


def test_every_frame_has_its_npz_and_nothing_else_lies_there(root):
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    frames = [f"{s}/{f:03d}_04.npz" for s in ("training/000", "training/001", "validation/000") for f in range(3)]
    infos = ["cam_infos.pkl", "cam_infos_vali.pkl", "waymo_infos_train.pkl", "waymo_infos_val.pkl"]
    assert files == sorted([*frames, *infos])


def test_free_is_23_and_classes_are_those_of_the_data_set(frame):
    labels = frame["voxel_label"]
    assert sorted(frame) == ["final_voxel_state", "infov", "origin_voxel_state", "voxel_label"]
    assert set(np.unique(labels)) == {1, 2, 10, 13, 14, 23}
    cars = np.argwhere(labels == 1)
    assert len(cars) == 2 * 5 * 4 * 4
    assert cars.min(axis=0).tolist() == [110, 98, 3]  # the standing car begins at x 4, the driving one at y -0.8
    assert labels[100, 100, 2] == 13
    assert labels[110, 100, 8] == 23
    assert labels[10, 100, 2] == 23  # not covered by the scene


def test_masks_are_binary_and_nest_and_say_what_is_hidden(frame):
    lidar, camera, infov = (frame[n] for n in ("origin_voxel_state", "final_voxel_state", "infov"))
    for mask in (lidar, camera, infov):
        assert set(np.unique(mask)) == {0, 1}
    assert (lidar[camera == 1] == 1).all()
    assert lidar[125, 100, 5] == camera[125, 100, 5] == 1  # the back of the car ahead
    assert lidar[127, 100, 4] == 0  # inside it
    assert lidar[10, 100, 2] == camera[10, 100, 2] == 0  # not covered


def test_in_view_is_where_some_camera_looks_hidden_or_not(frame):
    infov = frame["infov"]
    assert infov[180, 100, 5] == 1
    assert infov[100, 170, 5] == infov[100, 30, 5] == 1  # the side cameras
    assert infov[20, 100, 5] == 0  # none looks back
    assert (infov[frame["final_voxel_state"] == 1] == 1).all()  # voxels at the rim of an image too


def test_info_files_hold_poses_and_cameras_the_way_readers_index_them(root):
    """``cam_infos[scene][frame][camera]`` and a list of frames whose index gives scene and frame."""
    scene = street()
    for split, prefix, scenes in (("train", 0, 2), ("val", 1, 1)):
        infos = pickle.loads((root / f"waymo_infos_{split}.pkl").read_bytes())
        cameras = pickle.loads((root / f"cam_infos{'_vali' if prefix else ''}.pkl").read_bytes())
        assert sorted(cameras) == list(range(scenes))
        assert len(infos) == 3 * scenes
        for info in infos:
            number = info["image"]["image_idx"]
            at, frame = number % 1_000_000 // 1000, number % 1000
            assert number // 1_000_000 == prefix
            assert info["pose"] == pytest.approx(scene.poses[frame])
            assert info["timestamp"] == 1_000_000 + 500_000 * frame
            name = Path(info["point_cloud"]["velodyne_path"]).name
            assert (name[1:4], name[4:7]) == (f"{at:03d}", f"{frame:03d}")
            folder = "validation" if prefix else "training"
            assert (root / folder / name[1:4] / f"{name[4:7]}_04.npz").is_file()
            rig = cameras[at][frame]
            assert len(rig) == 5
            assert all(camera["ego2global"] == pytest.approx(scene.poses[frame]) for camera in rig)
            ahead = rig[0]["intrinsics"] @ np.linalg.inv(rig[0]["sensor2ego"]) @ [20.0, 0.0, 1.0, 1.0]
            assert ahead[:2] / ahead[2] == pytest.approx([960, 640], abs=140)
            left = rig[2]["intrinsics"] @ np.linalg.inv(rig[2]["sensor2ego"]) @ [1.4, 20.0, 1.0, 1.0]
            assert left[2] > 0


def test_info_files_are_written_in_memory_that_does_not_grow_with_the_scenes(tmp_path):
    tree = Occ3DWaymoTree([5] * 200)
    car = ["Car", 3, [9.0, 2.0, 0.8], [4.0, 1.8, 1.5], 0.1]
    record = {"poses": street(frames=5).poses.tolist(), "times": list(range(5)), "boxes": [[car]] * 5}
    assert peak_of(lambda: tree.finish(tmp_path, (record for _ in range(200)))) < 2**20
    assert (tmp_path / "waymo_infos_train.pkl").stat().st_size > 3 * 2**20 / 2
    infos = pickle.loads((tmp_path / "waymo_infos_val.pkl").read_bytes())
    assert [info["image"]["image_idx"] for info in infos[4:7]] == [1_000_004, 1_001_000, 1_001_001]


def test_annotations_are_the_boxes_of_the_scene_to_readers_of_camera_boxes(root):
    """As published data sets read them: filtered by name, location, dimensions and rotation_y, taken to the ego."""
    scene = street()
    kinds = {NATIVE.id("car"): "Car", NATIVE.id("pedestrian"): "Pedestrian", NATIVE.id("cyclist"): "Cyclist"}
    (info, *_) = (
        i for i in pickle.loads((root / "waymo_infos_train.pkl").read_bytes()) if i["image"]["image_idx"] == 1
    )
    known = [n for n, name in enumerate(info["annos"]["name"]) if name != "DontCare"]
    annos = {key: values[known] for key, values in info["annos"].items()}
    boxes = [n for n in np.flatnonzero(scene.boxes.frame == 1) if int(scene.boxes.label[n]) in kinds]
    assert annos["name"].tolist() == [kinds[int(scene.boxes.label[n])] for n in boxes]
    assert len(boxes) > 1
    to_ego = np.linalg.inv(info["calib"]["R0_rect"] @ info["calib"]["Tr_velo_to_cam"])
    for row, n in enumerate(boxes):
        length, height, width = annos["dimensions"][row]
        assert scene.boxes.size[n] == pytest.approx([length, width, height])
        bottom = (to_ego @ [*annos["location"][row], 1])[:3]
        middle = info["pose"][:3, :3] @ (bottom + np.array([0, 0, height / 2])) + info["pose"][:3, 3]
        assert middle == pytest.approx(scene.boxes.center[n], abs=1e-5)
        turn = annos["rotation_y"][row]
        ahead = info["pose"][:3, :3] @ to_ego[:3, :3] @ [np.cos(turn), 0.0, -np.sin(turn)]
        yaw = scene.boxes.yaw[n]
        assert ahead == pytest.approx([np.cos(yaw), np.sin(yaw), 0.0], abs=1e-5)
    assert annos["bbox"].shape == (len(boxes), 4)
    assert ((annos["bbox"] >= 0).all(axis=1) == (annos["truncated"] < 1)).all()


def test_frames_without_boxes_have_empty_annotations(tmp_path):
    write_tree(Occ3DWaymoTree, tmp_path, dataclasses.replace(street(), boxes=None, instances=None))
    (info, *_) = pickle.loads((tmp_path / "waymo_infos_train.pkl").read_bytes())
    shapes = {key: values[[]].shape for key, values in info["annos"].items()}
    assert shapes.pop("bbox") == (0, 4)
    assert shapes.pop("location") == shapes.pop("dimensions") == (0, 3)
    assert set(shapes.values()) == {(0,)}


def test_pickles_name_no_module_that_older_numpy_lacks(root):
    for path in root.glob("*.pkl"):
        assert b"numpy._core" not in path.read_bytes()


def test_a_rig_of_ones_own_takes_the_place_of_the_five(tmp_path):
    rig = TreeOptions(cameras=(Camera("REAR", (0.0, 0.0, 1.6), 180.0, 500.0),))
    write_tree(Occ3DWaymoTree, tmp_path, street(frames=1), options=rig)
    frame = read_frame(tmp_path / "training/000/000_04.npz")
    assert not frame["infov"][110:].any()
    assert not frame["final_voxel_state"][110:].any()


def test_projections_have_the_numbers_of_kittis_images_and_cam_infos_their_own_order(root):
    """image_0 to image_2 are 1280 pixels high, 3 and 4 886; CustomWaymoDataset_T names image_3 for its third camera."""
    calib = pickle.loads((root / "waymo_infos_train.pkl").read_bytes())[0]["calib"]
    cameras = pickle.loads((root / "cam_infos.pkl").read_bytes())[0][0]
    assert [calib[f"P{image}"][1, 2] for image in range(5)] == [640, 640, 640, 443, 443]
    for camera, image in enumerate((0, 1, 3, 2, 4)):
        assert (calib[f"P{image}"] == cameras[camera]["intrinsics"]).all()
