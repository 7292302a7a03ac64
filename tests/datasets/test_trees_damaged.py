"""Damaged native trees: one line that names the file, before anything is read where names and sizes tell."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_trees import write_tree
from street_scene import street

from dyncity.datasets.plain_pickle import load_plain_pickle
from dyncity.errors import InputError
from dyncity.scene import SceneSpec
from exporters.pickles import portable_pickle
from generators.recorded_trees import TREES, RecordedTrees

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An undamaged tree of each kind: one drive of three frames."""
    folder = tmp_path_factory.mktemp("whole")
    return {kind: write_tree(kind, folder / kind, [street()]) for kind in TREES}


def gone(path: Path) -> None:
    path.unlink()


def both_gone(path: Path) -> None:
    """A frame with its label and what belongs to it."""
    for other in path.parent.glob(f"{path.stem}.*"):
        other.unlink()


def counted_on(path: Path) -> None:
    shutil.copy(path, path.with_name("000003.label"))


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def first_value(value: float, dtype: str) -> Damage:
    """Another value in the first voxel of a plain file."""

    def damage(path: Path) -> None:
        array = np.fromfile(path, dtype)
        array[0] = value
        path.write_bytes(array.tobytes())

    return damage


def text(old: str, new: str) -> Damage:
    """The first ``old`` of a text replaced."""

    def damage(path: Path) -> None:
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return damage


