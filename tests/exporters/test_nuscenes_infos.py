"""Info files for code built on nuScenes, read by readers that do what that code's data sets do, without images."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from street_scene import street
from written_tree import write_tree

from dyncity.conditions import poses_from_trajectory
from exporters.native_tree import Finished
from exporters.nuscenes_infos import ego_steps
from exporters.occ3d import Occ3DNuScenesTree
from exporters.openoccupancy import OpenOccupancyTree

SCENES = ("street", "street-2", "street-3")


def load(path: Path) -> dict:
    """As all of them do."""
    return pickle.loads(path.read_bytes())


def rotation(quaternion: list[float]) -> np.ndarray:
    """w, x, y, z -> 3x3, by turning unit vectors."""
    w, *v = quaternion
    return np.array([u + 2 * w * np.cross(v, u) + 2 * np.cross(v, np.cross(v, u)) for u in np.eye(3)]).T


def to_global(info: dict) -> np.ndarray:
    """4x4 ego-to-world of an info."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation(info["ego2global_rotation"]), info["ego2global_translation"]
    return pose


def beside(tree: Path, end: Finished) -> Path:
    """The tree, its info files put where those of nuScenes lie."""
    assert not list(tree.glob("*.pkl"))
    for name, content in end.beside.items():
        (tree / name).write_bytes(content)
    return tree


@pytest.fixture(scope="module")
def occ3d(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("occ3d")
    return beside(out, write_tree(Occ3DNuScenesTree, out, *(street(name, frames=5) for name in SCENES))[1])


@pytest.fixture(scope="module")
def openocc(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("openocc")
    return beside(out, write_tree(OpenOccupancyTree, out, *(street(name) for name in SCENES))[1])


@pytest.mark.parametrize(("split", "scenes"), [("train", 2), ("val", 1)])
def test_flashocc_finds_labels_and_the_frames_before(occ3d, split, scenes):
    """NuScenesDatasetBEVDet.load_annotations, get_data_info, get_adj_info; NuScenesDatasetOccpancy.get_data_info."""
    data = load(occ3d / f"bevdetv2-nuscenes_infos_{split}.pkl")
    assert data["metadata"]["version"] == "v1.0-trainval"
    infos = sorted(data["infos"], key=lambda info: info["timestamp"])
    assert len(infos) == 5 * scenes
    poses = street(frames=5).poses
    for index, info in enumerate(infos):
        labels = np.load(occ3d / info["occ_path"] / "labels.npz")
        assert labels["semantics"].shape == (200, 200, 16)
        assert info["occ_path"].split("/")[-1] == info["token"]
        assert to_global(info) == pytest.approx(poses[index % 5])
        before = infos[max(index - 1, 0)]
        assert (before["scene_token"] == info["scene_token"]) == (index == 0 or index % 5 != 0)
        boxes, kinds = info["ann_infos"]
        assert len(boxes) == len(kinds) == len(info["gt_names"][info["valid_flag"]]) == 0
        assert (info["sweeps"], info["lidar_path"].startswith("samples/LIDAR_TOP/")) == ([], True)


def test_cameras_of_infos_see_what_lies_ahead_in_the_middle_of_the_front_image(occ3d):
    """The lidar2img of NuScenesDatasetBEVDet and OpenOccupancy, and BEVDet's sensor2ego."""
    info = load(occ3d / "bevdetv2-nuscenes_infos_train.pkl")["infos"][1]
    ahead = np.array([20.0, 0.0, 1.51])  # in the ego's frame, as high as the camera
    in_lidar = rotation(info["lidar2ego_rotation"]).T @ (ahead - info["lidar2ego_translation"])
    assert in_lidar == pytest.approx([0.0, 20.0 - 0.94, 1.51 - 1.84])  # x right, y ahead
    for name, camera in info["cams"].items():
        lidar2cam = np.linalg.inv(camera["sensor2lidar_rotation"])
        in_camera = lidar2cam @ in_lidar - camera["sensor2lidar_translation"] @ lidar2cam.T
        same = rotation(camera["sensor2ego_rotation"]).T @ (ahead - camera["sensor2ego_translation"])
        assert in_camera == pytest.approx(same)
        assert (in_camera[2] > 0) == (name in ("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"))
        if name == "CAM_FRONT":
            u, v, w = camera["cam_intrinsic"] @ in_camera
            assert (u / w, v / w) == pytest.approx((800, 450))


def test_occworld_reads_clips_and_relative_poses(occ3d):
    """nuScenesSceneDatasetLidar.__getitem__ and get_meta_data, test_mode off."""
    infos = load(occ3d / "nuscenes_infos_train_temporal_v3_scene.pkl")["infos"]
    assert list(infos) == ["scene-0001", "scene-0002"]
    for name, frames in infos.items():
        clip = [np.load(occ3d / "gts" / name / info["token"] / "labels.npz")["semantics"] for info in frames]
        assert np.stack(clip).shape == (5, 200, 200, 16)
        assert frames[4]["token"]  # what it takes as the name of the scene
        steps = np.array([info["gt_ego_fut_trajs"][0] for info in frames])
        assert steps == pytest.approx(np.array([[0.0, 2.0]] * 4 + [[0.0, 0.0]]), abs=1e-9)  # 2 m ahead a frame
        assert [info["pose_mode"].tolist() for info in frames] == [[0, 0, 1]] * 5


def test_commands_are_right_left_straight_and_steps_are_seen_from_their_own_frame():
    left = poses_from_trajectory(np.array([[2.0 * t, 0.3 * t * t, 0.3 * t] for t in range(8)]))
    steps, commands = ego_steps(left)
    assert commands[0].tolist() == [0, 1, 0]
    assert (steps[0, :, 0] < 0).all()  # x is to the right
    right = left.copy()
    right[:, 1, 3] *= -1
    right[:, 0, 1], right[:, 1, 0] = left[:, 1, 0], left[:, 0, 1]
    assert ego_steps(right)[1][0].tolist() == [1, 0, 0]
    step = np.linalg.inv(left[3]) @ left[4]
    assert steps[3, 0] == pytest.approx([-step[1, 3], step[0, 3]])
    assert not steps[7].any()


@pytest.mark.parametrize(("split", "scenes"), [("train", 2), ("val", 1)])
def test_openoccupancy_finds_its_rows(openocc, split, scenes):
    """NuscOCCDataset.get_data_info and LoadOccupancy."""
    infos = sorted(load(openocc / f"nuscenes_occ_infos_{split}.pkl")["infos"], key=lambda info: info["timestamp"])
    assert len(infos) == 3 * scenes
    for index, info in enumerate(infos):
        rows = np.load(openocc / f"scene_{info['scene_token']}/occupancy/{info['lidar_token']}.npy")
        assert rows.shape[1] == 4
        assert (info["prev"] == "") == (index % 3 == 0)
        assert info["prev"] in ("", infos[index - 1]["token"])
        assert info["can_bus"].shape == (18,)
        assert info["can_bus"][:3] == pytest.approx([2.0 * (index % 3), 0, 0])
        assert {"sweeps", "lidarseg", "lidar_path", "cams", "next"} <= set(info)
