"""Info files for code built on nuScenes, read by readers that do what that code's data sets do, without images."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from street_scene import DRIVING, STANDING, WALKING, street
from written_tree import write_tree

from dyncity.conditions import poses_from_trajectory
from dyncity.scene import Boxes, OccupancyScene
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
        assert len(boxes) == len(kinds) == len(info["gt_names"][info["valid_flag"]]) == 3
        assert (info["sweeps"], info["lidar_path"].startswith("samples/LIDAR_TOP/")) == ([], True)


@pytest.mark.parametrize(("split", "scenes"), [("train", 2), ("val", 1)])
def test_the_challenge_finds_labels_by_their_own_path(occ3d, split, scenes):
    """evaluate_miou of CVPR2023-3D-Occupancy-Prediction's NuSceneOcc, and LoadOccGTFromFile, which else gives zeros."""
    infos = load(occ3d / f"occ_infos_temporal_{split}.pkl")["infos"]
    assert len(infos) == 5 * scenes
    for index, info in enumerate(infos):
        labels = np.load(occ3d / info["occ_gt_path"])
        assert labels["semantics"][60, 60, 2] == 11  # road
        assert labels["mask_camera"].astype(bool).any()
        assert (info["prev"], info["frame_idx"]) == (infos[index - 1]["token"] if index % 5 else "", index % 5)


def corners(box: np.ndarray, older: bool) -> np.ndarray:
    """Middles of the front, left and top faces ``[3, 3]`` of a box of MMDetection3D, before and from 1.0 on."""
    x, y, z, *size, yaw = box[:7]
    length, width, height = (size[1], size[0], size[2]) if older else size
    heading = -yaw - np.pi / 2 if older else yaw
    cos, sin = np.cos(heading), np.sin(heading)
    faces = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) * np.array([length, width, height])[:, None] / 2
    return faces + np.array([x, y, z])


def slanted() -> OccupancyScene:
    """A street whose boxes all head 0.3 rad to the left of x, on which the ego turns."""
    scene = street(frames=5)
    poses = poses_from_trajectory(np.array([[2.0 * t, 0.1 * t, 0.05 * t] for t in range(5)]))
    return replace(scene, poses=poses, boxes=replace(scene.boxes, yaw=np.full(15, 0.3, np.float32)))


@pytest.mark.parametrize(
    ("name", "older"), [("bevdetv2-nuscenes_infos_train.pkl", False), ("occ_infos_temporal_train.pkl", True)]
)
def test_boxes_lie_where_those_of_the_scene_do(tmp_path, name, older):
    """get_ann_info of NuScenesDataset: gt_boxes and gt_velocity in the LiDAR's frame, by the convention of its time."""
    scene = slanted()
    tree = beside(tmp_path, write_tree(Occ3DNuScenesTree, tmp_path, scene, street("street-2"))[1])
    for info in load(tree / name)["infos"][:5]:
        turn = rotation(info["lidar2ego_rotation"])
        to_world = to_global(info)
        own = scene.boxes.frame == info["frame_idx"]
        assert info["gt_names"].tolist() == ["car", "car", "pedestrian"]
        assert info["num_radar_pts"].tolist() == [0, 0, 0]
        for box, velocity, center, size, track in zip(
            info["gt_boxes"],
            info["gt_velocity"],
            scene.boxes.center[own],
            scene.boxes.size[own],
            scene.boxes.track[own],
            strict=True,
        ):
            cos, sin = np.cos(0.3), np.sin(0.3)
            expected = center + np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) * size[:, None] / 2
            found = corners(box, older) @ turn.T + info["lidar2ego_translation"]
            assert found @ to_world[:3, :3].T + to_world[:3, 3] == pytest.approx(expected, abs=1e-5)
            speed = to_world[:3, :3] @ turn @ [*velocity, 0.0]
            assert speed == pytest.approx([1.6 if track == DRIVING else 0.0, 0, 0], abs=1e-4)  # 0.8 m a half second


