"""NumPy shards as others read them: numpy.load(allow_pickle=False), nothing of this package but the writer."""

from __future__ import annotations

import hashlib
import json
import zipfile

import numpy as np
import pytest

from dyncity.conditions import Conditions
from exporters.numpy import NumpyExporter

COLUMNS = ("mask_lidar", "mask_camera", "instances", "boxes")


@pytest.fixture
def shard(make_scene, tmp_path):
    """A shard of three scenes with every column, and the scenes."""
    scenes = [make_scene(i, frames=2 + i, columns=COLUMNS) for i in range(3)]
    NumpyExporter(columns=COLUMNS).write(scenes, tmp_path / "00000")
    return tmp_path / "00000", scenes


def test_arrays_read_with_numpy_alone(shard):
    path, scenes = shard
    assert sorted(p.name for p in path.iterdir()) == [f"{s.scene_id}.npz" for s in scenes]
    for scene in scenes:
        with np.load(path / f"{scene.scene_id}.npz", allow_pickle=False) as npz:
            for name in ("semantics", "mask_lidar", "mask_camera", "instances"):
                assert npz[name].dtype == getattr(scene, name).dtype
                np.testing.assert_array_equal(npz[name], getattr(scene, name))
            np.testing.assert_array_equal(npz["ego_to_world"], scene.poses)
            np.testing.assert_array_equal(npz["timestamp_us"], scene.timestamps_us)
            np.testing.assert_array_equal(npz["frame"], np.arange(scene.frames))
            np.testing.assert_array_equal(npz["trajectory"], scene.conditions.trajectory)
            assert str(npz["command"]) == scene.conditions.command
            assert str(npz["scene_id"]) == scene.scene_id
            assert json.loads(str(npz["provenance"])) == scene.provenance
            told = json.loads(str(npz["meta"]))
            for name in ("frame", "track", "label", "center", "size", "yaw"):
                np.testing.assert_array_equal(npz[f"boxes_{name}"], getattr(scene.boxes, name))
        assert (told["shape"], told["free"], told["unknown"]) == ([8, 6, 4], 0, 255)


def test_scenes_without_conditions_have_no_such_arrays(make_scene, tmp_path):
    NumpyExporter().write([make_scene(0, conditions=Conditions())], tmp_path / "s")
    with np.load(tmp_path / "s/scene-000000.npz") as npz:
        assert set(npz.files) == {
            "meta", "scene_id", "frame", "timestamp_us", "ego_to_world", "semantics", "provenance"
        }  # fmt: skip


def test_the_same_scenes_give_the_same_bytes_without_times(make_scene, tmp_path):
    for name in ("a", "b"):
        NumpyExporter(columns=COLUMNS).write((make_scene(i, columns=COLUMNS) for i in range(2)), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert {i.date_time for i in zipfile.ZipFile(path).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_digest_of_a_folder_is_that_of_the_listing_of_sha256sum(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(i) for i in range(2)], "numpy")
    files = sorted((folder / "shards/00000").iterdir())
    listing = "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files)
    record = json.loads((folder / "manifest.json").read_text())["shards"][0]
    assert record["sha256"] == hashlib.sha256(listing.encode()).hexdigest()
    assert record["bytes"] == sum(f.stat().st_size for f in files)
