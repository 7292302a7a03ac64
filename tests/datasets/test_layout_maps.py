"""The maps of layouts in shards: what was asked comes back from both containers, and nothing made up gets through."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyncity.conditions import Conditions, Layout
from dyncity.datasets.corpus import open_corpus, open_shard
from dyncity.datasets.layout_maps import given_byte, pack_maps, packed_bytes, unpack_layout
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter

MakeScene = Callable[..., OccupancyScene]
CONTAINERS = ("parquet", "numpy")


def grid_of(x: int, y: int) -> GridSpec:
    return GridSpec((x, y, 2), (0.5, 0.4, 1.0), (-1.5, 0.25, -1.0), 5.0)


def random_layout(seed: int, frames: int, x: int = 5, y: int = 3, anchor: int | None = 0) -> Layout:
    rng = np.random.default_rng(seed)
    return Layout(rng.random((6, frames, x, y)) < 0.4, rng.random(6) < 0.6, grid_of(x, y), anchor)


def assert_same(found: Layout | None, asked: Layout | None) -> None:
    """Two layouts ask for the same; maps that ask for nothing are zero."""
    if asked is None or found is None:
        assert found is asked
        return
    np.testing.assert_array_equal(found.maps, asked.maps & asked.given[:, None, None, None])
    np.testing.assert_array_equal(found.given, asked.given)
    assert (found.grid, found.anchor) == (asked.grid, asked.anchor)


@given(frames=st.integers(1, 5), x=st.integers(1, 9), y=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_what_is_packed_is_unpacked(frames: int, x: int, y: int, seed: int) -> None:
    asked = random_layout(seed, frames, x, y)
    rows = pack_maps(asked)
    assert rows.shape == (frames, packed_bytes(grid_of(x, y)))
    assert asked.grid is not None
    assert_same(unpack_layout(rows, given_byte(asked), asked.grid, 0), asked)


@pytest.mark.parametrize("container", CONTAINERS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_was_written_comes_back(
    make_scene: MakeScene, write_corpus: Callable[..., Path], container: str, data: st.DataObject
) -> None:
    """Any size, any anchor, any scenes without one after the first of a shard."""
    x, y = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    anchor = data.draw(st.sampled_from([None, 0]))
    scenes = []
    for seed in range(data.draw(st.integers(1, 4))):
        frames = data.draw(st.integers(1, 4))
        has = seed % 2 == 0 or data.draw(st.booleans())
        layout = random_layout(seed, frames, x, y, anchor) if has else None
        scenes.append(make_scene(seed, frames, conditions=Conditions("left", layout=layout)))
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus(write_corpus(Path(folder) / "c", scenes, container))
        for found, expected in zip(corpus.scenes(), scenes, strict=True):
            assert_same(found.conditions.layout, expected.conditions.layout)
            np.testing.assert_array_equal(found.semantics, expected.semantics)
            assert found.conditions.command == "left"


@pytest.mark.parametrize("container", CONTAINERS)
def test_shards_with_and_without_layouts_are_one_corpus(
    make_scene: MakeScene, write_corpus: Callable[..., Path], tmp_path: Path, container: str
) -> None:
    asked = random_layout(0, 4)
    scenes = [make_scene(0), make_scene(1, conditions=Conditions(layout=asked)), make_scene(2)]
    corpus = open_corpus(write_corpus(tmp_path / "c", scenes, container, per_shard=1))
    found = [scene.conditions.layout for scene in corpus.scenes()]
    assert found[0] is None
    assert_same(found[1], asked)
    assert found[2] is None
    assert open_shard(corpus.folder, corpus.manifest.shards[0]).layout.maps_grid is None


def test_what_a_shard_cannot_hold_is_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    def scene(seed: int, layout: Layout | None) -> OccupancyScene:
        return make_scene(seed, conditions=Conditions(layout=layout))

    asked = random_layout(0, 4)
    cases = {
        "does not say where it lies": [scene(0, Layout(asked.maps, asked.given))],
        "has 3 frames, the scene 4": [scene(0, random_layout(0, 3))],
        "lies elsewhere": [scene(0, asked), scene(1, random_layout(1, 4, anchor=None))],
        "first scene of the shard": [scene(0, None), scene(1, asked)],
    }
    for number, (message, scenes) in enumerate(cases.items()):
        for exporter in (ParquetExporter(), NumpyExporter()):
            with pytest.raises(InputError, match=message):
                exporter.write(scenes, tmp_path / f"{number}-{exporter.container}")


def changed(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


LAST = 12  # 6 maps of 5 x 3 columns are 90 bits: the last byte has six to spare
BAD = {
    "a layout in some frames": lambda rows, given: ([None, *rows[1:]], given),
    "no word on what is asked": lambda rows, given: (rows, [None] * len(given)),
    "another answer in a frame": lambda rows, given: (rows, [given[0] ^ 1, *given[1:]]),
    "too few bytes": lambda rows, given: ([row[:-1] for row in rows], given),
    "too many bytes": lambda rows, given: ([row + b"\0" for row in rows], given),
    "a zero bomb": lambda rows, given: ([bytes(2**26)] * len(rows), given),
    "a class that there is not": lambda rows, given: (rows, [given[0] | 64] * len(given)),
    "bits of a map that asks for nothing": lambda rows, given: ([b"\xff" * 11 + b"\xc0"] * len(rows), [1] * len(given)),
    "bits beyond the maps": lambda rows, given: ([row[:-1] + bytes([row[-1] | 1]) for row in rows], given),
}


@pytest.mark.parametrize("name", BAD)
def test_a_made_up_layout_is_refused_in_bounded_memory(make_scene: MakeScene, tmp_path: Path, name: str) -> None:
    from dyncity.datasets.parquet_shard import ParquetShard

    path = tmp_path / "00000.parquet"
    ParquetExporter().write([make_scene(0, conditions=Conditions(layout=random_layout(3, 4)))], path)
    table = pq.read_table(path)
    rows, given = BAD[name](table["layout"].to_pylist(), table["layout_given"].to_pylist())
    assert len(table["layout"][0].as_py()) == LAST
    table = changed(changed(table, "layout", rows), "layout_given", given)
    pq.write_table(table, path, compression="zstd", use_dictionary=["scene_id", "command", "provenance"])
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(InputError, match=r"00000\.parquet"):
            list(ParquetShard(path).read(0))
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 2**23


@pytest.mark.parametrize(
    "change",
    [
        {"layout_given": None},
        {"layout": None},
        {"layout": np.zeros((4, 13), np.uint8)},
        {"layout": np.zeros((3, 12), np.uint8)},
        {"layout_given": np.array(255, "u1")},
        {"layout_given": np.array(1, "i8")},
    ],
    ids=["not what is asked", "no maps", "longer rows", "fewer rows", "unknown classes", "another type"],
)
def test_a_made_up_npz_is_refused(make_scene: MakeScene, tmp_path: Path, change: dict[str, Any]) -> None:
    from dyncity.datasets.npz_shard import NpzShard

    NumpyExporter().write([make_scene(0, conditions=Conditions(layout=random_layout(3, 4)))], tmp_path / "00000")
    path = tmp_path / "00000/scene-000000.npz"
    with np.load(path) as npz:
        arrays = {name: npz[name] for name in npz.files} | change
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(InputError, match=r"scene-000000\.npz"):
        list(NpzShard(path.parent).read(0))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**15, 2**15, 1]},
        {"shape": [2**30, 2**30, 2**30]},
        {"shape": [0, 3, 2]},
        {"shape": [5, 4, 2]},
        {"anchor": -1},
        {"anchor": 4},
        {"anchor": True},
        {"classes": ["road"]},
        {"voxel_size": [0.5, 0.4]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_made_up_description_is_refused(make_scene: MakeScene, tmp_path: Path, change: dict[str, Any]) -> None:
    import json

    from dyncity.datasets.parquet_shard import ParquetShard

    path = tmp_path / "00000.parquet"
    ParquetExporter().write([make_scene(0, conditions=Conditions(layout=random_layout(3, 4)))], path)
    table = pq.read_table(path)
    told = json.loads(table.schema.metadata[b"dyncity"])
    told["layout"] |= change
    table = table.replace_schema_metadata({b"dyncity": json.dumps(told).encode()})
    pq.write_table(table, path, compression="zstd", use_dictionary=["scene_id", "command", "provenance"])
    with pytest.raises(InputError, match=r"00000\.parquet"):
        list(ParquetShard(path).read(0))
