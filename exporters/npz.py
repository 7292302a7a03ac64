"""Compressed npz files of trees: deflated quickly, as reading takes any level; the same arrays give the same bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from zlib_ng import zlib_ng

from exporters.pickles import object_array

# zlib-ng's level 2 takes a seventh of the time of zlib's 1 for flow, and its files are smaller. ISA-L (isal 1.9.1) is
# faster still, but once in some hundred files the same arrays gave other bytes.
_LEVEL = 2
_DEFLATED, _VERSION, _UNIX, _FIRST_DAY = 8, 20, 3 << 8, 1 << 5 | 1  # stamped with 1980-01-01, as numpy does
_READABLE = 0o600 << 16  # by the owner, where somebody unpacks them
# The records of zip: before each file, of each file at the end, and the very end.
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as the new file ``path``, as ``numpy.savez_compressed`` does; lists become arrays of objects.

    ``zipfile`` deflates by zlib alone, so that the archive is put together here.

    Args:
        arrays: of less than 4 GiB together.

    Raises:
        OSError: there is such a file, or the file system refuses.
    """
    with open(path, "xb") as file:
        directory = b""
        for key, value in arrays.items():
            name, place = f"{key}.npy".encode(), file.tell()
            parts = _npy(value)
            packer, crc, packed = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, -15), 0, []
            for part in parts:
                crc = zlib_ng.crc32(part, crc)
                packed.append(packer.compress(part))
            packed.append(packer.flush())
            sizes = (crc, sum(map(len, packed)), sum(map(len, parts)), len(name), 0)
            about = (_VERSION, 0, _DEFLATED, 0, _FIRST_DAY, *sizes)
            file.write(_LOCAL.pack(b"PK\3\4", *about) + name)
            file.writelines(packed)
            directory += _CENTRAL.pack(b"PK\1\2", _UNIX | _VERSION, *about, 0, 0, 0, _READABLE, place) + name
        count, place = len(arrays), file.tell()
        file.write(directory + _END.pack(b"PK\5\6", 0, 0, count, count, len(directory), place, 0))


def _npy(value: Any) -> tuple[bytes | memoryview, ...]:
    """The bytes of an npy file, in parts: the array itself is not copied."""
    if isinstance(value, list):
        return (object_array(value),)
    array, header = np.ascontiguousarray(value), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.reshape(-1).view(np.uint8).data
