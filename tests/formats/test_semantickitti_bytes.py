"""SemanticKITTI trees, read by minimal readers written from the format's description alone."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from written_tree import write_tree

from dyncity.conditions import poses_from_trajectory
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.semantickitti import SemanticKittiTree

# Voxel (x, y, z) of the data set holds what lies in [0.2x, 0.2y - 25.6, 0.2z - 2] of the LiDAR's frame,
# so a grid of ours with this origin (ego frame, LiDAR 1.73 m up) has voxels that coincide with its.
ALIGNED = GridSpec((120, 100, 24), (0.2, 0.2, 0.2), (0.0, -10.0, -0.27), 10.0)
ROAD, BUILDING, CONE, CAR = 1, 7, 15, 17
KNOWN_RAW = {0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81, 99}


class Voxels:
    """The four files of one frame, looked up voxel by voxel from their bytes."""

    def __init__(self, sequence: Path, frame: int) -> None:
        stem = sequence / "voxels" / f"{frame:06d}"
        self.data = {s: stem.with_suffix(f".{s}").read_bytes() for s in ("label", "bin", "invalid", "occluded")}

    def label(self, x: int, y: int, z: int) -> int:
        return struct.unpack_from("<H", self.data["label"], 2 * ((x * 256 + y) * 32 + z))[0]

    def bit(self, name: str, x: int, y: int, z: int) -> int:
        number = (x * 256 + y) * 32 + z
        return self.data[name][number // 8] >> (7 - number % 8) & 1

    def bits(self, name: str) -> np.ndarray:
        """All bits of a file as 0/1, one a voxel."""
        packed = np.frombuffer(self.data[name], np.uint8)
        return np.stack([packed >> (7 - k) & 1 for k in range(8)], axis=1).reshape(256, 256, 32)

    def labels(self) -> np.ndarray:
        return np.array(struct.unpack("<2097152H", self.data["label"])).reshape(256, 256, 32)


def read_calib(path: Path) -> dict[str, np.ndarray]:
    """Every line must be ``KEY: 12 floats``, as the official reader demands."""
    calib = {}
    for line in path.read_text().split("\n")[:-1]:
        key, values = line.strip().split(":")
        calib[key] = np.vstack([np.array([float(v) for v in values.split()]).reshape(3, 4), [0, 0, 0, 1]])
    return calib


def read_poses(path: Path) -> list[np.ndarray]:
    lines = path.read_text().split("\n")[:-1]
    return [np.vstack([np.array(line.split(), float).reshape(3, 4), [0, 0, 0, 1]]) for line in lines]


def drive() -> OccupancyScene:
    """Three frames on a road: a car ahead on the left, a wall behind it, a cone, unknown on the right."""
    semantics = np.zeros((3, *ALIGNED.shape), np.uint8)
    instances = np.zeros(semantics.shape, np.uint16)
    semantics[..., 1] = ROAD  # z from -0.07 to 0.13
    semantics[:, 50:58, 60:66, 3:9] = CAR  # x 10 to 11.6, y 2 to 3.2, z 0.33 to 1.53 m in the ego frame
    instances[:, 50:58, 60:66, 3:9] = 777
    semantics[:, 100, :, 2:20] = BUILDING
    semantics[:, 40, 48, 2:5] = CONE
    semantics[:, :, :20] = 255
    trajectory = np.array([[0.0, 0.0, 0.0], [1.0, 0.05, 0.1], [2.0, 0.3, 0.25]])
    return OccupancyScene(
        scene_id="drive",
        semantics=semantics,
        poses=poses_from_trajectory(trajectory),
        grid=ALIGNED,
        taxonomy="native",
        timestamps_us=np.array([5_000_000, 5_100_000, 5_200_000]),
        anchor=0,
        instances=instances,
    )


@pytest.fixture(scope="module")
def sequence(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    (folder,), _ = write_tree(SemanticKittiTree, out, drive())
    assert folder == "dataset/sequences/00"
    return out / folder


def test_files_have_their_sizes_to_the_byte_and_nothing_else_lies_in_the_tree(sequence):
    frames = ["000000", "000001", "000002"]
    sizes = {p.relative_to(sequence).as_posix(): p.stat().st_size for p in sequence.rglob("*") if p.is_file()}
    for frame in frames:
        assert sizes.pop(f"voxels/{frame}.label") == 4_194_304
        for suffix in ("bin", "invalid", "occluded"):
            assert sizes.pop(f"voxels/{frame}.{suffix}") == 262_144
        points, rest = divmod(sizes.pop(f"velodyne/{frame}.bin"), 16)
        assert rest == 0
        assert sizes.pop(f"labels/{frame}.label") == 4 * points
    assert set(sizes) == {"poses.txt", "calib.txt", "times.txt"}
    root = sequence.parents[2]
    top = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_dir()}
    assert top == {"dataset", "dataset/poses", "dataset/sequences", "dataset/sequences/00"} | {
        f"dataset/sequences/00/{name}" for name in ("voxels", "velodyne", "labels")
    }
    beyond = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and sequence not in p.parents]
    assert beyond == ["dataset/poses/00.txt"]


def test_a_car_at_a_known_place_fills_exactly_its_voxels(sequence):
    """Ego x 10 to 11.6, y 2 to 3.2, z 0.33 to 1.53 m is z -1.4 to -0.2 from the LiDAR: voxels 3 to 8."""
    voxels = Voxels(sequence, 0)
    cars = np.argwhere(voxels.labels() == 10)
    assert cars.min(axis=0).tolist() == [50, 138, 3]
    assert cars.max(axis=0).tolist() == [57, 143, 8]
    assert len(cars) == 8 * 6 * 6
    assert voxels.label(50, 138, 3) == 10
    assert voxels.label(49, 138, 3) == 0
    assert voxels.label(20, 128, 1) == 40


def test_ids_on_disk_are_raw_ids(sequence):
    labels = Voxels(sequence, 0).labels()
    assert set(np.unique(labels)) == {0, 10, 40, 50, 99}
    assert set(np.unique(labels)) <= KNOWN_RAW
    assert (labels == 99).sum() == 3  # a cone has no class here: present, and ignored by the benchmark


def test_unknown_and_uncovered_voxels_are_empty_and_invalid(sequence):
    voxels = Voxels(sequence, 0)
    for place in [(20, 85, 1), (20, 80, 10), (200, 128, 1), (20, 20, 1), (20, 128, 30)]:
        assert voxels.label(*place) == 0
        assert voxels.bit("invalid", *place) == 1
        assert voxels.bit("occluded", *place) == 1
        assert voxels.bit("bin", *place) == 0


def test_masks_tell_seen_occluded_and_never_seen_apart(sequence):
    voxels = Voxels(sequence, 0)
    before, face, behind_wall = (40, 140, 8), (50, 140, 6), (110, 128, 6)
    assert [voxels.bit(n, *before) for n in ("bin", "invalid", "occluded")] == [0, 0, 0]
    assert [voxels.bit(n, *face) for n in ("bin", "invalid", "occluded")] == [1, 0, 0]
    assert [voxels.bit(n, *behind_wall) for n in ("bin", "invalid", "occluded")] == [0, 1, 1]
    inside_car = (54, 141, 6)
    assert [voxels.bit(n, *inside_car) for n in ("bin", "invalid", "occluded")] == [0, 1, 1]
    scanned, invalid, occluded = (voxels.bits(n) for n in ("bin", "invalid", "occluded"))
    assert (voxels.labels()[scanned == 1] > 0).all()
    assert (occluded[invalid == 1] == 1).all()
    assert occluded.sum() > invalid.sum()  # other poses saw more


def test_every_point_lies_in_a_voxel_of_its_class_and_only_points_set_the_input_scan(sequence):
    for frame in range(3):
        points = np.frombuffer((sequence / "velodyne" / f"{frame:06d}.bin").read_bytes(), "<f4").reshape(-1, 4)
        packed = np.frombuffer((sequence / "labels" / f"{frame:06d}.label").read_bytes(), "<u4")
        semantic, instance = packed & 0xFFFF, packed >> 16
        assert len(points) == len(semantic) > 5000
        assert np.isfinite(points).all()
        assert points[:, 3].min() >= 0
        assert points[:, 3].max() <= 1
        assert set(np.unique(semantic)) == {10, 40, 50, 99}
        assert (instance[semantic == 10] == 777).all()
        assert (instance[semantic != 10] == 0).all()
        index = np.floor((points[:, :3].astype(float) - [0, -25.6, -2]) / 0.2).astype(int)
        inside = ((index >= 0) & (index < [256, 256, 32])).all(axis=1)
        x, y, z = index[inside].T
        voxels = Voxels(sequence, frame)
        from_points = np.zeros((256, 256, 32), np.uint8)
        from_points[x, y, z] = 1
        assert (voxels.bits("bin") == from_points).all()
        same = voxels.labels()[x, y, z] == semantic[inside]
        # Where the grids are turned against each other, a rim that is hit may have no voxel of the tree beside it.
        assert same.all() if frame == 0 else same.mean() > 0.99


def test_poses_give_the_lidar_pose_through_tr_and_start_at_the_identity(sequence):
    tr = read_calib(sequence / "calib.txt")["Tr"]
    poses = read_poses(sequence / "poses.txt")
    scene = drive()
    mount = np.eye(4)
    mount[2, 3] = 1.73
    assert len(poses) == scene.frames
    assert (poses[0] == np.eye(4)).all()
    for frame, pose in enumerate(poses):
        lidar = np.linalg.inv(tr) @ pose @ tr
        expected = np.linalg.inv(scene.poses[0] @ mount) @ scene.poses[frame] @ mount
        assert lidar == pytest.approx(expected, abs=1e-9)
    # In the camera's frame, driving ahead is +z, and turning left is a rotation about -y.
    assert poses[2][2, 3] > 1.9


def test_poses_lie_where_loaders_of_the_odometry_benchmark_look_for_them_too(sequence):
    """KISS-ICP and pykitti know poses/00.txt next to sequences, and nothing else."""
    poses = np.loadtxt(sequence.parents[1] / "poses" / f"{sequence.name}.txt", delimiter=" ").reshape(-1, 3, 4)
    assert poses.tolist() == [pose[:3].tolist() for pose in read_poses(sequence / "poses.txt")]


def test_calibration_has_the_keys_in_order_and_tr_turns_the_lidar_into_the_camera(sequence):
    calib = read_calib(sequence / "calib.txt")
    assert list(calib) == ["P0", "P1", "P2", "P3", "Tr"]
    ahead_left_up = calib["Tr"] @ [10.0, 1.0, 2.0, 1.0]
    assert ahead_left_up == pytest.approx([-1.0, -2.08, 9.73, 1.0])
    u, v, w = (calib["P2"] @ ahead_left_up)[:3]
    assert 0 < u / w < 1241
    assert v / w < 185


def test_times_are_seconds_from_the_first_frame(sequence):
    assert [float(s) for s in (sequence / "times.txt").read_text().split("\n")[:-1]] == pytest.approx([0.0, 0.1, 0.2])
