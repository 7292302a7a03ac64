"""Reading corpora: what was written comes back, and nothing hostile or damaged gets through."""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
import tracemalloc
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rewritten_manifest import rewritten

from dyncity.conditions import Conditions
from dyncity.datasets import parquet_shard
from dyncity.datasets.corpus import FailedScene, open_corpus
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from exporters.parquet import ParquetExporter

COLUMNS = ("mask_lidar", "mask_camera", "instances", "boxes")
CONTAINERS = ("parquet", "numpy")


def assert_same(found, expected, columns):
    """Two scenes agree in every field; columns that were not written are None."""
    for name in ("scene_id", "grid", "taxonomy", "anchor", "provenance", "frames"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("semantics", "poses", "timestamps_us", "mask_lidar", "mask_camera", "instances"):
        a, b = getattr(found, name), getattr(expected, name)
        if name in COLUMNS and name not in columns:
            assert a is None
        else:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)
            a.reshape(-1)[:1] = 0  # what a reader returns is the caller's to change
    assert found.conditions.command == expected.conditions.command
    if expected.conditions.trajectory is None:
        assert found.conditions.trajectory is None
    else:
        np.testing.assert_array_equal(found.conditions.trajectory, expected.conditions.trajectory)
    if "boxes" in columns:
        for name in ("frame", "track", "label", "center", "size", "yaw"):
            a, b = getattr(found.boxes, name), getattr(expected.boxes, name)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)
    else:
        assert found.boxes is None


@pytest.mark.parametrize("container", CONTAINERS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_was_written_comes_back(make_scene, write_corpus, container, data):
    """Any grid, label space, number of frames, optional columns, with or without conditions and anchor."""
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3), "shape")
    grid = GridSpec(shape, (0.4, 0.5, 0.3), (-1.5, 0.25, -3.0), data.draw(st.sampled_from([2.0, 10.0, 3.3])))
    columns = tuple(c for c in COLUMNS if data.draw(st.booleans(), c))
    labels = data.draw(st.sampled_from(["native", "occ3d-nuscenes"]))
    anchored = data.draw(st.booleans(), "anchored")
    scenes = []
    for seed in range(data.draw(st.integers(1, 5), "scenes")):
        frames = data.draw(st.integers(1, 6), "frames")
        changes = {} if data.draw(st.booleans()) else {"conditions": Conditions()}
        anchor = 0 if anchored else None
        scenes.append(make_scene(seed, frames, grid, labels, columns, anchor=anchor, **changes))
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus(write_corpus(Path(folder) / "c", scenes, container, columns=columns))
        assert corpus.scene_ids == tuple(s.scene_id for s in scenes)
        assert (corpus.grid, corpus.taxonomy, corpus.anchor) == (grid, labels, 0 if anchored else None)
        assert corpus.columns == columns
        for found, expected in zip(corpus.scenes(), scenes, strict=True):
            assert_same(found, expected, columns)
        last = scenes[-1]
        assert corpus.frames(last.scene_id) == last.frames
        assert_same(corpus.scene(last.scene_id), last, columns)


def test_scenes_that_share_a_row_group_and_batches_come_back_whole(make_scene, write_corpus, tmp_path):
    """Row groups of several scenes, scenes of several read batches, and one scene larger than a row group."""
    grid = GridSpec((64, 64, 16), (0.4, 0.4, 0.4), (0.0, 0.0, 0.0), 5.0)
    frames = (3, 40, 7, 90, 1)  # of 64 KiB each
    scenes = [make_scene(i, n, grid) for i, n in enumerate(frames)]
    folder = write_corpus(tmp_path / "c", scenes, per_shard=5)
    rows = pq.ParquetFile(folder / "shards/00000.parquet").metadata
    assert [rows.row_group(i).num_rows for i in range(rows.num_row_groups)] == [50, 90, 1]
    corpus = open_corpus(folder)
    for found, expected in zip(corpus.scenes(), scenes, strict=True):
        assert_same(found, expected, ())
    assert_same(corpus.scene("scene-000002"), scenes[2], ())


def test_a_corpus_without_a_scene_opens_with_the_grid_of_its_configuration(write_corpus, tmp_path):
    failures = (FailedScene(0, 7, "no road"),)
    corpus = open_corpus(write_corpus(tmp_path / "c", [], failures=failures))
    assert corpus.scene_ids == ()
    assert list(corpus.scenes()) == []
    assert corpus.grid == corpus.config.grid
    assert corpus.manifest.shards[0].failures == failures
    assert (corpus.manifest.requested, corpus.manifest.written, corpus.manifest.failed) == (1, 0, 1)


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_open_corpus_survives_pickling(make_scene, write_corpus, tmp_path, container):
    scenes = [make_scene(i) for i in range(3)]
    corpus = open_corpus(write_corpus(tmp_path / "c", scenes, container))
    corpus.scene("scene-000001")
    again = pickle.loads(pickle.dumps(corpus))
    np.testing.assert_array_equal(again.scene("scene-000002").semantics, scenes[2].semantics)


