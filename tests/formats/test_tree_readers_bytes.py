"""Native trees read from bytes that are written here from the formats' description alone, without our exporters."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.taxonomy import taxonomy
from generators.recorded_trees import RecordedTrees


def scene_of(kind: str, source: Path) -> OccupancyScene:
    trees = RecordedTrees(kind, source)
    trees.check()
    assert trees.scenes == 1
    return trees.generate([SceneSpec(0, 0)])[0]


def npz(path: Path, **arrays: np.ndarray) -> None:
    """An npz of version-1 npy members, in the order of memory that the array has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0))
            archive.writestr(f"{name}.npy", member.getvalue())


def test_semantickitti_as_published(tmp_path: Path) -> None:
    """uint16 raw ids in C order x, y, z; invalid bits from the most significant one; the camera's poses."""
    folder = tmp_path / "dataset/sequences/03"
    (folder / "voxels").mkdir(parents=True)
    label = bytearray(2 * 256 * 256 * 32)
    for (x, y, z), raw in {(10, 20, 5): 252, (0, 0, 0): 40, (1, 2, 3): 99, (9, 9, 9): 259, (0, 0, 1): 50}.items():
        struct.pack_into("<H", label, 2 * ((x * 256 + y) * 32 + z), raw)
    invalid = bytearray(256 * 256 * 32 // 8)
    invalid[0] = 0b01000000  # voxel 0, 0, 1
    invalid[-1] = 0b00000001  # voxel 255, 255, 31
    for number in (0, 5):
        (folder / f"voxels/{number:06d}.label").write_bytes(label)
        (folder / f"voxels/{number:06d}.invalid").write_bytes(invalid)
    # The camera looks along z, x to the right, y down; it hangs 0.3 m ahead of and 0.1 m below the LiDAR.
    (folder / "calib.txt").write_text("P0: " + "0 " * 12 + "\nTr: 0 -1 0 0 0 0 -1 -0.1 1 0 0 -0.3\n")
    # A quarter turn to the left about the camera's own y by the sixth scan, and 2 m ahead.
    ahead = ["1 0 0 0 0 1 0 0 0 0 1 0"] * 5 + ["0 0 -1 0 0 1 0 0 1 0 0 2"]
    (folder / "poses.txt").write_text("\n".join(ahead) + "\n")
    (folder / "times.txt").write_text("".join(f"{k / 10:e}\n" for k in range(6)))

    scene = scene_of("semantickitti", tmp_path)
    classes = {name: i for i, name in enumerate(taxonomy("semantickitti").classes)}
    frame = scene.semantics[1]
    assert scene.scene_id == "03"
    assert frame[10, 20, 5] == classes["car"]
    assert frame[0, 0, 0] == classes["road"]
    assert frame[9, 9, 9] == classes["other-vehicle"]
    assert frame[1, 2, 3] == frame[0, 0, 1] == frame[255, 255, 31] == 255
    assert (frame != 0).sum() == 6
    assert [scene.mask_lidar[1][v] for v in ((1, 2, 3), (0, 0, 1), (255, 255, 31))] == [1, 0, 0]
    # The voxel on the road: 1.73 m below the LiDAR is z 0.
    assert scene.grid.origin == pytest.approx((0, -25.6, -2 + 1.73))
    assert scene.timestamps_us.tolist() == [0, 500_000]
    # The camera turns where it is, 2.3 m ahead of where the LiDAR was; the LiDAR, 0.3 m behind it, swings to the right.
    expected = [[0, -1, 0, 2.3], [1, 0, 0, -0.3], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(scene.poses[1], expected, atol=1e-9)


def test_occ3d_nuscenes_as_published(tmp_path: Path) -> None:
    """Frames in any order, placed in a city a thousand metres away, one array in Fortran order."""
    semantics = np.full((200, 200, 16), 17, np.uint8)
    semantics[3, 4, 5] = 4
    masks = [np.zeros((200, 200, 16), np.uint8) for _ in range(2)]
    masks[0][3, 4, 5] = masks[1][3, 4, 6] = 1
    half = float(np.sqrt(0.5))
    frames = {}
    for token, time, (x, y) in (("b" * 32, 1532402927647951, (1000, 2003)), ("a" * 32, 1532402928147847, (998, 2003))):
        npz(
            tmp_path / f"gts/scene-0103/{token}/labels.npz",
            semantics=np.asfortranarray(semantics),
            mask_lidar=masks[0],
            mask_camera=masks[1],
        )
        frames[token] = {
            "timestamp": str(time),
            "camera_sensor": {},
            "ego_pose": {"translation": [x, y, 12.5], "rotation": [half, 0, 0, half]},  # to the left, along y
            "gt_path": "../../elsewhere.npz",
            "prev": "",
            "next": "",
        }
    infos = {"scene-0103": dict(reversed(frames.items())), "scene-0001": {}}
    (tmp_path / "annotations.json").write_text(
        json.dumps({"train_split": ["scene-0103"], "val_split": ["scene-0001"], "scene_infos": infos})
    )
    scene = scene_of("occ3d-nuscenes", tmp_path)
    assert scene.scene_id == "scene-0103"
    assert scene.semantics[0, 3, 4, 5] == 4
    assert (scene.semantics == 17).sum() == 2 * (200 * 200 * 16 - 1)
    assert np.argwhere(scene.mask_lidar[1]).tolist() == [[3, 4, 5]]
    assert np.argwhere(scene.mask_camera[1]).tolist() == [[3, 4, 6]]
    assert scene.timestamps_us[0] == 1532402927647951
    assert scene.grid.frame_rate == 2.0
    expected = [[1, 0, 0, 0], [0, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]]  # 2 m along -x is to the left
    np.testing.assert_allclose(scene.poses[1], expected, atol=1e-9)


def test_occ3d_waymo_as_published(tmp_path: Path) -> None:
    """Free is 23; masks of booleans, more arrays than are read, frames of other scenes in the info file."""
    labels = np.full((200, 200, 16), 23, np.int64)
    labels[0, 0, :15] = np.arange(15)
    seen = labels < 23
    infos = []
    for frame in (1, 0):
        npz(
            tmp_path / f"validation/007/{frame:03d}_04.npz",
            voxel_label=labels,
            origin_voxel_state=seen,
            final_voxel_state=seen.astype(np.uint8),
            infov=seen,
            ego2global=np.eye(4),
        )
        pose = np.eye(4, dtype=np.float32)
        pose[:2, 3] = 50 + 1.5 * frame, -20
        infos.append(
            {
                "image": {"image_idx": 1_007_000 + frame, "image_shape": np.array([1280, 1920], np.int32)},
                "pose": pose,
                "timestamp": 1_550_083_467_346_370 + 100_000 * frame,
                "annos": {"name": np.array(["Car", "Pedestrian"]), "difficulty": np.array([0, 1], np.int8)},
                "sweeps": [],
            }
        )
    infos.append({"image": {"image_idx": 1_008_000}, "pose": np.eye(4), "timestamp": np.int64(5)})
    (tmp_path / "waymo_infos_val.pkl").write_bytes(pickle.dumps(infos))
    scene = scene_of("occ3d-waymo", tmp_path)
    assert scene.scene_id == "validation-007"
    assert scene.semantics[0, 0, 0].tolist() == list(range(16))
    assert set(np.unique(scene.semantics[0, 1:])) == {15}
    assert scene.mask_lidar.sum() == scene.mask_camera.sum() == 2 * 15
    assert scene.poses[1, :3, 3].tolist() == [1.5, 0, 0]
    assert scene.grid.frame_rate == 10.0


def test_carlasc_as_published(tmp_path: Path) -> None:
    """uint32 raw ids and float32 hit counts in C order x, y, z; poses of the LiDAR, 1.8 m above the road."""
    folder = tmp_path / "Cartesian/Val/Town10_Light/cartesian"
    (folder / "evaluation").mkdir(parents=True)
    label, hits = bytearray(4 * 128 * 128 * 8), bytearray(4 * 128 * 128 * 8)
    for (x, y, z), raw, count in (((1, 2, 3), 22, 3.0), ((4, 5, 6), 10, 1.0), ((7, 7, 7), 1, 0.0), ((0, 0, 1), 0, 9.0)):
        at = 4 * ((x * 128 + y) * 8 + z)
        struct.pack_into("<I", label, at, raw)
        struct.pack_into("<f", hits, at, count)
    for number in range(2):
        (folder / f"evaluation/{number:06d}.label").write_bytes(label)
        (folder / f"evaluation/{number:06d}.bin").write_bytes(hits)
    (folder / "evaluation/params.json").write_text(
        '{"grid_size": [128.0, 128.0, 8.0], "min_bound": [-25.6, -25.6, -2.0], "max_bound": [25.6, 25.6, 1.0], '
        '"num_channels": 25, "coordinates": "cartesian"}'
    )
    tilted = "0.8 0 -0.6 1 0 1 0 0 0.6 0 0.8 0"  # 1 m ahead, the nose up
    (folder / "poses.txt").write_text(f"1 0 0 0 0 1 0 0 0 0 1 0\n{tilted}\n")
    (folder / "times.txt").write_text("0.0\n0.1\n")
    scene = scene_of("carlasc", tmp_path)
    assert scene.scene_id == "Val-Town10_Light"
    classes = taxonomy("carlasc").classes
    names = {tuple(v): classes[scene.semantics[0][tuple(v)]] for v in np.argwhere(scene.semantics[0] != 255).tolist()}
    assert names == {(1, 2, 3): "ground", (4, 5, 6): "vehicle", (0, 0, 1): "free"}
    assert scene.mask_lidar[0].sum() == 3
    assert scene.grid.origin == pytest.approx((-25.6, -25.6, -0.2))
    # The road below the LiDAR swings ahead by 1.8 m * 0.6 as the nose goes up, and rises by 1.8 m * (1 - 0.8).
    assert scene.poses[1, :3, 3] == pytest.approx([1 + 1.8 * 0.6, 0, 1.8 * 0.2])
