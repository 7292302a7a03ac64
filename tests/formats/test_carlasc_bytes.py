"""CarlaSC trees, read by minimal readers written from the format's description alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from street_scene import street
from written_tree import write_tree

from dyncity.errors import InputError
from dyncity.presets import preset
from dyncity.scene import SceneSpec
from exporters.carlasc import TREE, CarlaScTree
from generators.procedural.city import ProceduralCity

# The data set's own map from raw ids to its 11 classes.
REMAP = np.array([0, 1, 2, 3, 4, 5, 6, 6, 8, 9, 10, 2, 5, 3, 7, 3, 3, 2, 5, 3, 3, 3, 7])


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    folders, end = write_tree(CarlaScTree, out, street("a"), street("b"), street("c"))
    assert folders == [f"Cartesian/{split}/cartesian" for split in ("Train/Town0001", "Val/Town0002", "Test/Town0003")]
    assert end.roots == (".",)
    assert end.notes == ()
    return out


@pytest.fixture(scope="module")
def town(root) -> Path:
    return root / "Cartesian/Train/Town0001/cartesian"


def read(path: Path, code: str) -> np.ndarray:
    """Little-endian values of 4 bytes each, ``[128, 128, 8]`` in C order."""
    data = path.read_bytes()
    assert len(data) == 524_288
    return np.array(struct.unpack(f"<{128 * 128 * 8}{code}", data)).reshape(128, 128, 8)


def place(x: float, y: float, z: float) -> tuple[int, int, int]:
    """The voxel of a place in metres from the LiDAR, which hangs 1.8 m above the road."""
    return int((x + 25.6) // 0.4), int((y + 25.6) // 0.4), int((z + 2.0) // 0.375)


def test_files_have_their_sizes_and_a_town_holds_nothing_else(root, town):
    sizes = {p.relative_to(town).as_posix(): p.stat().st_size for p in town.rglob("*") if p.is_file()}
    for frame in ("000000", "000001", "000002"):
        assert sizes.pop(f"evaluation/{frame}.label") == sizes.pop(f"evaluation/{frame}.bin") == 524_288
        points, rest = divmod(sizes.pop(f"velodyne/{frame}.bin"), 16)
        assert rest == 0
        assert sizes.pop(f"labels/{frame}.label") == 4 * points
        assert sizes.pop(f"predictions/{frame}.bin") == 12 * points
    assert set(sizes) == {"poses.txt", "times.txt", "evaluation/params.json"}
    assert [p.name for p in town.parent.iterdir()] == ["cartesian"]
    assert sorted(p.name for p in (root / "Cartesian").iterdir()) == ["Test", "Train", "Val"]


def test_parameters_are_those_of_the_data_set(town):
    assert json.loads((town / "evaluation/params.json").read_text()) == {
        "grid_size": [128.0, 128.0, 8.0],
        "min_bound": [-25.6, -25.6, -2.0],
        "max_bound": [25.6, 25.6, 1.0],
        "num_channels": 25,
        "coordinates": "cartesian",
    }


def test_labels_are_raw_ids_that_the_data_sets_map_turns_into_the_right_classes(town):
    raw = read(town / "evaluation/000000.label", "I")
    assert raw.max() <= 22
    classes = REMAP[raw]
    assert classes[place(11, 0, -1.0)] == 10  # the car ahead: ego z 0.8
    assert classes[place(6.1, -3.9, -1.0)] == 4  # the pedestrian
    assert classes[place(0.1, 10.3, 0.0)] == 1  # the wall
    assert classes[place(5, -0.1, -1.8)] == 6  # road, z -2 to -1.6 from the LiDAR
    assert classes[place(5, 8.5, -1.8)] == 8  # sidewalk
    assert classes[place(3, -0.1, 0.0)] == 0
    assert raw[place(24, 0, -1.8)] == 0  # the scene ends 20 m ahead


def test_hit_counts_are_0_where_nothing_was_observed_and_count_the_points_elsewhere(town):
    raw = read(town / "evaluation/000000.label", "I")
    counts = read(town / "evaluation/000000.bin", "f")
    assert counts[place(24, 0, -1.8)] == 0  # outside of the scene
    assert counts[place(0.1, -18.0, 0.0)] == 0  # unknown in it
    assert counts[place(0.1, 12.0, 0.0)] == 0  # behind the wall
    assert counts[place(3, -0.1, 0.0)] == 1  # seen to be free
    points = np.frombuffer((town / "velodyne/000000.bin").read_bytes(), "<f4").reshape(-1, 4)[:, :3]
    index = np.floor((points.astype(float) - [-25.6, -25.6, -2.0]) / [0.4, 0.4, 0.375]).astype(int)
    index = index[((index >= 0) & (index < [128, 128, 8])).all(axis=1)]
    hits = np.zeros((128, 128, 8))
    np.add.at(hits, tuple(index.T), 1)
    assert (hits > 1).sum() > 100
    assert (counts[hits > 0] == hits[hits > 0]).all()
    assert (raw[hits > 0] > 0).all()


def test_every_point_is_counted_in_the_voxel_that_its_rounded_place_lies_in(tmp_path):
    """Rays at 45 degrees hit a coarse grid on the sides of the data set's voxels: float32 decides."""
    (scene,) = ProceduralCity(preset("tiny"), frame="world").generate([SceneSpec(1, 90210)])
    (folder,), _ = write_tree(CarlaScTree, tmp_path, scene)
    missed = counted = 0
    for frame in range(scene.frames):
        raw = read(tmp_path / folder / f"evaluation/{frame:06d}.label", "I")
        counts = read(tmp_path / folder / f"evaluation/{frame:06d}.bin", "f")
        points = np.fromfile(tmp_path / folder / f"velodyne/{frame:06d}.bin", "<f4").reshape(-1, 4)[:, :3]
        index = np.floor((points.astype(float) - [-25.6, -25.6, -2.0]) / [0.4, 0.4, 0.375]).astype(int)
        index = index[((index >= 0) & (index < [128, 128, 8])).all(axis=1)]
        hits = np.zeros((128, 128, 8))
        np.add.at(hits, tuple(index.T), 1)
        occupied = (hits > 0) & (raw > 0)
        missed += (counts[occupied] != hits[occupied]).sum()
        counted += occupied.sum()
    assert counted > 10_000
    assert missed == 0