def test_what_is_no_corpus_is_named(make_scene, write_corpus, tmp_path):
    for folder, text in ((tmp_path / "none", "no such folder"), (tmp_path, "no manifest.json")):
        with pytest.raises(InputError, match=text):
            open_corpus(folder)
    corpus = open_corpus(write_corpus(tmp_path / "c", [make_scene(0)]))
    with pytest.raises(InputError, match="no scene 'scene-9'"):
        corpus.scene("scene-9")


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("what", ["shard", "folder"])
def test_links_are_not_followed(make_scene, write_corpus, tmp_path, container, what):
    folder = write_corpus(tmp_path / "c", [make_scene(0)], container)
    path = folder / "shards"
    if what == "shard":
        path = next(path.iterdir())
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"link|not a plain file|not a folder"):
        list(open_corpus(folder).scenes())


def test_a_linked_scene_is_refused(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(0)], "numpy")
    path = folder / "shards/00000/scene-000000.npz"
    path.rename(tmp_path / "x.npz")
    path.symlink_to(tmp_path / "x.npz")
    with pytest.raises(InputError, match="no npz"):
        list(open_corpus(folder).scenes())


@pytest.mark.parametrize("container", CONTAINERS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.013987467103876884, bit=4)  # a page that reads as empty
def test_a_flipped_bit_never_surfaces_as_another_error(make_scene, write_corpus, container, place, bit):
    """Damage is an InputError, or it touched nothing that is read."""
    scenes = [make_scene(0, columns=COLUMNS)]
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), scenes, container, columns=COLUMNS)
        path = next(p for p in (Path(folder) / "shards").rglob("0000*") if p.is_file() or container == "numpy")
        path = path if path.is_file() else next(path.iterdir())
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 1 << bit
        path.write_bytes(data)
        with suppress(InputError):
            found = list(open_corpus(Path(folder)).scenes())
            np.testing.assert_array_equal(found[0].semantics, scenes[0].semantics)


def parquet_with(folder, change):
    """Rewrite the first Parquet shard by ``change(table) -> table``, with a record that fits its size."""
    path = folder / "shards/00000.parquet"
    table = change(pq.read_table(path))
    pq.write_table(table, path, compression="zstd", use_dictionary=["scene_id", "command", "provenance"])
    rewritten(folder, lambda m: m["shards"][0].update(bytes=path.stat().st_size))


def described(table, **changes):
    """The table with other values in its description."""
    values = json.loads(table.schema.metadata[b"dyncity"]) | changes
    return table.replace_schema_metadata({b"dyncity": json.dumps(values).encode()})


def column(table, name, values, kind):
    index = table.schema.get_field_index(name)
    return table.set_column(index, pa.field(name, kind, nullable=False), pa.array(values, kind))


BAD_PARQUET = {
    "no description": lambda t: t.replace_schema_metadata({}),
    "a description that is no JSON": lambda t: t.replace_schema_metadata({b"dyncity": b"{"}),
    "a larger grid": lambda t: described(t, shape=[800, 600, 400]),
    "an absurd grid": lambda t: described(t, shape=[2**30, 2**30, 2**30]),
    "a smaller grid": lambda t: described(t, shape=[1, 1, 1]),
    "a grid of nothing": lambda t: described(t, shape=[0, 6, 4]),
    "an unknown label space": lambda t: described(t, taxonomy="mine"),
    "a label space with other classes": lambda t: described(t, classes=["free"]),
    "a column that is not there": lambda t: described(t, columns=["instances"]),
    "another version": lambda t: described(t, version=2),
    "an anchor beyond the scene": lambda t: described(t, anchor=100),
    "a missing column": lambda t: t.drop_columns(["frame"]),
    "another type": lambda t: column(t, "frame", [0.0] * len(t), pa.float64()),
    "frames out of order": lambda t: column(t, "frame", list(range(len(t)))[::-1], pa.int32()),
    "a frame too long": lambda t: column(t, "semantics", [bytes(193)] + [bytes(192)] * (len(t) - 1), pa.binary()),
    "a zero bomb": lambda t: column(t, "semantics", [bytes(2**26)] * len(t), pa.binary()),
    "a name that leads out": lambda t: column(t, "scene_id", ["../x"] * len(t), pa.string()),
    "provenance that is no JSON": lambda t: column(t, "provenance", ["x"] * len(t), pa.string()),
    "a bomb of provenance": lambda t: column(t, "provenance", [" " * 2**25] * len(t), pa.string()),
}


@pytest.mark.parametrize("name", BAD_PARQUET)
def test_a_made_up_parquet_shard_is_refused_in_bounded_memory(make_scene, write_corpus, tmp_path, name):
    folder = write_corpus(tmp_path / "c", [make_scene(0)])
    parquet_with(folder, BAD_PARQUET[name])
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(InputError, match=r"00000\.parquet"):
            list(open_corpus(folder).scenes())
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 2**23


