"""Reading one Parquet shard: which scenes are where, and the scenes of a row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dyncity.conditions import Conditions, Layout
from dyncity.datasets.layout import (
    METADATA_KEY,
    VOXEL_DTYPES,
    ShardLayout,
    check_frames,
    check_scene_id,
    read_layout,
    read_provenance,
)
from dyncity.datasets.layout_maps import unpack_layout
from dyncity.datasets.parquet_footer import row_groups
from dyncity.datasets.parquet_pages import MAX_PAGE_BYTES, check_pages
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.scene import Boxes, OccupancyScene

# What a row may hold besides voxels: names, poses, provenance, some thousand boxes.
_MAX_OTHER_BYTES = 2**18
# A row group of up to the first is decoded at once, so that a scene that fills it need not be copied.
_WHOLE_BYTES = 64 * 2**20
_BATCH_BYTES = 4 * 2**20
_EXPANDED_BYTES = 64 * 2**20


def parquet_schema(columns: tuple[str, ...], layouts: bool = False, turned: bool = False) -> pa.Schema:
    """The columns of a Parquet shard, one row a frame, with the optional ``columns``, ``grid_yaw`` and layouts."""
    vector = pa.list_(pa.field("element", pa.float32(), nullable=False))
    box = pa.struct(
        [
            pa.field("track", pa.int32(), nullable=False),
            pa.field("label", pa.uint8(), nullable=False),
            pa.field("center", vector, nullable=False),
            pa.field("size", vector, nullable=False),
            pa.field("yaw", pa.float32(), nullable=False),
        ]
    )
    optional = {
        "mask_lidar": pa.binary(),
        "mask_camera": pa.binary(),
        "instances": pa.binary(),
        "boxes": pa.list_(pa.field("element", box, nullable=False)),
    }
    return pa.schema(
        [
            pa.field("scene_id", pa.string(), nullable=False),
            pa.field("frame", pa.int32(), nullable=False),
            pa.field("timestamp_us", pa.int64(), nullable=False),
            pa.field("ego_to_world", pa.list_(pa.float64(), 16), nullable=False),
            pa.field("semantics", pa.binary(), nullable=False),
            *(pa.field(name, optional[name], nullable=False) for name in columns),
            pa.field("command", pa.string()),
            pa.field("trajectory", pa.list_(pa.float64(), 3)),
            *([pa.field("grid_yaw", pa.float64())] if turned else []),
            *([pa.field("layout", pa.binary()), pa.field("layout_given", pa.uint8())] if layouts else []),
            pa.field("provenance", pa.string(), nullable=False),
        ]
    )


class ParquetShard:
    """One open Parquet shard. A group is a row group: whole scenes, read together.

    Raises:
        InputError: (by every method) damage, or contents that are not what the shard declares.
    """

    def __init__(self, path: Path | ObjectPath) -> None:
        self.path = path
        self._dictionary: dict[int, int] = {}  # of groups whose pages were checked, the bytes of the largest one
        with self._damage():
            source = path.open() if isinstance(path, ObjectPath) else path
            self._file = pq.ParquetFile(source, page_checksum_verification=True, memory_map=False)
            schema = self._file.schema_arrow
            with self._opened() as file:
                self._groups = row_groups(file)
            leaves = [self._file.schema.column(i).path for i in range(len(self._file.schema))]
            if any([chunk.name for chunk in group.chunks] != leaves for group in self._groups):
                raise ValueError("a row group has other columns than the schema")
        metadata = schema.metadata or {}
        if METADATA_KEY not in metadata:
            raise InputError(path, "its metadata does not describe a grid", "give a corpus that dyncity wrote")
        self.layout: ShardLayout = read_layout(metadata[METADATA_KEY], str(path))
        turned = "grid_yaw" in schema.names
        self.layout = replace(self.layout, turned=turned)
        expected = parquet_schema(self.layout.columns, self.layout.maps_grid is not None, turned)
        if not schema.remove_metadata().equals(expected):
            raise InputError(path, "its columns are not those of a corpus", "restore the file")

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Whatever goes wrong while reading is bad input, named by the file."""
        try:
            yield
        except InputError as error:
            if str(self.path) in error.where:
                raise
            raise InputError(f"{self.path}, {error.where}", error.found, "restore or remake the shard") from None
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise InputError(self.path, f"it is damaged ({error})"[:300], "restore or remake the shard") from None

    def index(self) -> list[tuple[str, int, int]]:
        """(scene id, group, frames) of every scene in order, from the id column alone."""
        entries: list[tuple[str, int, int]] = []
        for group in range(len(self._groups)):
            self._check_group(group)
            ids = [i for rows in self._rows(group, ["scene_id"]) for i in rows.column(0).to_pylist()]
            for k, scene_id in enumerate(ids):
                if k and scene_id == ids[k - 1]:
                    entries[-1] = (scene_id, group, entries[-1][2] + 1)
                else:
                    entries.append((check_scene_id(scene_id, str(self.path)), group, 1))
        return entries

    def read(self, group: int) -> Iterator[OccupancyScene]:
        """The scenes of a row group, one at a time; voxels of a scene that fills it are where they were decoded to."""
        self._check_group(group)
        gathered: list[pa.RecordBatch] = []
        last = None
        for rows in self._rows(group, None):
            ids, start = rows.column("scene_id").to_pylist(), 0
            for k, scene_id in enumerate(ids):
                if (gathered or k) and scene_id != last:
                    if k > start:
                        gathered.append(rows.slice(start, k - start))
                    yield self._scene(gathered)
                    gathered, start = [], k
                last = scene_id
            gathered.append(rows.slice(start))
        if gathered:
            yield self._scene(gathered)

    def _rows(self, group: int, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """The rows of a group, a few MB at a time; every voxel column is checked before it is used."""
        frame_bytes = self.layout.frame_bytes + self.layout.packed_bytes if columns is None else 64
        count = self._groups[group].rows
        if count * frame_bytes > _WHOLE_BYTES:
            count = _BATCH_BYTES // frame_bytes
        most = _EXPANDED_BYTES // self._dictionary.get(group, 1)  # each row may repeat the largest value
        batches = self._file.iter_batches(
            max(1, min(most, count)), row_groups=[group], columns=columns, use_threads=False
        )
        with self._damage():
            for rows in batches:
                yield from [rows] if rows.num_rows else []

    def _check_group(self, group: int) -> None:
        """Compare what a row group declares with the declared grid, before anything is decoded."""
        found, voxels = self._groups[group], self.layout.grid.voxels
        rows, sizes = found.rows, {chunk.name: chunk.size for chunk in found.chunks}
        check_frames(rows, self.layout, str(self.path))
        for name, size in sizes.items():
            least = rows * voxels * VOXEL_DTYPES[name].itemsize if name in VOXEL_DTYPES else 0
            slack = 64 * rows + 2**16 + least // 256 if least else rows * _MAX_OTHER_BYTES + 2**16
            if name == "layout":
                slack = rows * (self.layout.packed_bytes + 64) + 2**16
            if not least <= size <= least + slack:
                raise InputError(
                    self.path,
                    f"column {name} holds {size} bytes for {rows} frames of {voxels} voxels",
                    "restore the file",
                )
        if group not in self._dictionary:
            with self._damage(), self._opened() as file:
                self._dictionary[group] = max(1, check_pages(file, found, lambda name: _page_bytes(name, sizes)))

    def _opened(self) -> BinaryIO:
        return self.path.buffered() if isinstance(self.path, ObjectPath) else open(self.path, "rb")

    def _voxels(self, name: str, batches: list[pa.RecordBatch], frames: int) -> NDArray[Any]:
        """A voxel column of one scene, ``[t, x, y, z]``."""
        dtype, shape = VOXEL_DTYPES[name], (frames, *self.layout.grid.shape)
        parts = [self._values(name, batch) for batch in batches]
        whole = len(parts) == 1 and parts[0].nbytes == batches[0].column(name).buffers()[2].size
        if whole and parts[0].flags.writeable:  # a part of a larger buffer would keep all of it in memory
            return parts[0].reshape(shape).astype(dtype.newbyteorder("="), copy=False)
        array, done = np.empty(shape, dtype.newbyteorder("=")), 0
        flat = array.reshape(-1)
        for part in parts:
            flat[done : done + len(part)] = part
            done += len(part)
        return array

    def _values(self, name: str, batch: pa.RecordBatch) -> NDArray[Any]:
        """The values of a voxel column in some rows, where they were decoded to; each row has to have all of them."""
        dtype, column = VOXEL_DTYPES[name], batch.column(name)
        item = self.layout.grid.voxels * dtype.itemsize
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
        if column.null_count or (np.diff(offsets) != item).any():
            raise InputError(self.path, f"a frame's {name} does not have {item} bytes", "restore the file")
        return np.frombuffer(memoryview(column.buffers()[2])[int(offsets[0]) : int(offsets[-1])], dtype)

    def _scene(self, batches: list[pa.RecordBatch]) -> OccupancyScene:
        """One scene from its rows."""
        with self._damage():
            small = pa.Table.from_batches(batches).drop_columns(list(self.layout.voxel_columns))
            small = small.combine_chunks()
            frames = small.num_rows
            if small.column("frame").to_pylist() != list(range(frames)):
                raise InputError(self.path, "the frames of a scene are not 0, 1, 2 ...", "restore the file")
            layout = self.layout
            voxels = {name: self._voxels(name, batches, frames) for name in layout.voxel_columns}
            poses, trajectory = _numbers(small.column("ego_to_world")), small.column("trajectory")
            scene_id = check_scene_id(small.column("scene_id")[0].as_py(), str(self.path))
            return OccupancyScene(
                scene_id=scene_id,
                poses=poses.reshape(frames, 4, 4),
                grid=layout.grid,
                taxonomy=layout.taxonomy,
                timestamps_us=small.column("timestamp_us").to_numpy().astype(np.int64),
                conditions=Conditions(
                    small.column("command")[0].as_py(),
                    None if trajectory.null_count else _numbers(trajectory).reshape(frames, 3),
                    self._maps(small),
                    grid_yaw=self._grid_yaw(small),
                ),
                anchor=layout.anchor,
                boxes=_boxes(small.column("boxes").to_pylist()) if "boxes" in layout.columns else None,
                provenance=read_provenance(small.column("provenance")[0].as_py(), str(self.path)),
                **voxels,
            )

    def _grid_yaw(self, rows: pa.Table) -> float | None:
        """The ``grid_yaw`` of one scene from its rows."""
        found = set(rows.column("grid_yaw").to_pylist()) if self.layout.turned else {None}
        if len(found) != 1:
            raise InputError(self.path, "the grid_yaw of a scene differs from frame to frame", "restore the file")
        return found.pop()

    def _maps(self, rows: pa.Table) -> Layout | None:
        """The layout of one scene from its rows, or None where it has none."""
        grid = self.layout.maps_grid
        if grid is None:
            return None
        packed, given = rows.column("layout").to_pylist(), set(rows.column("layout_given").to_pylist())
        if given == {None} and all(row is None for row in packed):
            return None
        if len(given) != 1 or None in given or None in packed:
            raise InputError(self.path, "a scene has a layout in some of its frames only", "restore the file")
        if any(len(row) != self.layout.packed_bytes for row in packed):
            found = f"a frame's layout does not have {self.layout.packed_bytes} bytes"
            raise InputError(self.path, found, "restore the file")
        values = np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), -1)
        return unpack_layout(values, given.pop(), grid, self.layout.maps_anchor)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """All numbers of a column of fixed-size lists, in an array of its own; NaN for a null among them."""
    return np.array(column.combine_chunks().flatten().to_numpy(zero_copy_only=False), np.float64)


def _page_bytes(name: str, sizes: dict[str, int]) -> int:
    """What a page of a column may inflate to: voxels and layouts the whole column, whose size was checked."""
    return sizes[name] if name in VOXEL_DTYPES or name == "layout" else min(sizes[name], MAX_PAGE_BYTES)


def _boxes(rows: list[list[dict[str, Any]]]) -> Boxes:
    """Boxes from one list of structs a frame."""
    flat = [(frame, box) for frame, boxes in enumerate(rows) for box in boxes]
    return Boxes(
        frame=np.array([frame for frame, _ in flat], np.int32),
        track=np.array([box["track"] for _, box in flat], np.int32),
        label=np.array([box["label"] for _, box in flat], np.uint8),
        center=np.array([box["center"] for _, box in flat], np.float32).reshape(-1, 3),
        size=np.array([box["size"] for _, box in flat], np.float32).reshape(-1, 3),
        yaw=np.array([box["yaw"] for _, box in flat], np.float32),
    )
