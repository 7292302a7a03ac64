"""Layouts in shards as others read them: plain pyarrow and numpy, nothing of this package but the writer."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from dyncity.conditions import LAYOUT_CLASSES, Conditions, Layout
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter

GRID = GridSpec((10, 7, 4), (0.8, 0.8, 0.8), (-4.0, -2.8, -1.2), 5.0)
GIVEN = np.array([True, False, True, False, True, False])


@pytest.fixture
def scenes(make_scene):
    """A scene of four frames with a layout of road, building and vehicle, and one without."""
    maps = np.random.default_rng(0).random((6, 4, 10, 7)) < 0.3
    return [make_scene(0, conditions=Conditions("forward", layout=Layout(maps, GIVEN, GRID, 2))), make_scene(1)]


def test_parquet_rows_read_with_pyarrow_and_numpy_alone(scenes, tmp_path):
    ParquetExporter().write(scenes, tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    names = table.schema.names
    assert names[names.index("trajectory") :] == ["trajectory", "layout", "layout_given", "provenance"]
    assert [str(table.schema.field(name).type) for name in ("layout", "layout_given")] == ["binary", "uint8"]
    told = json.loads(table.schema.metadata[b"dyncity"])["layout"]
    assert told == {
        "classes": list(LAYOUT_CLASSES), "shape": [10, 7, 4], "voxel_size": [0.8, 0.8, 0.8],
        "origin": [-4.0, -2.8, -1.2], "anchor": 2,
    }  # fmt: skip
    rows = table.to_pylist()
    asked = scenes[0].conditions.layout
    for t, row in enumerate(rows[:4]):
        assert len(row["layout"]) == (6 * 10 * 7 + 7) // 8
        bits = np.unpackbits(np.frombuffer(row["layout"], np.uint8))
        assert not bits[6 * 10 * 7 :].any()
        maps = bits[: 6 * 10 * 7].reshape(6, 10, 7)
        np.testing.assert_array_equal(maps[GIVEN], asked.maps[GIVEN, t])
        assert not maps[~GIVEN].any()
        assert row["layout_given"] == 0b010101
    assert all(row["layout"] is None and row["layout_given"] is None for row in rows[4:])


def test_numpy_arrays_read_with_numpy_alone(scenes, tmp_path):
    NumpyExporter().write(scenes, tmp_path / "s")
    with np.load(tmp_path / "s/scene-000000.npz", allow_pickle=False) as npz:
        assert (npz["layout"].dtype, npz["layout"].shape) == (np.uint8, (4, 53))
        assert (npz["layout_given"].dtype, npz["layout_given"].shape, int(npz["layout_given"])) == (np.uint8, (), 21)
        maps = np.unpackbits(npz["layout"], axis=1)[:, :420].reshape(4, 6, 10, 7)
        np.testing.assert_array_equal(maps[:, GIVEN], scenes[0].conditions.layout.maps[GIVEN].swapaxes(0, 1))
        assert json.loads(str(npz["meta"]))["layout"]["anchor"] == 2
    with np.load(tmp_path / "s/scene-000001.npz", allow_pickle=False) as npz:
        assert not {"layout", "layout_given"} & set(npz.files)


def test_one_column_is_one_bit(make_scene, tmp_path):
    """The vehicle in column (9, 6), the last of map 4: bit 4 * 70 + 69 = 349 from the front, most significant first."""
    maps = np.zeros((6, 4, 10, 7), bool)
    maps[4, 1, 9, 6] = True
    scene = make_scene(0, conditions=Conditions(layout=Layout(maps, GIVEN, GRID, 2)))
    ParquetExporter().write([scene], tmp_path / "s.parquet")
    rows = pq.read_table(tmp_path / "s.parquet")["layout"].to_pylist()
    expected = bytearray(53)
    expected[349 // 8] = 0x80 >> 349 % 8
    assert rows == [bytes(53), bytes(expected), bytes(53), bytes(53)]


def test_shards_without_layouts_have_no_trace_of_them(make_scene, tmp_path):
    ParquetExporter().write([make_scene(0)], tmp_path / "s.parquet")
    schema = pq.read_schema(tmp_path / "s.parquet")
    assert not {"layout", "layout_given"} & set(schema.names)
    assert "layout" not in json.loads(schema.metadata[b"dyncity"])
    NumpyExporter().write([make_scene(0)], tmp_path / "s")
    with np.load(tmp_path / "s/scene-000000.npz", allow_pickle=False) as npz:
        assert "layout" not in json.loads(str(npz["meta"]))


def test_the_same_layouts_give_the_same_bytes_whatever_the_maps_that_ask_for_nothing(make_scene, tmp_path):
    maps = np.random.default_rng(1).random((6, 4, 10, 7)) < 0.3
    for name, noise in (("a", False), ("b", True)):
        told = np.where(GIVEN[:, None, None, None], maps, noise)
        scene = make_scene(0, conditions=Conditions(layout=Layout(told, GIVEN, GRID, 2)))
        ParquetExporter().write([scene], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_grid_yaw_is_a_column_where_scenes_have_one(make_scene, tmp_path):
    scenes = [make_scene(0, conditions=Conditions("left", grid_yaw=-0.25)), make_scene(1)]
    ParquetExporter().write(scenes, tmp_path / "s.parquet")
    NumpyExporter().write(scenes, tmp_path / "s")
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.names[-2:] == ["grid_yaw", "provenance"]
    assert table["grid_yaw"].to_pylist() == [-0.25] * 4 + [None] * 4
    with np.load(tmp_path / "s/scene-000000.npz", allow_pickle=False) as npz:
        assert (npz["grid_yaw"].dtype, npz["grid_yaw"].shape, float(npz["grid_yaw"])) == (np.float64, (), -0.25)
    with np.load(tmp_path / "s/scene-000001.npz", allow_pickle=False) as npz:
        assert "grid_yaw" not in npz.files
    ParquetExporter().write(scenes[1:], tmp_path / "without.parquet")
    assert "grid_yaw" not in pq.read_schema(tmp_path / "without.parquet").names
    for exporter in (ParquetExporter(), NumpyExporter()):
        with pytest.raises(InputError, match="has a grid_yaw, the first scene of the shard has none"):
            exporter.write(scenes[::-1], tmp_path / f"mixed-{exporter.container}")
