"""Damaged native trees: one line that names the file, before anything is read where names and sizes tell."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from native_trees import write_tree
from street_scene import street
from tree_damage import (
    Damage,
    annotated,
    array,
    both_gone,
    counted_on,
    cut,
    empty,
    first_value,
    flipped,
    frame_with,
    gone,
    header,
    hostile,
    infos,
    last_line_gone,
    longer,
    many_lines,
    nested_json,
    number,
    padded,
    pipe,
    repacked,
    same_times,
    scaled,
    text,
    with_value,
)

from dyncity.errors import InputError
from generators.recorded_trees import TREES, RecordedTrees

pytestmark = pytest.mark.filterwarnings("error")  # a warning is a line more on stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An undamaged tree of each kind: one drive of three frames."""
    folder = tmp_path_factory.mktemp("whole")
    return {kind: write_tree(kind, folder / kind, [street()]) for kind in TREES}


KITTI, CARLA = "dataset/sequences/00/", "Cartesian/Train/Town0001/cartesian/evaluation/"
LABEL, POSES, TIMES = f"{KITTI}voxels/000001.label", f"{KITTI}poses.txt", f"{KITTI}times.txt"
CALIBRATION = f"{KITTI}calib.txt"
NUSCENES, ANNOTATIONS = "gts/scene-0001/*/labels.npz", "annotations.json"
WAYMO, INFOS = "training/000/001_04.npz", "waymo_infos_train.pkl"
TOWN_LABEL, HITS, PARAMETERS = f"{CARLA}000001.label", f"{CARLA}000001.bin", f"{CARLA}params.json"
TOWN_TIMES = f"{CARLA.removesuffix('evaluation/')}times.txt"
NAN_POSE = {"translation": [0, 0, float("nan")], "rotation": [1, 0, 0, 0]}
LONG_POSE = {"translation": [0, 0, 0], "rotation": [1, 1, 0, 0]}