def test_boxes_of_bevdet_are_those_seen_in_the_frame_of_the_ego(tmp_path):
    """What LoadAnnotationsBEVDepth makes tensors of: nine numbers a box, and labels by BEVDet's list of classes."""
    scene = slanted()
    unseen = np.where(scene.instances == WALKING, 0, 1).astype(np.uint8)
    scene = replace(scene, mask_lidar=unseen, mask_camera=unseen)
    tree = beside(tmp_path, write_tree(Occ3DNuScenesTree, tmp_path, scene, street("street-2"))[1])
    info = load(tree / "bevdetv2-nuscenes_infos_train.pkl")["infos"][2]
    boxes, labels = info["ann_infos"]
    assert labels == [0, 0]
    assert info["valid_flag"].tolist() == [True, True, False]
    assert info["num_lidar_pts"][2] == 0
    center = scene.boxes.center[(scene.boxes.frame == 2) & (scene.boxes.track == DRIVING)][0]
    place = np.linalg.inv(scene.poses[2]) @ [*center, 1.0]
    assert boxes[0][:3] == pytest.approx(place[:3], abs=1e-5)
    assert boxes[0][3:7] == pytest.approx([2.0, 1.6, 1.6, 0.3 - 0.1], abs=1e-5)
    assert boxes[0][7:] == pytest.approx([1.6 * np.cos(0.1), -1.6 * np.sin(0.1)], abs=1e-4)


def test_without_boxes_they_are_those_around_instances_and_without_either_there_are_none(tmp_path):
    bare = replace(street("bare", boxes=False), instances=None)
    tree = beside(tmp_path, write_tree(OpenOccupancyTree, tmp_path, street(boxes=False), bare)[1])
    estimated = load(tree / "nuscenes_occ_infos_train.pkl")["infos"][0]
    assert sorted(estimated["gt_names"]) == ["car", "car", "pedestrian"]
    assert sorted(estimated["num_lidar_pts"]) == [4, 5 * 4 * 4, 5 * 4 * 4]
    none = load(tree / "nuscenes_occ_infos_val.pkl")["infos"][0]
    assert none["gt_boxes"].shape == (0, 7)
    assert none["gt_velocity"].shape == (0, 2)
    assert "occ_path" not in none  # there are no labels of Occ3D


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


def test_occworld_reads_how_agents_go_on_when_it_is_tested(tmp_path):
    """get_meta_info of nuScenesSceneDatasetLidarTraverse, test_mode on: what it puts together a row a box."""
    scene = slanted()
    gone = (scene.boxes.track == WALKING) & (scene.boxes.frame == 3)
    turned = np.where(scene.boxes.track == STANDING, 0.3 + 3.0 * scene.boxes.frame, scene.boxes.yaw).astype(np.float32)
    kept = {name: getattr(scene.boxes, name)[~gone] for name in ("frame", "track", "label", "center", "size")}
    scene = replace(scene, boxes=Boxes(**kept, yaw=turned[~gone]))
    tree = beside(tmp_path, write_tree(Occ3DNuScenesTree, tmp_path, scene, street("street-2"))[1])
    frames = load(tree / "nuscenes_infos_train_temporal_v3_scene.pkl")["infos"]["scene-0001"]
    keys = ("fut_trajs", "fut_masks", "lcf_feat", "fut_yaw")
    for info in frames:
        rows = len(info["gt_boxes"])
        parts = [info[f"gt_agent_{key}"] for key in keys]
        assert np.concatenate([*parts, info["gt_agent_fut_goal"][:, None]], axis=-1).shape == (rows, 34)
    info = frames[1]
    pose = to_global(info)
    to_world = pose[:3, :3] @ rotation(info["lidar2ego_rotation"])
    steps = info["gt_agent_fut_trajs"].reshape(3, 6, 2)
    driving, standing, walking = 0, 1, 2
    for step in steps[driving, :3]:
        assert to_world @ [*step, 0.0] == pytest.approx([0.8, 0.0, 0.0], abs=1e-5)
    assert steps[standing] == pytest.approx(np.zeros((6, 2)), abs=1e-5)
    # Three frames are left; the walker is away in the second of them, and what comes after is not known to it.
    assert info["gt_agent_fut_masks"].tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[1, 0, 0, 0, 0, 0]]
    assert info["gt_agent_fut_yaw"][standing, :3] == pytest.approx([3.0] * 3, abs=1e-5)
    assert info["gt_agent_fut_yaw"][[driving, walking]] == pytest.approx(np.zeros((2, 6)), abs=1e-5)
    assert info["gt_agent_fut_goal"].tolist() == [5, 9, 9]  # 2.9 degrees to the right of ahead: (87.1 + 180) // 45
    x, y, yaw, vx, vy, *size, category = info["gt_agent_lcf_feat"][driving]
    assert (x, y) == pytest.approx(info["gt_boxes"][driving, :2], abs=1e-5)
    assert yaw == pytest.approx(-info["gt_boxes"][driving, 6] - np.pi / 2, abs=1e-5)
    assert (vx, vy) == pytest.approx(info["gt_velocity"][driving], abs=1e-5)
    assert (*size, category) == pytest.approx((*info["gt_boxes"][driving, 3:6], 8))


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
