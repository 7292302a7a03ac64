"""Parquet shards as others read them: plain pyarrow, nothing of this package but the writer."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporters.parquet import ParquetExporter

COLUMNS = ("mask_lidar", "mask_camera", "instances", "boxes")


@pytest.fixture
def shard(make_scene, tmp_path):
    """A shard of three scenes with every column, and the scenes."""
    scenes = [make_scene(i, frames=2 + i, columns=COLUMNS) for i in range(3)]
    path = tmp_path / "00000.parquet"
    ParquetExporter(columns=COLUMNS).write(scenes, path)
    return path, scenes


def test_the_columns_are_those_that_are_promised(shard):
    schema = pq.read_schema(shard[0])
    found = [(f.name, str(f.type).replace(" not null", "")) for f in schema]
    box = "struct<track: int32, label: uint8, center: list<element: float>, size: list<element: float>, yaw: float>"
    assert found == [
        ("scene_id", "string"),
        ("frame", "int32"),
        ("timestamp_us", "int64"),
        ("ego_to_world", "fixed_size_list<element: double>[16]"),
        ("semantics", "binary"),
        ("mask_lidar", "binary"),
        ("mask_camera", "binary"),
        ("instances", "binary"),
        ("boxes", f"list<element: {box}>"),
        ("command", "string"),
        ("trajectory", "fixed_size_list<element: double>[3]"),
        ("provenance", "string"),
    ]


def test_the_metadata_describes_the_arrays(shard):
    told = json.loads(pq.read_schema(shard[0]).metadata[b"dyncity"])
    assert told["shape"] == [8, 6, 4]
    assert (told["axes"], told["order"], told["byte_order"]) == (["x", "y", "z"], "C", "little")
    assert told["dtype"] == {"semantics": "uint8", "mask_lidar": "uint8", "mask_camera": "uint8", "instances": "uint16"}
    assert told["voxel_size"] == [0.8, 0.8, 0.8]
    np.testing.assert_allclose(told["range"], [-3.2, -2.4, -1.2, 3.2, 2.4, 2.0])
    assert (told["taxonomy"], told["free"], told["unknown"]) == ("native", 0, 255)
    assert told["classes"][:2] == ["free", "road"]
    assert (told["frame_rate"], told["anchor"]) == (5.0, None)


def test_rows_read_with_pyarrow_and_numpy_alone(shard):
    path, scenes = shard
    rows = pq.read_table(path).to_pylist()
    expected = [(s, t) for s in scenes for t in range(s.frames)]
    assert len(rows) == len(expected)
    for row, (scene, t) in zip(rows, expected, strict=True):
        assert (row["scene_id"], row["frame"]) == (scene.scene_id, t)
        assert row["timestamp_us"] == scene.timestamps_us[t]
        np.testing.assert_array_equal(np.reshape(row["ego_to_world"], (4, 4)), scene.poses[t])
        for name, dtype in (("semantics", "u1"), ("mask_lidar", "u1"), ("mask_camera", "u1"), ("instances", "<u2")):
            array = np.frombuffer(row[name], dtype).reshape(8, 6, 4)
            np.testing.assert_array_equal(array, getattr(scene, name)[t])
        assert row["command"] == scene.conditions.command
        np.testing.assert_array_equal(row["trajectory"], scene.conditions.trajectory[t])
        assert json.loads(row["provenance"]) == scene.provenance
        here = np.flatnonzero(scene.boxes.frame == t)
        assert [b["track"] for b in row["boxes"]] == scene.boxes.track[here].tolist()
        for box, k in zip(row["boxes"], here, strict=True):
            np.testing.assert_array_equal(np.float32(box["center"]), scene.boxes.center[k])
            np.testing.assert_array_equal(np.float32(box["size"]), scene.boxes.size[k])
            assert (box["label"], np.float32(box["yaw"])) == (scene.boxes.label[k], scene.boxes.yaw[k])


def test_labels_and_free_are_those_of_the_label_space(make_scene, tmp_path):
    scene = make_scene(0)
    ParquetExporter(labels="occ3d-nuscenes").write([scene], tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    told = json.loads(table.schema.metadata[b"dyncity"])
    assert (told["taxonomy"], told["free"], len(told["classes"])) == ("occ3d-nuscenes", 17, 18)
    ids = np.frombuffer(table["semantics"][0].as_py(), np.uint8).reshape(8, 6, 4)
    np.testing.assert_array_equal(ids == 17, scene.semantics[0] == 0)
    np.testing.assert_array_equal(ids == 255, scene.semantics[0] == 255)


def test_scenes_without_conditions_have_nulls(make_scene, tmp_path):
    from dyncity.conditions import Conditions

    scenes = [make_scene(0, conditions=Conditions()), make_scene(1)]
    ParquetExporter().write(scenes, tmp_path / "s.parquet")
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [r["command"] is None for r in rows] == [True] * 4 + [False] * 4
    assert [r["trajectory"] is None for r in rows] == [True] * 4 + [False] * 4


def test_pages_are_compressed_and_carry_checksums(shard):
    """A flipped byte in the data is an error of any reader that checks pages."""
    path, _ = shard
    group = pq.ParquetFile(path).metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}
    column = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "semantics")
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"CRC|corrupt|decompress"):
        pq.read_table(path, page_checksum_verification=True)


def test_no_row_group_ends_inside_a_scene(make_scene, tmp_path):
    from dyncity.grid import GridSpec

    grid = GridSpec((64, 64, 16), (0.4, 0.4, 0.4), (0.0, 0.0, 0.0), 5.0)
    scenes = [make_scene(i, 30, grid) for i in range(5)]
    ParquetExporter().write(scenes, tmp_path / "s.parquet")
    file = pq.ParquetFile(tmp_path / "s.parquet")
    groups = [file.read_row_group(i, ["scene_id"])["scene_id"].to_pylist() for i in range(file.num_row_groups)]
    assert len(groups) > 1
    assert [sorted(set(g)) for g in groups] == [["scene-000000", "scene-000001"], ["scene-000002", "scene-000003"],
                                                ["scene-000004"]]  # fmt: skip


def test_the_same_scenes_give_the_same_bytes(make_scene, tmp_path):
    for name in ("a", "b"):
        scenes = (make_scene(i, columns=COLUMNS) for i in range(4))
        ParquetExporter(columns=COLUMNS[::-1] if name == "b" else COLUMNS).write(scenes, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_it_reads_as_a_data_set_with_filters(shard):
    """What Ray Data and other readers of folders do: pyarrow.dataset over the files."""
    import pyarrow.dataset as ds

    table = ds.dataset(shard[0].parent, format="parquet").to_table(
        columns=["scene_id", "frame", "semantics"], filter=pa.compute.field("frame") == 1
    )
    assert table["scene_id"].to_pylist() == [s.scene_id for s in shard[1]]
