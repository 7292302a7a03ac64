"""What the pages of a Parquet row group inflate to, by their headers: checked before anything is decoded.

The footer says sizes, and so does each page's own header (Thrift's compact protocol, ``PageHeader`` of
https://github.com/apache/parquet-format): a file that was made up can let them disagree, or repeat one large
value of a dictionary for every row. Pages that this package does not write are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from dyncity.datasets.parquet_footer import RowGroup
from dyncity.datasets.thrift_compact import read_struct, whole

DICTIONARY_COLUMNS = ("scene_id", "command", "provenance")
MAX_PAGE_BYTES = 2**26  # of what is no voxel column; 1,024 texts of 64 KiB
_MAX_DICTIONARY_BYTES = 2**22
_MAX_HEADER_BYTES = 2**13
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_PLAIN, _BY_DICTIONARY = 0, (2, 8)


def check_pages(file: BinaryIO, group: RowGroup, most: Callable[[str], int]) -> int:
    """Walk the pages of a row group; the bytes of its largest dictionary.

    Args:
        file: the Parquet file.
        group: what the footer says of it.
        most: bytes that a page of a column may inflate to, by the column's path in the schema.

    Raises:
        ValueError: pages that hold more than the footer says, or are not of the kinds that are written.
    """
    largest = 0
    for chunk in group.chunks:
        name, start, left, values = chunk.name, chunk.start, chunk.size, 0
        end = start + chunk.stored
        first = True
        while start < end:
            file.seek(start)
            header, length = read_struct(file.read(_MAX_HEADER_BYTES))
            kind, size, stored = (whole(header, i) for i in (1, 2, 3))
            left -= length + size
            start += length + stored
            if min(size, stored, left, end - start) < 0:
                raise ValueError(f"a page of {name} is larger than its column")
            if kind == _DICTIONARY_PAGE and first and name in DICTIONARY_COLUMNS and size <= _MAX_DICTIONARY_BYTES:
                largest = max(largest, size)
            elif kind == _DATA_PAGE:
                count, encoding = (whole(header.get(5), i) for i in (1, 2))
                values += count
                known = encoding == _PLAIN or (name in DICTIONARY_COLUMNS and encoding in _BY_DICTIONARY)
                if count < 0 or not known or size > most(name):
                    raise ValueError(f"a page of {name} is of no kind that is written")
            else:
                raise ValueError(f"a page of {name} is of no kind that is written")
            first = False
        # Levels of nested values are run-length encoded: their number is bounded by what the values take.
        bound = group.rows if "." not in name else group.rows * 16 + chunk.size
        if values != chunk.values or values > bound:
            raise ValueError(f"{name} has {values} values in {group.rows} rows")
    return largest