def test_points_carry_the_raw_ids_of_what_they_hit_and_flow_of_what_moves(town):
    packed = np.frombuffer((town / "labels/000000.label").read_bytes(), "<u4")
    points = np.frombuffer((town / "velodyne/000000.bin").read_bytes(), "<f4").reshape(-1, 4)
    flow = np.frombuffer((town / "predictions/000000.bin").read_bytes(), "<f4").reshape(-1, 3)
    assert set(REMAP[np.unique(packed)]) == {1, 4, 6, 8, 10}
    driving = (REMAP[packed] == 10) & (np.abs(points[:, 1]) < 1.5)
    assert driving.sum() > 20
    assert flow[driving] == pytest.approx(np.tile([0.8, 0, 0], (driving.sum(), 1)), abs=1e-5)
    assert flow[~driving] == pytest.approx(0.0, abs=1e-5)  # the other car and the pedestrian stand
    assert np.frombuffer((town / "predictions/000002.bin").read_bytes(), "<f4").max() == 0  # no next frame


def test_poses_are_those_of_the_lidar_relative_to_the_first_and_times_count_from_it(town):
    poses = np.loadtxt(town / "poses.txt").reshape(-1, 3, 4)
    assert (poses[0] == np.eye(4)[:3]).all()
    assert poses[2] == pytest.approx(np.array([[1, 0, 0, 4.0], [0, 1, 0, 0], [0, 0, 1, 0]]))
    assert np.loadtxt(town / "times.txt").tolist() == [0.0, 0.5, 1.0]


def test_training_needs_a_split_to_validate_on_and_one_to_test_on(tmp_path):
    """The published training script opens Train and Val, the script that tests a model Test."""
    frames = [street(str(n), frames=1) for n in range(10)]
    for count, towns in ((1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (10, (6, 2, 2))):
        folders, end = write_tree(CarlaScTree, tmp_path / str(count), *frames[:count])
        assert tuple(sum(f"/{split}/" in f for f in folders) for split in ("Train", "Val", "Test")) == towns
        assert [split for split in ("Val", "Test") if any(f"no {split}" in note for note in end.notes)] == [
            split for split, some in zip(("Val", "Test"), towns[1:], strict=True) if not some
        ]


def test_a_name_that_loaders_replace_in_paths_is_refused_and_reported_of_parents(tmp_path):
    """Loaders find hit counts by replacing label by bin in the whole path of a label file."""
    with pytest.raises(InputError, match="label"):
        TREE.check(tmp_path / "my-labels")
    assert any("label" in line for line in TREE.check(tmp_path.parents[-1] / "my-labels" / "out"))
    assert TREE.check(tmp_path.parents[-1] / "velodyne" / "voxels") == []
    (folder,), _ = write_tree(CarlaScTree, tmp_path / "out", street(frames=1))
    path = str(next((tmp_path / "out" / folder / "evaluation").glob("*.label")).relative_to(tmp_path))
    assert (tmp_path / path.replace("label", "bin")).stat().st_size == 524_288


def test_scenes_of_different_lengths_are_told_since_the_published_loader_stacks_them(tmp_path):
    _, end = write_tree(CarlaScTree, tmp_path, street("a", frames=1), street("b", frames=2))
    assert any("length" in note for note in end.notes)