# By kind and name: what is damaged, how, when it is found (names, sizes, voxels), what the line says besides the file.
CASES: dict[str, dict[str, tuple[str, Damage, str, str]]] = {
    "semantickitti": {
        "no label": (LABEL, gone, "sizes", "000001.label: there is no such file"),
        "no first frame": (f"{KITTI}voxels/000000.label", both_gone, "names", "000000.label: it is missing"),
        "no last frame": (f"{KITTI}voxels/000002.label", both_gone, "names", "3 poses, in steps of 1"),
        "no invalid": (f"{KITTI}voxels/000002.invalid", gone, "sizes", "no such file"),
        "half a label": (LABEL, cut, "sizes", "2097152 bytes, not 4194304"),
        "a long invalid": (f"{KITTI}voxels/000001.invalid", longer, "sizes", "262145 bytes"),
        "an unknown id": (LABEL, first_value(2, "<u2"), "voxels", "id 2"),
        "an id out of range": (LABEL, first_value(65_535, "<u2"), "voxels", "voxel (0, 0, 0) has id 65535"),
        "no poses": (POSES, gone, "names", "no such file"),
        "empty poses": (POSES, empty, "names", "12 finite numbers"),
        "one pose too few": (POSES, last_line_gone, "names", "3 times"),
        "half a pose file": (POSES, cut, "names", "line 2"),
        "a pose that is no number": (POSES, text("e+00", "e+oo"), "names", "line 1"),
        "a pose that is not finite": (POSES, text("0.0", "nan 0.0"), "names", "line 1"),
        "a pose of infinity": (POSES, text("0.000000000000e+00", "inf"), "names", "12 finite numbers"),
        "no rotation": (POSES, scaled, "names", "pose 2"),
        "a rotation that overflows": (POSES, number(1, 0, "1e200"), "names", "pose 1"),
        "a pose off the earth": (POSES, number(2, 3, "1e300"), "names", "pose 2"),
        "a pipe for poses": (POSES, pipe, "names", "it is not a file"),
        "no times": (TIMES, gone, "names", "no such file"),
        "a time past all bounds": (TIMES, number(1, 0, "1e300"), "names", "time 1 is 1e+300 s"),
        "a time before the first": (TIMES, number(0, 0, "-1e12"), "names", "time 0"),
        "one time too few": (TIMES, last_line_gone, "names", "2 times"),
        "times without end": (TIMES, many_lines, "names", "1000001 lines"),
        "a time that does not pass": (TIMES, same_times, "names", "time 2"),
        "no calibration": (CALIBRATION, gone, "names", "no such file"),
        "a calibration without Tr": (CALIBRATION, text("Tr:", "Tx:"), "names", "no line Tr"),
        "a calibration that overflows": (CALIBRATION, text("Tr: 0.000000000000e+00", "Tr: 1e308"), "names", "Tr"),
        "half a calibration": (CALIBRATION, text("Tr: ", "Tr: nan "), "names", "Tr"),
    },
    "occ3d-nuscenes": {
        "no labels.npz": (NUSCENES, gone, "sizes", "no such file"),
        "half a labels.npz": (NUSCENES, cut, "sizes", "zip"),
        "an empty labels.npz": (NUSCENES, empty, "sizes", "zip"),
        "a flipped byte": (NUSCENES, flipped, "any", "labels.npz"),
        "a header without its end": (NUSCENES, header(b"{'descr': '|u1',"), "sizes", "header"),
        "a header in a text without end": (NUSCENES, header(b"{'''descr"), "sizes", "header"),
        "a header of signs": (NUSCENES, header(b"-" * 9000 + b"1"), "sizes", "MemoryError"),
        "a header of brackets": (NUSCENES, header(b"(" * 9000), "sizes", "header"),
        "arrays packed by another method": (NUSCENES, repacked(bytes, zipfile.ZIP_LZMA), "sizes", "method 14"),
        "a pipe for labels": (NUSCENES, pipe, "sizes", "it is not a file"),
        "a file without end": (NUSCENES, padded, "sizes", "67108864 bytes"),
        "no mask": (NUSCENES, array("mask_camera", lambda a: None), "sizes", "mask_camera"),
        "another shape": (NUSCENES, array("semantics", lambda a: a[:-1]), "sizes", "(199, 200, 16)"),
        "another type": (NUSCENES, array("semantics", lambda a: a.astype("f4")), "sizes", "float32"),
        "Python objects": (NUSCENES, array("semantics", lambda a: a.astype(object)), "sizes", "object"),
        "an unknown class": (NUSCENES, array("semantics", with_value(18)), "voxels", "id 18"),
        "a mask of 2": (NUSCENES, array("mask_lidar", with_value(2)), "voxels", "mask_lidar"),
        "no byte": (NUSCENES, array("semantics", lambda a: with_value(-1)(a.astype("i4"))), "voxels", "no byte"),
        "no annotations": (ANNOTATIONS, gone, "names", "no such file"),
        "half of the annotations": (ANNOTATIONS, cut, "names", "JSON"),
        "deep annotations": (ANNOTATIONS, nested_json, "names", "JSON"),
        "annotations of another kind": (ANNOTATIONS, text('"scene_infos"', '"scenes"'), "names", "scene_infos"),
        "a scene without annotations": (ANNOTATIONS, text('{"scene-0001"', '{"scene-0002"'), "names", "scene-0001"),
        "a frame less annotated": (ANNOTATIONS, annotated(dict.popitem), "names", "2 frames are"),
        "a frame more annotated": (
            ANNOTATIONS,
            annotated(lambda f: f.update({"../../x": next(iter(f.values()))})),
            "names",
            "missing",
        ),
        "an ego pose that is not finite": (ANNOTATIONS, frame_with(ego_pose=NAN_POSE), "names", "ego_pose"),
        "a quaternion that is none": (ANNOTATIONS, frame_with(ego_pose=LONG_POSE), "names", "ego_pose"),
        "a quaternion that overflows": (
            ANNOTATIONS,
            frame_with(ego_pose={"translation": [0, 0, 0], "rotation": [1e300, 0, 0, 0]}),
            "names",
            "ego_pose",
        ),
        "an ego pose off the earth": (
            ANNOTATIONS,
            frame_with(ego_pose={"translation": [1e300, 0, 0], "rotation": [1, 0, 0, 0]}),
            "names",
            "pose",
        ),
        "no ego pose": (ANNOTATIONS, frame_with(ego_pose=None), "names", "ego_pose"),
        "a time that is none": (ANNOTATIONS, frame_with(timestamp="noon"), "names", "timestamp"),
        "two frames of one time": (ANNOTATIONS, frame_with(timestamp="1500000"), "names", "not later"),
    },
    "occ3d-waymo": {
        "no frame of a scene": (WAYMO, gone, "names", "missing"),
        "half a frame": (WAYMO, cut, "sizes", "zip"),
        "free as 15 on disk": (WAYMO, array("voxel_label", with_value(15)), "voxels", "id 15"),
        "no info file": (INFOS, gone, "names", "no such file"),
        "half an info file": (INFOS, cut, "names", "pickle"),
        "a hostile info file": (INFOS, hostile, "names", "mkdir"),
        "an info of another kind": (INFOS, infos(lambda v: [np.eye(4)]), "names", "frame 0"),
        "infos as a mapping": (INFOS, infos(lambda v: {0: v}), "names", "dict"),
        "a frame less": (INFOS, infos(lambda v: v[1:]), "names", "000_04.npz"),
        "a frame twice": (INFOS, infos(lambda v: v + v[:1]), "names", "twice"),
        "a pose with NaN": (INFOS, infos(lambda v: v[1].update(pose=np.full((4, 4), np.nan))), "names", "frame 001"),
        "a complex pose": (INFOS, infos(lambda v: v[1].update(pose=np.eye(4) * 1j)), "names", "frame 001"),
        "a pose with another last row": (
            INFOS,
            infos(lambda v: v[1].update(pose=np.eye(4) + np.eye(4)[:, ::-1])),
            "names",
            "pose 1",
        ),
        "a pipe for infos": (INFOS, pipe, "names", "it is not a file"),
        "a pose that is no rotation": (
            INFOS,
            infos(lambda v: v[1].update(pose=np.diag([1.0, 1.0, -1.0, 1.0]))),
            "names",
            "pose 1",
        ),
    },
    "carlasc": {
        "no town label": (TOWN_LABEL, gone, "sizes", "no such file"),
        "no hit counts": (HITS, gone, "sizes", "no such file"),
        "half the hit counts": (HITS, cut, "sizes", "524288"),
        "a hit count below 0": (HITS, first_value(-1, "<f4"), "voxels", "hit count"),
        "a hit count of NaN": (HITS, first_value(np.nan, "<f4"), "voxels", "hit count"),
        "an id above 22": (TOWN_LABEL, first_value(23, "<u4"), "voxels", "id 23"),
        "a time past all bounds": (TOWN_TIMES, number(2, 0, "1e300"), "names", "time 2"),
        "a parameter without end": (PARAMETERS, text("[128.0", "[" + "9" * 300 + ", 128.0"), "names", "grid_size"),
        "another grid": (PARAMETERS, text("128.0", "256.0"), "names", "grid_size"),
        "no parameters": (PARAMETERS, gone, "names", "no such file"),
        "broken parameters": (PARAMETERS, cut, "names", "JSON"),
        "one pose too many": (f"{CARLA}000002.label", both_gone, "names", "3 poses"),
        "one frame too many": (f"{CARLA}000002.label", counted_on, "names", "no pose of its own"),
    },
}


