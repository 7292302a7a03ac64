"""Damaged Argoverse 2 logs: one line that names the file, whatever is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from argoverse2_log import START_NS, Car, Drive

from dyncity.datasets.argoverse2.log import Log
from dyncity.datasets.argoverse2.voxelise import read_world
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.presets import preset

GRID = preset("tiny").grid
POSES = "city_SE3_egovehicle.feather"
BOXES = "annotations.feather"
SWEEP = f"sensors/lidar/{START_NS}.feather"
HEIGHT, SIMILARITY, VECTOR = "map/*.npy", "map/*Sim2*.json", "map/log_map_archive*.json"

Damage = Callable[[Path], None]


def replace(column: str, value: object) -> Damage:
    """Another value in the first row of a column (its type follows the value)."""

    def damage(path: Path) -> None:
        table = feather.read_table(path, memory_map=False)
        values = table[column].to_pylist()
        values[0] = value
        index = table.schema.get_field_index(column)
        feather.write_feather(table.set_column(index, column, pa.array(values)), path)

    return damage


def retype(column: str, kind: pa.DataType) -> Damage:
    def damage(path: Path) -> None:
        table = feather.read_table(path, memory_map=False)
        index = table.schema.get_field_index(column)
        feather.write_feather(table.set_column(index, column, table[column].cast(kind)), path)

    return damage


def drop(column: str) -> Damage:
    def damage(path: Path) -> None:
        feather.write_feather(feather.read_table(path, memory_map=False).drop_columns([column]), path)

    return damage


def no_rows(path: Path) -> None:
    feather.write_feather(feather.read_table(path, memory_map=False).slice(0, 0), path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    path.write_bytes(b"\x93nothing of the kind" * 40)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(content: str) -> Damage:
    return lambda path: path.write_text(content) and None


def edit(change: Callable[[dict], object]) -> Damage:
    def damage(path: Path) -> None:
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return damage


def array(values: np.ndarray) -> Damage:
    return lambda path: np.save(path, values)


def header_without_end(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',")


def declares_too_much(path: Path) -> None:
    """A header that promises 8 TB in a file of some bytes."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (1_000_000, 1_000_000)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"\0" * 100)


def repeat_rows(path: Path) -> None:
    table = feather.read_table(path, memory_map=False)
    feather.write_feather(pa.concat_tables([table, table]), path)


def late(path: Path) -> None:
    """Poses of another hour."""
    table = feather.read_table(path, memory_map=False)
    times = pa.array(table["timestamp_ns"].to_numpy() + 3_600_000_000_000)
    feather.write_feather(table.set_column(0, "timestamp_ns", times), path)


def keep(rows: list[int]) -> Damage:
    def damage(path: Path) -> None:
        feather.write_feather(feather.read_table(path, memory_map=False).take(rows), path)

    return damage


