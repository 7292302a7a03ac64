"""What the pages of a Parquet row group inflate to, by their headers: checked before anything is decoded.

The footer says sizes, and so does each page's own header (Thrift's compact protocol, ``PageHeader`` of
https://github.com/apache/parquet-format): a file that was made up can let them disagree, or repeat one large
value of a dictionary for every row. Pages that this package does not write are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

DICTIONARY_COLUMNS = ("scene_id", "command", "provenance")
MAX_PAGE_BYTES = 2**26  # of what is no voxel column; 1,024 texts of 64 KiB
_MAX_DICTIONARY_BYTES = 2**22
_MAX_HEADER_BYTES = 2**13
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_PLAIN, _BY_DICTIONARY = 0, (2, 8)


def check_pages(file: BinaryIO, group: Any, most: Callable[[str], int]) -> int:
    """Walk the pages of a row group; the bytes of its largest dictionary.

    Args:
        file: the Parquet file.
        group: its metadata (``pyarrow.parquet.RowGroupMetaData``).
        most: bytes that a page of a column may inflate to, by the column's path in the schema.

    Raises:
        ValueError: pages that hold more than the footer says, or are not of the kinds that are written.
    """
    largest = 0
    for number in range(group.num_columns):
        chunk = group.column(number)
        name, start = chunk.path_in_schema, chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
            start = chunk.dictionary_page_offset
        end = start + chunk.total_compressed_size
        left, values = chunk.total_uncompressed_size, 0
        first = True
        while start < end:
            file.seek(start)
            header, length = _struct(file.read(_MAX_HEADER_BYTES), 0)
            kind, size, stored = (_number(header, i) for i in (1, 2, 3))
            left -= length + size
            start += length + stored
            if min(size, stored, left, end - start) < 0:
                raise ValueError(f"a page of {name} is larger than its column")
            if kind == _DICTIONARY_PAGE and first and name in DICTIONARY_COLUMNS and size <= _MAX_DICTIONARY_BYTES:
                largest = max(largest, size)
            elif kind == _DATA_PAGE:
                count, encoding = (_number(header.get(5), i) for i in (1, 2))
                values += count
                known = encoding == _PLAIN or (name in DICTIONARY_COLUMNS and encoding in _BY_DICTIONARY)
                if count < 0 or not known or size > most(name):
                    raise ValueError(f"a page of {name} is of no kind that is written")
            else:
                raise ValueError(f"a page of {name} is of no kind that is written")
            first = False
        # Levels of nested values are run-length encoded: their number is bounded by what the values take.
        bound = group.num_rows if "." not in name else group.num_rows * 16 + chunk.total_uncompressed_size
        if values != chunk.num_values or values > bound:
            raise ValueError(f"{name} has {values} values in {group.num_rows} rows")
    return largest


def _number(fields: Any, number: int) -> int:
    """A whole number of a struct; -1 where there is none."""
    value = fields.get(number) if isinstance(fields, dict) else None
    return value if type(value) is int else -1


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Fields of a Thrift struct by number, and where it ends; what a page header does not have is refused."""
    fields: dict[int, Any] = {}
    number = 0
    if depth > 3:
        raise ValueError("a page header is nested")
    try:
        while data[at]:
            step, kind = data[at] >> 4, data[at] & 15
            if step == 0:
                raise ValueError("a page header has an unknown field")
            number, at = number + step, at + 1
            if kind in (1, 2):
                fields[number] = kind == 1
            elif kind in (4, 5, 6):
                value, at = _varint(data, at)
                fields[number] = (value >> 1) ^ -(value & 1)
            elif kind == 8:
                length, at = _varint(data, at)
                at += length
            elif kind == 12:
                fields[number], at = _struct(data, at, depth + 1)
            elif kind == 3:
                at += 1
            else:
                raise ValueError("a page header has an unknown field")
    except IndexError:
        raise ValueError("a page header does not end") from None
    return fields, at + 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of up to 10 bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("a page header has a number without end")