def found_at(kind: str, tree: Path) -> tuple[str, InputError]:
    """The step that refuses a tree, and how."""
    step = "names"
    try:
        source = RecordedTrees(kind, tree)
        step = "sizes"
        for drive in source._drives:
            TREES[kind].check(drive)
        step = "voxels"
        source.check()
    except InputError as error:
        return step, error
    return "never", InputError("", "", "")


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in CASES.items() for case in cases])
def test_damage_is_one_line_that_names_the_file(
    whole: dict[str, Path], tmp_path: Path, kind: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern, damage, step, word = CASES[kind][case]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole[kind], tmp_path / "tree")
    path = min((tmp_path / "tree").glob(pattern))
    damage(path)
    found, error = found_at(kind, tmp_path / "tree")
    assert found == step or (step == "any" and found != "never"), error
    assert "\n" not in str(error)
    assert str(tmp_path / "tree") in str(error)
    assert word in str(error)
    assert len(str(error)) < 500 + 2 * len(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]  # nothing in a pickle was run


@pytest.mark.parametrize("kind", TREES)
def test_what_is_no_tree_of_the_kind_is_refused(whole: dict[str, Path], tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    other = whole["carlasc" if kind != "carlasc" else "occ3d-waymo"]
    for source in (tmp_path / "none", tmp_path / "empty", tmp_path / "file", other):
        with pytest.raises(InputError) as caught:
            RecordedTrees(kind, source)
        assert str(caught.value).startswith(str(source))


def test_sequences_without_labels_are_left_out_and_refused_alone(whole: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(whole["semantickitti"], tmp_path / "tree")
    test = tmp_path / "tree/dataset/sequences/11"
    (test / "voxels").mkdir(parents=True)
    (test / "voxels/000000.bin").write_bytes(bytes(262_144))
    assert RecordedTrees("semantickitti", tmp_path / "tree").scenes == 1
    with pytest.raises(InputError, match="11 to 21"):
        RecordedTrees("semantickitti", test)
