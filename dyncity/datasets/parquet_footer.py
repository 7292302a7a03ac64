"""What the footer of a Parquet file says of its column chunks.

``FileMetaData`` of https://github.com/apache/parquet-format. pyarrow tells it too, but where the statistics of a chunk
contradict the schema, asking it ends the process (``RowGroupMetaData.column`` of pyarrow 26: an exception of C++ that
nothing catches), and a flipped bit is enough for that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from dyncity.datasets.thrift_compact import read_struct, whole

_Kind = TypeVar("_Kind")
_TAIL = 8  # the length of the footer, and the magic number


@dataclass(frozen=True)
class Chunk:
    """A column of a row group.

    Attributes:
        name: its path in the schema, joined by dots.
        start: the place of its first page in the file.
        stored, size: bytes in the file, and of its inflated pages, headers included.
        values: how many it has, with those that are null.
    """

    name: str
    start: int
    stored: int
    size: int
    values: int


@dataclass(frozen=True)
class RowGroup:
    """Rows that are stored together, and the columns of them."""

    rows: int
    chunks: tuple[Chunk, ...]


def row_groups(file: BinaryIO) -> list[RowGroup]:
    """The row groups of a Parquet file that pyarrow has opened, so that its footer is there.

    Raises:
        ValueError: the footer is not one.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(end - _TAIL)
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(0, end - _TAIL - length))
    footer, _ = read_struct(file.read(length))
    return [_row_group(group) for group in _member(footer, 4, list)]


def _row_group(group: Any) -> RowGroup:
    return RowGroup(whole(group, 3), tuple(map(_chunk, _member(group, 1, list))))


def _chunk(chunk: Any) -> Chunk:
    meta = _member(chunk, 3, dict)
    pages, dictionary = whole(meta, 9), whole(meta, 11)
    return Chunk(
        name=".".join(part.decode(errors="replace") for part in _member(meta, 3, list) if isinstance(part, bytes)),
        start=dictionary if 0 < dictionary < pages else pages,
        stored=whole(meta, 7),
        size=whole(meta, 6),
        values=whole(meta, 5),
    )


def _member(fields: Any, number: int, kind: type[_Kind]) -> _Kind:
    value = fields.get(number) if isinstance(fields, dict) else None
    if isinstance(value, kind):
        return value
    raise ValueError("the footer is none of Parquet's")
