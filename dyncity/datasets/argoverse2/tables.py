"""Strict reading of the feather tables, arrays and JSON files of a log; every error names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dyncity import bounded_files
from dyncity.datasets.argoverse2.feather_bounds import read_bounded
from dyncity.errors import InputError

MAX_ROWS = 10_000_000
MAX_CELLS = 100_000_000
RESTORE = "restore the file from the data set"


def read_table(
    path: Path, numbers: tuple[str, ...], texts: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> pa.Table:
    """A feather table that has the columns asked for, without nulls and of the right kind.

    Args:
        path: the file.
        numbers: columns that hold numbers; those with a fraction must be finite.
        texts: columns that hold text.
        optional: columns of numbers that may be missing.

    Raises:
        InputError: missing, unreadable or truncated file; a column that is missing, of another kind,
            with nulls or with numbers that are not finite; too many rows.
    """
    try:
        table = read_bounded(path)
        table.validate(full=True)
    except FileNotFoundError:
        raise InputError(path, "there is no such file", "give a complete Argoverse 2 log") from None
    except (OSError, pa.ArrowException, ValueError) as error:
        raise InputError(path, f"not readable as feather ({error})", RESTORE) from None
    if table.num_rows > MAX_ROWS:
        raise InputError(path, f"{table.num_rows} rows", f"give a table of at most {MAX_ROWS}")
    for name in (*numbers, *texts, *(n for n in optional if n in table.schema.names)):
        if table.schema.names.count(name) != 1:
            raise InputError(path, f"column {name!r} is missing or there twice", RESTORE)
        column = table[name]
        kind = column.type
        if name in texts:
            right = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
        else:
            right = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not right:
            wanted = "text" if name in texts else "numbers"
            raise InputError(path, f"column {name!r} holds {kind}", f"give {wanted}; {RESTORE}")
        if column.null_count:
            raise InputError(path, f"column {name!r} has {column.null_count} nulls", RESTORE)
        if pa.types.is_floating(kind) and not np.isfinite(column.to_numpy()).all():
            raise InputError(path, f"column {name!r} has a number that is not finite", RESTORE)
    return table


def stack(table: pa.Table, names: tuple[str, ...], dtype: type = np.float64) -> NDArray[Any]:
    """Columns of numbers as one array ``[rows, len(names)]``."""
    return np.stack([table[name].to_numpy().astype(dtype) for name in names], axis=1)


def timestamps(table: pa.Table, path: Path) -> NDArray[np.int64]:
    """The ``timestamp_ns`` column, int64 ``[rows]``.

    Raises:
        InputError: where it does not hold whole, non-negative numbers of 64 bits.
    """
    column = table["timestamp_ns"]
    if not pa.types.is_integer(column.type):
        raise InputError(path, f"column 'timestamp_ns' holds {column.type}", f"give whole numbers; {RESTORE}")
    values = column.to_numpy()
    if len(values) and (values.min() < 0 or values.max() >= 2**62):
        raise InputError(path, "column 'timestamp_ns' has a time out of range", RESTORE)
    return values.astype(np.int64)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file whose top is an object.

    Raises:
        InputError: unreadable, malformed or of another kind.
    """
    values = bounded_files.read_json(path, RESTORE)
    if not isinstance(values, dict):
        raise InputError(path, f"found {type(values).__name__}", f"give an object; {RESTORE}")
    return values


def read_raster(path: Path) -> NDArray[np.float32]:
    """A two-dimensional ``.npy`` of heights, float32 ``[rows, columns]``; NaN where nothing is known.

    Raises:
        InputError: unreadable, truncated, of another kind or absurdly large.
    """
    try:
        # Mapping checks the declared shape against the length of the file before anything is allocated.
        raster = np.load(path, mmap_mode="r", allow_pickle=False)
    except bounded_files.NPY_ERRORS as error:
        raise InputError(path, f"not readable as .npy ({error})", RESTORE) from None
    if not isinstance(raster, np.ndarray) or raster.ndim != 2 or raster.dtype.kind != "f":
        raise InputError(path, "not a two-dimensional array of heights", RESTORE)
    if not 0 < raster.size <= MAX_CELLS:
        raise InputError(path, f"found shape {raster.shape}", f"give at most {MAX_CELLS} cells")
    heights = np.asarray(raster, dtype=np.float32)
    if np.isinf(heights).any():
        raise InputError(path, "found an infinite height", RESTORE)
    return heights


def finite_numbers(value: Any, count: int, path: Path, key: str) -> NDArray[np.float64]:
    """A flat or nested list of ``count`` finite numbers as float64 ``[count]``, or InputError."""
    try:
        array = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if len(array) != count or not np.isfinite(array).all():
        raise InputError(path, f"{key} is not {count} finite numbers", RESTORE)
    return array