CASES: list[tuple[str, Damage]] = [
    *((file, how) for file in (POSES, BOXES, SWEEP, HEIGHT, SIMILARITY, VECTOR) for how in (truncate, scribble)),
    *((file, empty) for file in (POSES, BOXES, SWEEP, HEIGHT, SIMILARITY, VECTOR)),
    *((file, Path.unlink) for file in (POSES, BOXES, HEIGHT, SIMILARITY, VECTOR)),
    (POSES, no_rows),
    (POSES, late),
    (POSES, drop("qw")),
    (POSES, retype("tx_m", pa.string())),
    (POSES, retype("timestamp_ns", pa.string())),
    (POSES, replace("timestamp_ns", -5)),
    (POSES, replace("tx_m", float("nan"))),
    (POSES, replace("tx_m", float("inf"))),
    (POSES, replace("tx_m", None)),
    (POSES, replace("tx_m", 1e300)),
    (POSES, replace("tx_m", 9e5)),
    (POSES, replace("qw", 7.0)),
    (BOXES, no_rows),
    (BOXES, repeat_rows),
    (BOXES, keep([0, 1, 8, 9])),
    (BOXES, drop("track_uuid")),
    (BOXES, drop("timestamp_ns")),
    (BOXES, retype("length_m", pa.string())),
    (BOXES, replace("category", None)),
    (BOXES, replace("length_m", float("nan"))),
    (BOXES, replace("length_m", -4.0)),
    (BOXES, replace("height_m", 1e9)),
    (BOXES, replace("qz", float("inf"))),
    (BOXES, replace("qw", 0.0)),
    (BOXES, replace("tx_m", 1e30)),
    (SWEEP, drop("z")),
    (SWEEP, replace("x", float("nan"))),
    (SWEEP, retype("y", pa.string())),
    (SWEEP, retype("offset_ns", pa.string())),
    (HEIGHT, array(np.zeros((3, 3), object))),
    (HEIGHT, array(np.zeros(9, np.float32))),
    (HEIGHT, array(np.zeros((3, 3), np.int64))),
    (HEIGHT, array(np.zeros((0, 3), np.float32))),
    (HEIGHT, array(np.full((3, 3), np.inf, np.float32))),
    (HEIGHT, declares_too_much),
    (HEIGHT, header_without_end),
    (SIMILARITY, text("[1, 2]")),
    (SIMILARITY, edit(lambda v: v.pop("s"))),
    (SIMILARITY, edit(lambda v: v.update(s=0.0))),
    (SIMILARITY, edit(lambda v: v.update(s=float("nan")))),
    (SIMILARITY, edit(lambda v: v.update(R=[1, 0, 0]))),
    (SIMILARITY, edit(lambda v: v.update(R=["a", 0, 0, 1]))),
    (SIMILARITY, edit(lambda v: v.update(t=None))),
    (VECTOR, text("null")),
    (VECTOR, text("{" * 100_000)),
    (VECTOR, text('{"a":' * 100_000)),
    (VECTOR, edit(lambda v: v.pop("drivable_areas"))),
    (VECTOR, edit(lambda v: v.update(lane_segments=3))),
    (VECTOR, edit(lambda v: v["drivable_areas"].update(x=[1]))),
    (VECTOR, edit(lambda v: v["drivable_areas"]["3"].update(area_boundary=[{"x": 1}] * 3))),
    (VECTOR, edit(lambda v: v["drivable_areas"]["3"].update(area_boundary=[]))),
    (VECTOR, edit(lambda v: v["drivable_areas"]["3"]["area_boundary"][0].update(x=float("nan")))),
    (VECTOR, edit(lambda v: v["drivable_areas"]["3"]["area_boundary"][0].update(y=1e200))),
    (VECTOR, edit(lambda v: v["pedestrian_crossings"]["2"].pop("edge2"))),
    (VECTOR, edit(lambda v: v["lane_segments"]["1"].update(left_lane_mark_type=[]))),
]


@pytest.mark.parametrize(("pattern", "damage"), CASES)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, pattern: str, damage: Damage) -> None:
    folder = Drive(frames=5, sweeps=1, cars=[Car(10, 3), Car(5, -3, name="b")]).write(tmp_path)
    path = next(iter(sorted(folder.glob(pattern))))
    damage(path)
    with pytest.raises(InputError) as caught:
        read_world(Log(folder), GRID)
    named = path.parent if not path.exists() else path
    assert str(named if path.exists() else folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sweep_whose_name_is_no_time_is_named(tmp_path: Path) -> None:
    folder = Drive(frames=5, sweeps=1).write(tmp_path)
    (folder / SWEEP).rename(folder / "sensors/lidar/latest.feather")
    with pytest.raises(InputError, match=r"latest\.feather"):
        read_world(Log(folder), GRID)


def test_a_drive_that_needs_more_cells_than_memory_holds_is_refused(tmp_path: Path) -> None:
    """1 mm voxels over a street with sweeps: refused before anything of that size is allocated."""
    folder = Drive(frames=3, sweeps=1).write(tmp_path)
    with pytest.raises(InputError, match="larger voxels"):
        read_world(Log(folder), GridSpec((4000, 4000, 1000), (0.001, 0.001, 0.001), (0.0, 0.0, 0.0), 5.0))


@pytest.mark.parametrize("rate", [3.0, 4.0, 7.5, 20.0])
def test_a_rate_that_does_not_divide_ten_hertz_is_refused_by_its_name(tmp_path: Path, rate: float) -> None:
    folder = Drive(frames=5).write(tmp_path)
    with pytest.raises(InputError, match=r"^grid\.frame_rate: "):
        read_world(Log(folder), GridSpec(GRID.shape, GRID.voxel_size, GRID.origin, rate))
