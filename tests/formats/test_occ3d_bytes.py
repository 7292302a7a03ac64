"""Occ3D-nuScenes trees, read by minimal readers written from the format's description alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from npz_bytes import read_npz
from written_tree import write_tree

from dyncity.conditions import poses_from_trajectory
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.occ3d import Occ3DNuScenesTree

# Half of Occ3D's range, on its own voxel boundaries.
ALIGNED = GridSpec((100, 100, 12), (0.4, 0.4, 0.4), (-20.0, -20.0, -1.0), 2.0)
ROAD, BUILDING, CAR = 1, 7, 17
CAMERAS = [
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
]


def matrix(transform: dict[str, list[float]]) -> np.ndarray:
    """``{"translation", "rotation": w x y z}`` -> 4x4, by rotating unit vectors with the quaternion."""
    w, *v = transform["rotation"]
    result = np.eye(4)
    for k, unit in enumerate(np.eye(3)):
        result[:3, k] = unit + 2 * w * np.cross(v, unit) + 2 * np.cross(v, np.cross(v, unit))
    result[:3, 3] = transform["translation"]
    return result


def drive(name: str = "drive") -> OccupancyScene:
    """Three frames on a road that turn left; a car ahead, a wall behind it, unknown on the far right."""
    semantics = np.zeros((3, *ALIGNED.shape), np.uint8)
    semantics[..., 2] = ROAD  # z from -0.2 to 0.2 m
    semantics[:, 75:80, 48:53, 3:7] = CAR  # x 10 to 12, y -0.8 to 1.2, z 0.2 to 1.8 m
    semantics[:, 95, :, 3:] = BUILDING
    semantics[:, :, :10] = 255
    return OccupancyScene(
        scene_id=name,
        semantics=semantics,
        poses=poses_from_trajectory(np.array([[0.0, 0.0, 0.0], [3.0, 0.3, 0.2], [6.0, 1.2, 0.4]])),
        grid=ALIGNED,
        taxonomy="native",
        timestamps_us=np.array([0, 500_000, 1_000_000]),
        anchor=0,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    write_tree(Occ3DNuScenesTree, out, *(drive(name) for name in ("drive", "drive-2", "drive-3")))
    return out


@pytest.fixture(scope="module")
def annotations(root) -> dict:
    return json.loads((root / "annotations.json").read_text())


def frames_of(root: Path, annotations: dict, scene: str = "scene-0001") -> list[dict[str, np.ndarray]]:
    return [read_npz(root / info["gt_path"]) for info in annotations["scene_infos"][scene].values()]


def test_a_frame_holds_three_uint8_arrays_of_200_200_16(root, annotations):
    for frame in frames_of(root, annotations):
        assert set(frame) == {"semantics.npy", "mask_lidar.npy", "mask_camera.npy"}
        assert all(array.shape == (200, 200, 16) for array in frame.values())
        assert frame["semantics.npy"].max() == 17
        assert set(np.unique(frame["mask_lidar.npy"])) == {0, 1}
        assert set(np.unique(frame["mask_camera.npy"])) == {0, 1}
        with_numpy = np.load(
            root / next(iter(annotations["scene_infos"]["scene-0001"].values()))["gt_path"], allow_pickle=False
        )
        assert sorted(with_numpy) == ["mask_camera", "mask_lidar", "semantics"]


def test_a_car_at_a_known_place_fills_exactly_its_voxels(root, annotations):
    """x 10 to 12 m is (10 + 40) / 0.4 = voxels 125 to 129; y -0.8: 98 to 102; z 0.2: 3 to 6."""
    semantics = frames_of(root, annotations)[0]["semantics.npy"]
    cars = np.argwhere(semantics == 4)
    assert cars.min(axis=0).tolist() == [125, 98, 3]
    assert cars.max(axis=0).tolist() == [129, 102, 6]
    assert len(cars) == 5 * 5 * 4
    assert semantics[100, 100, 2] == 11
    assert semantics[145, 100, 5] == 15
    assert semantics[110, 100, 5] == 17


def test_unknown_and_uncovered_voxels_are_free_with_both_masks_zero(root, annotations):
    frame = frames_of(root, annotations)[0]
    for place in [(100, 55, 2), (10, 100, 2), (100, 100, 15)]:
        assert frame["semantics.npy"][place] == 17
        assert frame["mask_lidar.npy"][place] == 0
        assert frame["mask_camera.npy"][place] == 0


def test_masks_show_what_is_in_view_and_hide_what_is_behind(root, annotations):
    frame = frames_of(root, annotations)[0]
    lidar, camera = frame["mask_lidar.npy"], frame["mask_camera.npy"]
    assert lidar[125, 100, 5] == camera[125, 100, 5] == 1  # the back of the car ahead
    assert lidar[115, 100, 5] == camera[115, 100, 5] == 1  # the air before it
    assert lidar[148, 100, 5] == camera[148, 100, 5] == 0  # behind the wall
    assert lidar[127, 100, 4] == camera[127, 100, 4] == 0  # inside the car
    assert (lidar[camera == 1] == 1).all()
    assert camera.sum() < lidar.sum()


def test_annotations_have_the_structure_and_types_that_readers_expect(root, annotations):
    assert list(annotations) == ["train_split", "val_split", "scene_infos"]
    assert annotations["train_split"] == ["scene-0001", "scene-0002"]
    assert annotations["val_split"] == ["scene-0003"]
    assert sorted(annotations["scene_infos"]) == ["scene-0001", "scene-0002", "scene-0003"]
    tokens = []
    for name, frames in annotations["scene_infos"].items():
        assert re.fullmatch(r"scene-\d{4}", name)
        assert [f.name for f in sorted((root / "gts" / name).iterdir())] == sorted(frames)
        chain = ["EOF", *frames, "EOF"]
        times = [int(info["timestamp"]) for info in frames.values()]
        assert times == sorted(times)
        for number, (token, info) in enumerate(frames.items()):
            assert re.fullmatch(r"[0-9a-f]{32}", token)
            assert set(info) == {
                "timestamp", "camera_sensor", "ego_pose", "gt_path", "prev", "next",
            }  # fmt: skip
            assert (info["prev"], info["next"]) == (chain[number], chain[number + 2])
            assert info["gt_path"] == f"gts/{name}/{token}/labels.npz"
            assert (root / info["gt_path"]).is_file()
            assert list(info["camera_sensor"]) == CAMERAS
            for camera in info["camera_sensor"].values():
                assert set(camera) == {"img_path", "intrinsic", "extrinsic", "ego_pose"}
                assert np.array(camera["intrinsic"]).shape == (3, 3)
                assert camera["img_path"].endswith(".jpg")
                for transform in (camera["extrinsic"], camera["ego_pose"], info["ego_pose"]):
                    assert set(transform) == {"translation", "rotation"}
                    assert len(transform["translation"]) == 3
                    assert np.linalg.norm(transform["rotation"]) == pytest.approx(1.0)
            tokens.append(token)
    assert len(set(tokens)) == 9
    assert sorted(p.name for p in root.iterdir()) == ["annotations.json", "gts"]


def test_poses_survive_as_translation_and_quaternion(annotations):
    scene = drive()
    for frame, info in enumerate(annotations["scene_infos"]["scene-0001"].values()):
        assert matrix(info["ego_pose"]) == pytest.approx(scene.poses[frame], abs=1e-12)
        for camera in info["camera_sensor"].values():
            assert matrix(camera["ego_pose"]) == pytest.approx(scene.poses[frame], abs=1e-12)
    first = next(iter(annotations["scene_infos"]["scene-0001"].values()))
    assert first["ego_pose"] == {"translation": [0.0, 0.0, 0.0], "rotation": [1.0, 0.0, 0.0, 0.0]}


@pytest.mark.parametrize(
    ("camera", "place"),
    [
        ("CAM_FRONT", (10, 0, 1)),
        ("CAM_FRONT_LEFT", (6, 7, 1)),
        ("CAM_FRONT_RIGHT", (6, -7, 1)),
        ("CAM_BACK", (-10, 0, 1)),
        ("CAM_BACK_LEFT", (-3, 9, 1)),
        ("CAM_BACK_RIGHT", (-3, -9, 1)),
    ],
)
def test_a_place_projects_into_the_camera_that_faces_it_and_into_no_opposite_one(annotations, camera, place):
    sensors = next(iter(annotations["scene_infos"]["scene-0001"].values()))["camera_sensor"]

    def pixel(name: str) -> tuple[float, float, float]:
        point = np.linalg.inv(matrix(sensors[name]["extrinsic"])) @ [*place, 1.0]
        u, v, depth = np.array(sensors[name]["intrinsic"]) @ point[:3]
        return u / depth, v / depth, depth

    u, v, depth = pixel(camera)
    assert depth > 0
    assert 0 <= u < 1600
    assert 450 < v < 900  # below the cameras: in the lower half of the image
    opposite = {"CAM_FRONT": "CAM_BACK", "CAM_BACK": "CAM_FRONT"}.get(camera)
    if opposite:
        assert pixel(opposite)[2] < 0