def npz_with(folder, **arrays):
    """Rewrite the first npz with other arrays (bytes: an npy as it is; None: left out)."""
    path = next((folder / "shards/00000").iterdir())
    with np.load(path) as npz:
        kept = {name: npz[name] for name in npz.files}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in (kept | arrays).items():
            if array is None:
                continue
            if not isinstance(array, bytes):
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(array))
                array = buffer.getvalue()
            file.writestr(f"{name}.npy", array)


def test_an_npz_packed_as_numpy_packs_none_is_refused(make_scene, write_corpus, tmp_path):
    """The header of an LZMA stream may ask for gigabytes."""
    folder = write_corpus(tmp_path / "c", [make_scene(0)], "numpy")
    path = next((folder / "shards/00000").iterdir())
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        for name, data in members.items():
            file.writestr(name, data)
    with pytest.raises(InputError, match=r"scene-000000\.npz: .* method 14"):
        list(open_corpus(folder).scenes())


def npy_header(shape, kind):
    """An npy that declares a shape and holds nothing."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("unpickled",))


BAD_NPZ = {
    "a pickle": {"semantics": np.array([Bomb()], object)},
    "a pickle as a name": {"scene_id": np.array(Bomb(), object)},
    "a pickle as the description": {"meta": np.array(Bomb(), object)},
    "an array that declares 64 TB": {"semantics": npy_header((2**20, 2**13, 2**13, 1), "|u1")},
    "frames that declare 8 EB": {"frame": npy_header((2**60,), "<i8")},
    "frames that declare a million": {"frame": npy_header((2**20,), "<i4")},
    "text of 4 GB": {"scene_id": npy_header((), f"<U{2**30}")},
    "boxes without end": {"boxes_frame": npy_header((2**50,), "<i4")},
    "a header that is code": {"frame": b"\x93NUMPY\x01\x00\x10\x00" + b"__import__('os')"},
    "a header without its end": {"frame": b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': '<i4',"},
    "a header of signs": {"frame": b"\x93NUMPY\x01\x00\x10\x27" + b"-" * 9999 + b"1"},
    "another type": {"semantics": np.zeros((4, 8, 6, 4), np.int32)},
    "another shape": {"semantics": np.zeros((4, 8, 6, 5), np.uint8)},
    "Fortran order": {"semantics": np.asfortranarray(np.zeros((4, 8, 6, 4), np.uint8))},
    "another name": {"scene_id": np.array("scene-000001")},
    "a missing array": {"ego_to_world": None},
    "no description": {"meta": None},
    "too few bytes": {"timestamp_us": npy_header((4,), "<i8")},
    "poses that are not finite": {"ego_to_world": np.full((4, 4, 4), np.nan)},
    "an unknown command": {"command": np.array("fly")},
}


@pytest.mark.parametrize("name", BAD_NPZ)
def test_a_made_up_npz_is_refused_in_bounded_memory(make_scene, write_corpus, tmp_path, name, monkeypatch):
    folder = write_corpus(tmp_path / "c", [make_scene(0, columns=("boxes",))], "numpy", columns=("boxes",))
    npz_with(folder, **BAD_NPZ[name])
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"scene-000000\.npz"):
            list(open_corpus(folder).scenes())
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "unpickled").exists()


def test_shards_of_different_grids_are_not_one_corpus(make_scene, write_corpus, tmp_path):
    other = replace(make_scene(0).grid, origin=(0.0, 0.0, 0.0))
    a = write_corpus(tmp_path / "a", [make_scene(0), make_scene(1)], per_shard=1)
    b = write_corpus(tmp_path / "b", [make_scene(2, grid=other), make_scene(3, grid=other)], per_shard=1)
    os.replace(b / "shards/00001.parquet", a / "shards/00001.parquet")
    size = (a / "shards/00001.parquet").stat().st_size
    rewritten(a, lambda m: m["shards"][1].update(bytes=size))
    corpus = open_corpus(a)
    assert corpus.grid == make_scene(0).grid
    with pytest.raises(InputError, match=r"00001\.parquet.*not those of the others"):
        list(corpus.scenes())


def test_a_scene_is_the_same_whether_its_group_is_decoded_at_once_or_in_pieces(make_scene, tmp_path, monkeypatch):
    scenes = [make_scene(0, frames=5, columns=COLUMNS), make_scene(1, frames=3, columns=COLUMNS)]
    path = tmp_path / "00000.parquet"
    ParquetExporter(columns=COLUMNS).write(scenes, path)
    for whole, batch in ((2**20, 1), (0, 1), (0, 2000)):
        monkeypatch.setattr(parquet_shard, "_WHOLE_BYTES", whole)
        monkeypatch.setattr(parquet_shard, "_BATCH_BYTES", batch)
        for found, expected in zip(parquet_shard.ParquetShard(path).read(0), scenes, strict=True):
            assert_same(found, expected, COLUMNS)


def test_the_voxels_of_a_scene_that_fills_its_group_are_not_copied_and_can_be_changed(make_scene, tmp_path):
    path = tmp_path / "00000.parquet"
    ParquetExporter().write([make_scene(0)], path)
    first, second = (next(parquet_shard.ParquetShard(path).read(0)).semantics for _ in range(2))
    assert first.base is not None
    first += 1
    assert not (first == second).any()
