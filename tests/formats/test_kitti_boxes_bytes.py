"""KITTI-style boxes, read line by line as KITTI's development kit describes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from street_scene import street
from written_tree import write_tree

from exporters.kitti_boxes import KittiBoxesTree
from exporters.native_tree import TreeOptions


@pytest.fixture(scope="module", params=[True, False], ids=["boxes", "instances alone"])
def root(request, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    scenes = [street(name, boxes=request.param) for name in ("a", "b")]
    folders, end = write_tree(KittiBoxesTree, out, *scenes, options=TreeOptions(scans=request.param))
    assert folders == ["training", "training"]
    assert end.roots == (".",)
    assert any("voxels" in note for note in end.notes) != request.param
    return out


def calib(path: Path) -> dict[str, np.ndarray]:
    lines = [line.split(": ") for line in path.read_text().splitlines()]
    return {key: np.array(values.split(), float) for key, values in lines}


def test_every_frame_has_its_files_and_the_splits_list_them(root):
    names = [f"{n:06d}" for n in range(6)]
    assert sorted(p.stem for p in (root / "training/label_2").iterdir()) == names
    assert sorted(p.stem for p in (root / "training/calib").iterdir()) == names
    assert (root / "ImageSets/train.txt").read_text().split() == names[:3]
    assert (root / "ImageSets/val.txt").read_text().split() == names[3:]
    assert (root / "ImageSets/trainval.txt").read_text().split() == names
    for path in (root / "training").glob("velodyne/*.bin"):
        assert path.stat().st_size % 16 == 0


def test_the_validation_frames_are_those_to_test_on_too_since_tools_fail_on_an_empty_list(root, tmp_path):
    """mmdetection3d's create_data.py prepares train, val and test in one run, and stops at a list without frames."""
    names = (root / "ImageSets/test.txt").read_text().split()
    assert names == (root / "ImageSets/val.txt").read_text().split() == ["000003", "000004", "000005"]
    folders = {p.name for p in (root / "training").iterdir()} - {"label_2"}
    assert {p.name for p in (root / "testing").iterdir()} == folders
    for folder in folders:
        assert sorted(p.stem for p in (root / "testing" / folder).iterdir()) == names
        for path in (root / "testing" / folder).iterdir():
            assert path.read_bytes() == (root / "training" / folder / path.name).read_bytes()
    _, end = write_tree(KittiBoxesTree, tmp_path, street(frames=1), options=TreeOptions(scans=False))
    assert any("one scene only" in note for note in end.notes)
    assert not (tmp_path / "testing").exists()


def test_a_box_stands_where_its_voxels_are(root):
    """Back from the camera's frame to the ego's: the driving car's bottom is at (11, 0, 0.2) in frame 0."""
    values = calib(root / "training/calib/000000.txt")
    to_camera = np.vstack([values["Tr_velo_to_cam"].reshape(3, 4), [0, 0, 0, 1]])
    assert values["R0_rect"].reshape(3, 3).tolist() == np.eye(3).tolist()
    for frame in range(3):
        lines = [line.split() for line in (root / f"training/label_2/{frame:06d}.txt").read_text().splitlines()]
        assert all(len(line) == 15 for line in lines)
        assert sorted(line[0] for line in lines) == ["Car", "Car", "Pedestrian"]
        places = []
        for line in lines:
            height, width, length = map(float, line[8:11])
            at = np.linalg.inv(to_camera) @ [*map(float, line[11:14]), 1.0]
            places.append(
                (*np.round(at[:3] + np.array([0, 0, 1.73]), 2), round(length, 2), round(width, 2), round(height, 2))
            )
        car = next(p for p in places if abs(p[1]) < 0.2)
        assert car[:3] == pytest.approx((11.0 - 1.2 * frame, 0.0, 0.2), abs=0.02)
        assert car[3:] == pytest.approx((2.0, 1.6, 1.6), abs=0.02)


def test_the_image_box_holds_the_projection_of_the_middle_and_rotation_follows_the_heading(root):
    projection = calib(root / "training/calib/000000.txt")["P2"].reshape(3, 4)
    for line in (root / "training/label_2/000000.txt").read_text().splitlines():
        words = line.split()
        kind, numbers = words[0], list(map(float, words[1:]))
        left, top, right, bottom = numbers[3:7]
        height, location, rotation = numbers[7], np.array(numbers[10:13]), numbers[13]
        u, v, w = projection @ [location[0], location[1] - height / 2, location[2], 1.0]
        if numbers[0] == 0:  # not truncated
            assert left <= u / w <= right
            assert top <= v / w <= bottom
        if kind == "Car":  # facing ahead is -90 degrees: rotation counts from the camera's x, to its right
            assert np.sin(rotation) == pytest.approx(-1.0, abs=1e-3)
            assert numbers[2] == pytest.approx(rotation - np.arctan2(location[0], location[2]), abs=1e-3)


def test_occlusion_is_that_of_the_scene_since_the_evaluation_ignores_what_is_unknown(root):
    """KITTI's evaluation scores occlusions of 0 to 2, and finds nothing to score where all are 3."""
    rows = [line.split() for path in sorted(root.glob("training/label_2/*")) for line in path.read_text().splitlines()]
    assert {row[2] for row in rows if row[4] == "-1.0000"} == {"3"}
    in_sight = [row[2] for row in rows if row[4] != "-1.0000"]
    assert len(in_sight) >= 4
    assert set(in_sight) == {"0"}  # nothing stands between the camera and what it sees


def test_boxes_behind_the_camera_are_listed_without_an_image_box(tmp_path):
    write_tree(KittiBoxesTree, tmp_path, street(frames=6), options=TreeOptions(scans=False))
    lines = (tmp_path / "training/label_2/000005.txt").read_text().splitlines()
    behind = [line.split() for line in lines if float(line.split()[13]) < 0]
    assert len(behind) >= 1
    assert all(words[4:8] == ["-1.0000"] * 4 for words in behind)


def test_a_frame_without_objects_lists_what_to_ignore_since_readers_fail_on_an_empty_file(tmp_path):
    """OpenPCDet concatenates the boxes of a file, Paddle3D parses it as a table: neither takes none at all."""
    empty = replace(street(), boxes=None, instances=None)
    _, end = write_tree(KittiBoxesTree, tmp_path, empty, options=TreeOptions(scans=False))
    for name in (tmp_path / "ImageSets/trainval.txt").read_text().split():
        rows = [line.split(" ") for line in (tmp_path / f"training/label_2/{name}.txt").read_text().splitlines()]
        image_boxes = np.concatenate([np.array(row[4:8], float).reshape(1, 4) for row in rows])
        assert image_boxes.tolist() == [[-1, -1, -1, -1]]
        assert [len(row) for row in rows] == [15]
        assert [row for row in rows if row[0] != "DontCare"] == []
    assert "no objects" in end.notes[-1]


def test_placeholder_images_have_the_size_that_openpcdet_asks_for(tmp_path):
    """KittiDataset.get_image_shape of OpenPCDet: every frame listed needs its image_2."""
    write_tree(KittiBoxesTree, tmp_path, street(), options=TreeOptions(scans=False, images=True))
    for name in (tmp_path / "ImageSets/trainval.txt").read_text().split():
        assert Image.open(tmp_path / f"training/image_2/{name}.png").size == (1241, 376)
        assert (tmp_path / f"training/calib/{name}.txt").is_file()