def last_line_gone(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def same_times(path: Path) -> None:
    path.write_text("0.0\n0.1\n0.1\n")


def scaled(path: Path) -> None:
    """All numbers of the last row doubled: no rotation any more."""
    *rows, last = path.read_text().splitlines()
    path.write_text("\n".join([*rows, " ".join(str(2 * float(v) + 1) for v in last.split())]) + "\n")


def array(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Damage:
    """An array of an npz changed, or left out."""

    def damage(path: Path) -> None:
        with np.load(path) as npz:
            arrays = dict(npz)
        changed = change(arrays.pop(name))
        np.savez_compressed(path, **arrays, **({} if changed is None else {name: changed}))

    return damage


def flipped(path: Path) -> None:
    """A byte in the middle of the first member: the directory is whole, the content is not."""
    data = bytearray(path.read_bytes())
    data[len(data) // 6] ^= 255
    path.write_bytes(data)


def with_value(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[1, 2, 3] = value
        return values

    return change


def annotated(change: Callable[[dict[str, Any]], None]) -> Damage:
    """The frames of the one scene of annotations.json changed."""

    def damage(path: Path) -> None:
        annotations = json.loads(path.read_text())
        change(annotations["scene_infos"]["scene-0001"])
        path.write_text(json.dumps(annotations))

    return damage


def frame_with(**values: Any) -> Damage:
    return annotated(lambda frames: next(iter(frames.values())).update(values))


def infos(change: Callable[[list[dict[str, Any]]], Any]) -> Damage:
    """The list of an info file changed."""

    def damage(path: Path) -> None:
        values = pickle.loads(path.read_bytes())
        changed = change(values)
        path.write_bytes(portable_pickle(values if changed is None else changed))

    return damage


class Hostile:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("hostile",)


def hostile(path: Path) -> None:
    path.write_bytes(pickle.dumps([{"image": Hostile()}]))


def nested_json(path: Path) -> None:
    path.write_text("[" * 100_000)


KITTI, CARLA = "dataset/sequences/00/", "Cartesian/Train/Town0001/cartesian/"
NUSCENES, WAYMO = "gts/scene-0001/*/labels.npz", "training/000/001_04.npz"
NAN_POSE = {"translation": [0, 0, float("nan")], "rotation": [1, 0, 0, 0]}
LONG_POSE = {"translation": [0, 0, 0], "rotation": [1, 1, 0, 0]}

# What is damaged, how, when it is found (names, sizes, voxels), and what the line says besides the file.
CASES: dict[str, tuple[str, str, Damage, str, str]] = {
    "no label": ("semantickitti", f"{KITTI}voxels/000001.label", gone, "sizes", "000001.label: there is no such file"),
    "no first frame": (
        "semantickitti",
        f"{KITTI}voxels/000000.label",
        both_gone,
        "names",
        "000000.label: it is missing",
    ),
    "no last frame": ("semantickitti", f"{KITTI}voxels/000002.label", both_gone, "names", "3 poses, in steps of 1"),
    "no invalid": ("semantickitti", f"{KITTI}voxels/000002.invalid", gone, "sizes", "no such file"),
    "half a label": ("semantickitti", f"{KITTI}voxels/000001.label", cut, "sizes", "2097152 bytes, not 4194304"),
    "a long invalid": ("semantickitti", f"{KITTI}voxels/000001.invalid", longer, "sizes", "262145 bytes"),
    "an unknown id": ("semantickitti", f"{KITTI}voxels/000001.label", first_value(2, "<u2"), "voxels", "id 2"),
    "an id out of range": (
        "semantickitti",
        f"{KITTI}voxels/000001.label",
        first_value(65_535, "<u2"),
        "voxels",
        "voxel (0, 0, 0) has id 65535",
    ),
    "no poses": ("semantickitti", f"{KITTI}poses.txt", gone, "names", "no such file"),
    "empty poses": ("semantickitti", f"{KITTI}poses.txt", empty, "names", "12 finite numbers"),
    "one pose too few": ("semantickitti", f"{KITTI}poses.txt", last_line_gone, "names", "3 times"),
    "half a pose file": ("semantickitti", f"{KITTI}poses.txt", cut, "names", "line 2"),
    "a pose that is no number": ("semantickitti", f"{KITTI}poses.txt", text("e+00", "e+oo"), "names", "line 1"),
    "a pose that is not finite": ("semantickitti", f"{KITTI}poses.txt", text("0.0", "nan 0.0"), "names", "line 1"),
    "a pose of infinity": (
        "semantickitti",
        f"{KITTI}poses.txt",
        text("0.000000000000e+00", "inf"),
        "names",
        "12 finite numbers",
    ),
    "no rotation": ("semantickitti", f"{KITTI}poses.txt", scaled, "names", "pose 2"),
    "no times": ("semantickitti", f"{KITTI}times.txt", gone, "names", "no such file"),
    "one time too few": ("semantickitti", f"{KITTI}times.txt", last_line_gone, "names", "2 times"),
    "a time that does not pass": ("semantickitti", f"{KITTI}times.txt", same_times, "names", "time 2"),
    "no calibration": ("semantickitti", f"{KITTI}calib.txt", gone, "names", "no such file"),
    "a calibration without Tr": ("semantickitti", f"{KITTI}calib.txt", text("Tr:", "Tx:"), "names", "no line Tr"),
    "half a calibration": ("semantickitti", f"{KITTI}calib.txt", text("Tr: ", "Tr: nan "), "names", "Tr"),
    "no labels.npz": ("occ3d-nuscenes", NUSCENES, gone, "sizes", "no such file"),
    "half a labels.npz": ("occ3d-nuscenes", NUSCENES, cut, "sizes", "zip"),
    "an empty labels.npz": ("occ3d-nuscenes", NUSCENES, empty, "sizes", "zip"),
    "a flipped byte": ("occ3d-nuscenes", NUSCENES, flipped, "any", "labels.npz"),
    "no mask": ("occ3d-nuscenes", NUSCENES, array("mask_camera", lambda a: None), "sizes", "mask_camera"),
    "another shape": ("occ3d-nuscenes", NUSCENES, array("semantics", lambda a: a[:-1]), "sizes", "(199, 200, 16)"),
    "another type": ("occ3d-nuscenes", NUSCENES, array("semantics", lambda a: a.astype("f4")), "sizes", "float32"),
    "Python objects": ("occ3d-nuscenes", NUSCENES, array("semantics", lambda a: a.astype(object)), "sizes", "object"),
    "an unknown class": ("occ3d-nuscenes", NUSCENES, array("semantics", with_value(18)), "voxels", "id 18"),
    "a mask of 2": ("occ3d-nuscenes", NUSCENES, array("mask_lidar", with_value(2)), "voxels", "mask_lidar"),
    "no byte": (
        "occ3d-nuscenes",
        NUSCENES,
        array("semantics", lambda a: with_value(-1)(a.astype("i4"))),
        "voxels",
        "no byte",
    ),
    "no annotations": ("occ3d-nuscenes", "annotations.json", gone, "names", "no such file"),
    "half of the annotations": ("occ3d-nuscenes", "annotations.json", cut, "names", "JSON"),
    "deep annotations": ("occ3d-nuscenes", "annotations.json", nested_json, "names", "JSON"),
    "annotations of another kind": (
        "occ3d-nuscenes",
        "annotations.json",
        text('"scene_infos"', '"scenes"'),
        "names",
        "scene_infos",
    ),
    "a scene without annotations": (
        "occ3d-nuscenes",
        "annotations.json",
        text('{"scene-0001"', '{"scene-0002"'),
        "names",
        "scene-0001",
    ),
    "a frame less annotated": ("occ3d-nuscenes", "annotations.json", annotated(dict.popitem), "names", "2 frames are"),
    "a frame more annotated": (
        "occ3d-nuscenes",
        "annotations.json",
        annotated(lambda f: f.update({"../../x": next(iter(f.values()))})),
        "names",
        "missing",
    ),
    "an ego pose that is not finite": (
        "occ3d-nuscenes",
        "annotations.json",
        frame_with(ego_pose=NAN_POSE),
        "names",
        "ego_pose",
    ),
    "a quaternion that is none": (
        "occ3d-nuscenes",
        "annotations.json",
        frame_with(ego_pose=LONG_POSE),
        "names",
        "ego_pose",
    ),
    "no ego pose": ("occ3d-nuscenes", "annotations.json", frame_with(ego_pose=None), "names", "ego_pose"),
    "a time that is none": ("occ3d-nuscenes", "annotations.json", frame_with(timestamp="noon"), "names", "timestamp"),
    "two frames of one time": (
        "occ3d-nuscenes",
        "annotations.json",
        frame_with(timestamp="1500000"),
        "names",
        "not later",
    ),
    "no frame of a scene": ("occ3d-waymo", WAYMO, gone, "names", "missing"),
    "half a frame": ("occ3d-waymo", WAYMO, cut, "sizes", "zip"),
    "free as 15 on disk": ("occ3d-waymo", WAYMO, array("voxel_label", with_value(15)), "voxels", "id 15"),
    "no info file": ("occ3d-waymo", "waymo_infos_train.pkl", gone, "names", "no such file"),
    "half an info file": ("occ3d-waymo", "waymo_infos_train.pkl", cut, "names", "pickle"),
    "a hostile info file": ("occ3d-waymo", "waymo_infos_train.pkl", hostile, "names", "mkdir"),
    "an info of another kind": (
        "occ3d-waymo",
        "waymo_infos_train.pkl",
        infos(lambda v: [np.eye(4)]),
        "names",
        "frame 0",
    ),
    "infos as a mapping": ("occ3d-waymo", "waymo_infos_train.pkl", infos(lambda v: {0: v}), "names", "dict"),
    "a frame less": ("occ3d-waymo", "waymo_infos_train.pkl", infos(lambda v: v[1:]), "names", "000_04.npz"),
    "a frame twice": ("occ3d-waymo", "waymo_infos_train.pkl", infos(lambda v: v + v[:1]), "names", "twice"),
    "a pose with NaN": (
        "occ3d-waymo",
        "waymo_infos_train.pkl",
        infos(lambda v: v[1].update(pose=np.full((4, 4), np.nan))),
        "names",
        "frame 001",
    ),
    "a pose that is no rotation": (
        "occ3d-waymo",
        "waymo_infos_train.pkl",
        infos(lambda v: v[1].update(pose=np.diag([1.0, 1.0, -1.0, 1.0]))),
        "names",
        "pose 1",
    ),
    "no town label": ("carlasc", f"{CARLA}evaluation/000001.label", gone, "sizes", "no such file"),
    "no hit counts": ("carlasc", f"{CARLA}evaluation/000001.bin", gone, "sizes", "no such file"),
    "half the hit counts": ("carlasc", f"{CARLA}evaluation/000001.bin", cut, "sizes", "524288"),
    "a hit count below 0": ("carlasc", f"{CARLA}evaluation/000001.bin", first_value(-1, "<f4"), "voxels", "hit count"),
    "a hit count of NaN": (
        "carlasc",
        f"{CARLA}evaluation/000001.bin",
        first_value(np.nan, "<f4"),
        "voxels",
        "hit count",
    ),
    "an id above 22": ("carlasc", f"{CARLA}evaluation/000001.label", first_value(23, "<u4"), "voxels", "id 23"),
    "another grid": ("carlasc", f"{CARLA}evaluation/params.json", text("128.0", "256.0"), "names", "grid_size"),
    "no parameters": ("carlasc", f"{CARLA}evaluation/params.json", gone, "names", "no such file"),
    "broken parameters": ("carlasc", f"{CARLA}evaluation/params.json", cut, "names", "JSON"),
    "one pose too many": ("carlasc", f"{CARLA}evaluation/000002.label", both_gone, "names", "3 poses"),
    "one frame too many": ("carlasc", f"{CARLA}evaluation/000002.label", counted_on, "names", "no pose of its own"),
}


def found_at(kind: str, tree: Path) -> tuple[str, InputError]:
    """The step that refuses a tree, and how."""
    step = "names"
    try:
        source = RecordedTrees(kind, tree)
        step = "sizes"
        source.check()
        step = "voxels"
        source.generate([SceneSpec(i, 0) for i in range(source.scenes)])
    except InputError as error:
        return step, error
    return "never", InputError("", "", "")


@pytest.mark.parametrize("case", CASES)
def test_damage_is_one_line_that_names_the_file(whole: dict[str, Path], tmp_path: Path, case: str, monkeypatch) -> None:
    kind, pattern, damage, step, word = CASES[case]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole[kind], tmp_path / "tree")
    path = min((tmp_path / "tree").glob(pattern))
    damage(path)
    found, error = found_at(kind, tmp_path / "tree")
    assert found == step or (step == "any" and found != "never"), error
    assert "\n" not in str(error)
    assert str(tmp_path / "tree") in str(error)
    assert word in str(error)
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


def test_pickles_of_plain_values_come_back_whatever_their_protocol(tmp_path: Path) -> None:
    value = {
        "list": [1, 2.5, "text", None, True, (b"\xff\0", 3)],
        "arrays": [np.arange(6.0).reshape(2, 3), np.array(["a", "bc"]), np.array([], np.int32), np.eye(2)[::2]],
        "numbers": [np.float32(1.5), np.int64(-3)],
        "objects": np.array([1, "two"], object),
    }
    for protocol in (2, 3, 4):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
        found = load_plain_pickle(tmp_path / "a.pkl")
        assert found["list"] == value["list"]
        for one, other in zip(found["arrays"], value["arrays"], strict=True):
            np.testing.assert_array_equal(one, other)
        assert found["numbers"] == value["numbers"]
        assert found["objects"].tolist() == [1, "two"]


def test_pickles_that_name_anything_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    for content in (
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'a'\ntR.",
        b"",
        b"\x80\x05.",
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.pkl"):
            load_plain_pickle(path)
