"""What a feather file inflates to, by its messages, and its table where that is little.

Feather is Arrow's IPC file format (https://arrow.apache.org/docs/format/Columnar.html): the same messages as a
stream, after 8 bytes. A compressed buffer begins with its size. The messages are read in order, first those
sizes and then the table, so that the footer at the end of the file, which says where they lie, is not needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

MAX_BYTES = 2**28
_MAGIC = b"ARROW1\0\0"
_RECORD_BATCH, _DICTIONARY = 3, 2  # of the union MessageHeader


def read_bounded(path: Path) -> pa.Table:
    """The table of a feather file (version 2).

    Raises:
        OSError, pyarrow.ArrowException, ValueError: unreadable, damaged, or of more than 256 MiB inflated.
    """
    with pa.memory_map(str(path)) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("it does not begin as feather version 2 does")
        size = sum(_inflated(message) for message in pa.ipc.MessageReader.open_stream(file))
        if size > MAX_BYTES:
            raise ValueError(f"it inflates to {size} bytes, at most {MAX_BYTES} are read")
        file.seek(len(_MAGIC))
        return pa.ipc.open_stream(file).read_all()


def _inflated(message: pa.Message) -> int:
    """Bytes of the buffers of a message when they are not compressed any more."""
    metadata, body = bytes(message.metadata), message.body
    total = 0
    try:
        for start, length, compressed in _buffers(metadata):
            size = length
            if compressed and length >= 8:
                (size,) = struct.unpack_from("<q", body, start)
            total += length if size < 0 else size  # -1: left as it is
    except (struct.error, IndexError, OverflowError, TypeError) as error:
        raise ValueError(f"a message is damaged ({error})") from None
    return total


def _buffers(metadata: bytes) -> Iterator[tuple[int, int, bool]]:
    """Where the buffers of a message begin in its body, how long they are, and whether they are compressed.

    Tables of FlatBuffers, by the numbers of their fields in Arrow's ``Message.fbs``.
    """
    message = _offset(metadata, 0)
    kind = _field(metadata, message, 1)
    if kind is None or metadata[kind] not in (_RECORD_BATCH, _DICTIONARY):
        return
    batch = _table(metadata, message, 2)
    if metadata[kind] == _DICTIONARY:
        batch = _table(metadata, batch, 1)
    place = _field(metadata, batch, 2)
    compressed = _field(metadata, batch, 3) is not None
    if place is None:
        return
    vector = _offset(metadata, place)
    (count,) = struct.unpack_from("<I", metadata, vector)
    for number in range(count):
        yield (*struct.unpack_from("<qq", metadata, vector + 4 + 16 * number), compressed)


def _offset(data: bytes, at: int) -> int:
    return at + struct.unpack_from("<I", data, at)[0]


def _table(data: bytes, table: int, number: int) -> int:
    place = _field(data, table, number)
    if place is None:
        raise ValueError("a message has no header")
    return _offset(data, place)


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a table lies; None where it has its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    slot: Any = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0] if 4 + 2 * number < size else 0
    return table + slot if slot else None
