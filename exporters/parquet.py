"""Parquet shards: one row a frame, whole scenes in a row group, opens without this package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dyncity.datasets.layout import (
    METADATA_KEY,
    VOXEL_DTYPES,
    ShardLayout,
    check_columns,
    check_scene,
    layout_json,
    layout_of,
    provenance_json,
)
from dyncity.datasets.layout_maps import given_byte, pack_maps
from dyncity.datasets.parquet_shard import parquet_schema
from dyncity.errors import InputError
from dyncity.scene import Boxes, OccupancyScene
from exporters.labels import check_labels, to_labels
from exporters.tracks_from_voxels import with_columns

# A row group is decoded as a whole to read one of its scenes: 4 MB of voxels keep that at milliseconds.
ROW_GROUP_BYTES = 4 * 2**20
# Every setting that decides bytes. ``benchmarks/export.py`` measures them beside others.
WRITER: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["scene_id", "command", "provenance"],
    "write_statistics": ["scene_id", "frame"],
    "write_page_checksum": True,
    "data_page_size": 2**20,
    "data_page_version": "1.0",
}


class ParquetExporter:
    """Writes a shard as one Parquet file (``docs/corpus-format.md``).

    Args:
        labels: the label space of the shard; "native" leaves scenes in the one they are in.
        columns: optional columns to write: mask_lidar, mask_camera, instances, boxes.

    Raises:
        InputError: an unknown label space or column.
    """

    container = "parquet"

    def __init__(self, labels: str = "native", columns: tuple[str, ...] = ()) -> None:
        self.labels = check_labels(labels)
        self.columns = check_columns(columns)

    def shard_name(self, shard: int) -> str:
        """``00007.parquet`` for shard 7."""
        return f"{shard:05d}.parquet"

    def write(self, scenes: Iterable[OccupancyScene], path: Path) -> None:
        """Write the scenes to the new file ``path``, holding one row group of them at a time.

        Raises:
            InputError: no scene at all, scenes of different grids, label spaces or anchors, a name
                given twice, a column that a scene does not have.
            OSError: the file system refuses.
        """
        layout: ShardLayout | None = None
        writer: pq.ParquetWriter | None = None
        names: set[str] = set()
        tables: list[pa.Table] = []
        with open(path, "xb") as sink:
            try:
                for scene in scenes:
                    scene = to_labels(with_columns(scene, self.columns), self.labels)
                    if layout is None:
                        layout = layout_of(scene, self.columns)
                        schema = parquet_schema(layout.columns, layout.maps_grid is not None, layout.turned)
                        schema = schema.with_metadata({METADATA_KEY: layout_json(layout).encode()})
                        writer = pq.ParquetWriter(sink, schema, **WRITER)
                    check_scene(scene, layout)
                    if scene.scene_id in names:
                        raise InputError(f"scene {scene.scene_id}", "its name is given twice", "name scenes apart")
                    names.add(scene.scene_id)
                    rows = sum(t.num_rows for t in tables)
                    if tables and (rows + scene.frames) * layout.frame_bytes > ROW_GROUP_BYTES:
                        _flush(writer, tables)
                    tables.append(_table(scene, layout, schema))
                if writer is None:
                    raise InputError(path, "there is no scene to write", "write at least one")
                _flush(writer, tables)
            finally:
                if writer is not None:
                    writer.close()


def _flush(writer: pq.ParquetWriter, tables: list[pa.Table]) -> None:
    """Write the scenes gathered so far as one row group."""
    table = pa.concat_tables(tables)
    writer.write_table(table, row_group_size=table.num_rows)
    tables.clear()


def scene_table(scene: OccupancyScene, columns: tuple[str, ...] = ()) -> pa.Table:
    """The rows of one scene, without what a shard says of itself."""
    layout = layout_of(scene, columns)
    return _table(scene, layout, parquet_schema(layout.columns, turned=layout.turned))


def _table(scene: OccupancyScene, layout: ShardLayout, schema: pa.Schema) -> pa.Table:
    """The rows of one scene."""
    frames, conditions = scene.frames, scene.conditions
    values: dict[str, Any] = {
        "scene_id": [scene.scene_id] * frames,
        "frame": _plain(np.arange(frames), pa.int32(), np.int32),
        "timestamp_us": _plain(scene.timestamps_us, pa.int64(), np.int64),
        "ego_to_world": _fixed(scene.poses.reshape(frames, 16)),
        "command": [conditions.command] * frames,
        "trajectory": pa.nulls(frames, schema.field("trajectory").type)
        if conditions.trajectory is None
        else _fixed(conditions.trajectory),
        "provenance": [provenance_json(scene)] * frames,
    }
    for name in layout.voxel_columns:
        values[name] = _binary(np.ascontiguousarray(getattr(scene, name), VOXEL_DTYPES[name]))
    if layout.turned:
        values["grid_yaw"] = [conditions.grid_yaw] * frames
    if layout.maps_grid is not None:
        asked = conditions.layout
        values["layout"] = pa.nulls(frames, pa.binary()) if asked is None else _binary(pack_maps(asked))
        values["layout_given"] = [None if asked is None else given_byte(asked)] * frames
    if "boxes" in layout.columns and scene.boxes is not None:
        values["boxes"] = _box_lists(scene.boxes, frames)
    arrays = [v if isinstance(v := values[f.name], pa.Array) else pa.array(v, f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _plain(values: NDArray[Any], kind: pa.DataType, dtype: type) -> pa.Array:
    """Numbers as an Arrow array, straight from memory (``pa.array`` would import pandas: a second)."""
    data: NDArray[Any] = np.ascontiguousarray(values, dtype)
    return pa.Array.from_buffers(kind, data.size, [None, pa.py_buffer(data)])


def _fixed(rows: NDArray[Any]) -> pa.FixedSizeListArray:
    """``[t, n]`` as one fixed-size list a row."""
    return pa.FixedSizeListArray.from_arrays(_plain(rows, pa.float64(), np.float64), rows.shape[1])


def _binary(array: NDArray[Any]) -> pa.Array:
    """``[t, ...]`` as one binary value a frame, without a copy."""
    size = array.nbytes // len(array)
    offsets = np.arange(len(array) + 1, dtype=np.int64) * size
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(array), [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(array)]
    )


def _box_lists(boxes: Boxes, frames: int) -> list[list[dict[str, Any]]]:
    """The boxes of each frame as a list of structs."""
    lists: list[list[dict[str, Any]]] = [[] for _ in range(frames)]
    for k, frame in enumerate(boxes.frame.tolist()):
        lists[frame].append(
            {
                "track": boxes.track[k],
                "label": boxes.label[k],
                "center": boxes.center[k],
                "size": boxes.size[k],
                "yaw": boxes.yaw[k],
            }
        )
    return lists
