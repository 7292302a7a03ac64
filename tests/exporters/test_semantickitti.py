"""What a SemanticKITTI tree promises beyond its bytes: numbering, labels, resampling, small grids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from written_tree import write_tree

from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.presets import preset
from dyncity.scene import Boxes, OccupancyScene
from dyncity.taxonomy import NATIVE, SEMANTICKITTI
from exporters.motion import moving_tracks
from exporters.native_tree import TreeOptions
from exporters.semantickitti import TREE, SemanticKittiTree, sequence_folders
from exporters.semantickitti_ids import raw_table

# learning_map of the data set's own configuration, raw id -> learning id.
LEARNING_MAP = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11,
    49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7,
    254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip


def write_sequence(out: Path, scene: OccupancyScene, options: TreeOptions | None = None) -> Path:
    """A tree of one scene; the folder of its sequence."""
    (folder,), _ = write_tree(SemanticKittiTree, out, scene, options=options)
    return out / folder


def tiny_scene(scene_id: str = "tiny", frames: int = 2, labels: str = "native") -> OccupancyScene:
    """A road with a wall on each side, on the 0.8 m grid of the smallest preset."""
    grid = preset("tiny").grid
    road, wall = (1, 7) if labels == "native" else (9, 13)
    semantics = np.zeros((frames, *grid.shape), np.uint8)
    semantics[..., 1] = road
    semantics[:, :, 50, 2:6] = semantics[:, :, 14, 2:6] = wall
    semantics[:, :8] = 255
    return OccupancyScene(
        scene_id=scene_id,
        semantics=semantics,
        poses=np.tile(np.eye(4), (frames, 1, 1)),
        grid=grid,
        taxonomy=labels,
        timestamps_us=np.arange(frames, dtype=np.int64) * 200_000,
    )


@pytest.mark.parametrize("labels", ["native", "semantickitti"])
def test_raw_ids_come_back_as_the_learning_ids_they_stand_for(labels):
    table, moving = raw_table(labels)
    assert [LEARNING_MAP[int(raw)] for raw in moving] == [LEARNING_MAP[int(raw)] for raw in table]
    if labels == "semantickitti":
        assert [LEARNING_MAP[int(raw)] for raw in table[:20]] == list(range(20))
    names = {LEARNING_MAP[int(table[i])]: name for i, name in enumerate(SEMANTICKITTI.classes)}
    expected = {"car": "car", "pedestrian": "person", "road": "road", "trunk": "trunk", "bus": "other-vehicle"}
    if labels == "native":
        for native, kitti in expected.items():
            assert LEARNING_MAP[int(table[NATIVE.id(native)])] == SEMANTICKITTI.id(kitti)
        assert table[NATIVE.id("traffic_cone")] == 99
        assert table[NATIVE.id("free")] == 0
    else:
        assert len(names) == 20
    assert table[255] == 0


def test_up_to_eleven_scenes_share_one_root_and_always_include_the_validation_sequence():
    assert sequence_folders(1, None) == ["dataset/sequences/00"]
    assert sequence_folders(2, None) == ["dataset/sequences/00", "dataset/sequences/08"]
    assert sequence_folders(4, None)[-1] == "dataset/sequences/08"
    assert sequence_folders(11, None) == [f"dataset/sequences/{n:02d}" for n in range(11)]


def test_more_scenes_go_to_parts_of_at_most_eleven():
    folders = sequence_folders(25, None)
    assert folders[:11] == [f"part-000/dataset/sequences/{n:02d}" for n in range(11)]
    assert folders[11] == "part-001/dataset/sequences/00"
    assert folders[22:] == [f"part-002/dataset/sequences/{n:02d}" for n in (0, 1, 8)]
    assert len(set(folders)) == 25


def test_chosen_numbers_are_used_in_one_root():
    assert sequence_folders(3, [8, 40, 2]) == [f"dataset/sequences/{n:02d}" for n in (8, 40, 2)]
    for wrong in ([1, 2], [1, 1, 2], [1, 2, 100], [-1, 2, 3]):
        with pytest.raises(InputError, match="--sequences"):
            sequence_folders(3, wrong)


@pytest.mark.parametrize("word", ["label", "velodyne", "voxels"])
def test_a_name_that_loaders_replace_in_paths_is_refused_and_reported_of_parents(tmp_path, word):
    with pytest.raises(InputError, match=word):
        TREE.check(tmp_path / f"my-{word}s")
    parent = tmp_path.parents[-1] / f"my-{word}" / "out"
    assert any(word in line for line in TREE.check(parent))
    assert TREE.check(tmp_path.parents[-1] / "data" / "out") == []


def test_scenes_on_a_coarse_grid_keep_their_surfaces_in_the_input_scan(tmp_path):
    """Points on 0.8 m voxels are voxelised at 0.2 m, with z moved by 1.73 m: none may fall into the air."""
    folder = write_sequence(tmp_path, tiny_scene())
    labels = np.fromfile(folder / "voxels/000000.label", "<u2").reshape(256, 256, 32)
    bits = np.fromfile(folder / "voxels/000000.bin", np.uint8)
    scanned = np.unpackbits(bits).reshape(256, 256, 32).astype(bool)
    points = np.fromfile(folder / "velodyne/000000.bin", "<f4").reshape(-1, 4)[:, :3]
    semantic = np.fromfile(folder / "labels/000000.label", "<u4") & 0xFFFF
    index = np.floor((points - [0, -25.6, -2]) / 0.2).astype(int)
    inside = ((index >= 0) & (index < [256, 256, 32])).all(axis=1)
    hit = scanned[tuple(index[inside].T)]
    assert hit[semantic[inside] == 40].mean() > 0.99
    assert hit[semantic[inside] == 50].mean() > 0.99
    assert (labels[scanned] > 0).all()
    # The road's voxel spans -0.4 to 0.4 m about the ground: -2.13 to -1.33 m from the LiDAR.
    assert set(labels[60, 128, :3]) == {40}
    assert labels[60, 128, 4] == 0


def test_voxels_beyond_the_scene_are_invalid(tmp_path):
    folder = write_sequence(tmp_path, tiny_scene())
    invalid = np.unpackbits(np.fromfile(folder / "voxels/000001.invalid", np.uint8)).reshape(256, 256, 32)
    assert invalid[128:].all()  # the scene ends 25.6 m ahead of the car
    assert invalid[:128].mean() < 0.9


def test_a_corpus_in_the_target_labels_gives_the_same_voxels(tmp_path):
    written = []
    for labels in ("native", "semantickitti"):
        out = tmp_path / labels.replace("label", "")
        out.mkdir()
        folder = write_sequence(out, tiny_scene(labels=labels))
        written.append((folder / "voxels/000000.label").read_bytes())
    assert written[0] == written[1]


def test_scans_can_be_left_out(tmp_path):
    folder = write_sequence(tmp_path, tiny_scene(), TreeOptions(scans=False))
    assert sorted(p.name for p in folder.iterdir()) == ["calib.txt", "poses.txt", "times.txt", "voxels"]


def test_the_same_scene_gives_the_same_bytes(tmp_path, make_scene: Callable[..., OccupancyScene]):
    grid = GridSpec((40, 30, 8), (0.4, 0.4, 0.4), (-8.0, -6.0, -1.0), 10.0)
    trees = []
    for run in range(2):
        out = tmp_path / str(run)
        out.mkdir()
        columns = ("instances", "boxes", "mask_lidar")
        scenes = [make_scene(seed, frames=2, grid=grid, columns=columns) for seed in range(2)]
        assert write_tree(SemanticKittiTree, out, *scenes)[1].roots == (".",)
        trees.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert trees[0] == trees[1]


def driving_scene() -> OccupancyScene:
    """A car that drives 1 m a frame next to one that stands, told apart by their instances alone."""
    scene = tiny_scene(frames=3)
    semantics, instances = scene.semantics.copy(), np.zeros(scene.semantics.shape, np.uint16)
    for t in range(3):
        for track, x, y in ((5, 40 + 2 * t, 36), (6, 40, 26)):
            semantics[t, x : x + 5, y : y + 2, 2:4] = NATIVE.id("car")
            instances[t, x : x + 5, y : y + 2, 2:4] = track
    return dataclasses.replace(scene, semantics=semantics, instances=instances)


def test_movers_have_moving_ids_in_voxels_and_points_in_all_frames(tmp_path):
    folder = write_sequence(tmp_path, driving_scene())
    for frame in range(3):
        packed = np.fromfile(folder / f"labels/{frame:06d}.label", "<u4")
        semantic, instance = packed & 0xFFFF, packed >> 16
        assert set(semantic[instance == 5].tolist()) == {252}
        assert set(semantic[instance == 6].tolist()) == {10}
        voxels = set(np.fromfile(folder / f"voxels/{frame:06d}.label", "<u2").tolist())
        assert {10, 252} <= voxels


def test_boxes_decide_who_moves_where_there_are_any(tmp_path):
    scene = driving_scene()
    boxes = Boxes(
        frame=np.array([0, 1, 2, 0, 2], np.int32),
        track=np.array([5, 5, 5, 6, 6], np.int32),
        label=np.full(5, NATIVE.id("car"), np.uint8),
        center=np.array([[8, 3, 1], [8.1, 3, 1], [8.2, 3, 1], [8, -5, 1], [9, -5, 1]], np.float32),
        size=np.full((5, 3), 2, np.float32),
        yaw=np.zeros(5, np.float32),
    )
    moving = moving_tracks(dataclasses.replace(scene, boxes=boxes))
    assert np.flatnonzero(moving).tolist() == [6]


def test_the_label_configuration_beside_the_tree_is_that_of_the_exported_sequences(tmp_path):
    _, end = write_tree(SemanticKittiTree, tmp_path, driving_scene(), driving_scene())
    ((ending, text),) = end.beside.items()
    config = yaml.safe_load(text)
    assert ending == "semantic-kitti.yaml"
    assert config["split"] == {"train": [0], "valid": [8], "test": []}
    assert config["learning_map"] == LEARNING_MAP
    assert {config["learning_map"][raw]: raw for raw in config["learning_map_inv"].values()}[1] == 10
    assert set(config["learning_map_inv"]) == set(config["learning_ignore"]) == set(range(20))
    assert set(config["labels"]) == set(config["color_map"]) == set(config["content"]) == set(LEARNING_MAP)
    assert sum(config["content"].values()) == pytest.approx(1.0)
    assert config["content"][252] > 0
    assert all(len(color) == 3 for color in config["color_map"].values())
    many = SemanticKittiTree([1] * 13).finish(tmp_path, []).beside
    assert sorted(many) == ["part-000.semantic-kitti.yaml", "part-001.semantic-kitti.yaml"]
    assert yaml.safe_load(many["part-001.semantic-kitti.yaml"])["split"]["valid"] == [8]


def test_images_are_placeholders_and_only_there_if_asked_for(tmp_path):
    folder = write_sequence(tmp_path, tiny_scene(), TreeOptions(scans=False, images=True))
    pictures = sorted((folder / "image_2").iterdir())
    assert [p.name for p in pictures] == ["000000.png", "000001.png"]
    assert Image.open(pictures[0]).size == (1241, 376)
