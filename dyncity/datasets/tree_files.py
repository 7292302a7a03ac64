"""Strict reading of the files of native trees: raw voxels, rows of numbers, npz; every error names the file."""

from __future__ import annotations

import math
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity import bounded_files
from dyncity.datasets.tree import RESTORE
from dyncity.errors import InputError

NO_CLASS = -1  # in a table of classes: an id that the data set does not have
_MAX_TEXT_BYTES = 2**26
# Of one frame, whose arrays have a few MB. A directory of that size takes ten times as much memory.
_MAX_NPZ_BYTES = 2**26
_MAX_ROWS = 1_000_000  # frames of a drive: their numbers have six digits


def check_size(path: Path, size: int) -> None:
    """Raise InputError unless the file is there and has exactly so many bytes."""
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise InputError(path, "there is no such file", RESTORE) from None
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror})", "check the file") from None
    if found != size:
        raise InputError(path, f"it has {found} bytes, not {size}", RESTORE)


def read_voxels(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A file of nothing but an array in C order, read-only.

    Raises:
        InputError: missing, not readable, of another size.
    """
    check_size(path, np.dtype(dtype).itemsize * math.prod(shape))
    try:
        return np.frombuffer(path.read_bytes(), dtype).reshape(shape)
    except (OSError, ValueError) as error:
        raise InputError(path, f"not readable ({error})", "check the file") from None


def to_classes(raw: NDArray[Any], table: NDArray[np.int16], path: Path) -> NDArray[np.uint8]:
    """Ids of a file, unsigned, as class ids by ``table`` ``[n]``, where ``NO_CLASS`` and what lies beyond are none.

    Raises:
        InputError: an id that has no class.
    """
    classes = table[np.minimum(raw, len(table) - 1)]
    wrong = (classes == NO_CLASS) | (raw >= len(table))
    if wrong.any():
        voxel = tuple(np.argwhere(wrong)[0].tolist())
        raise InputError(path, f"voxel {voxel} has id {raw[voxel]}, which the data set does not have", RESTORE)
    return classes.astype(np.uint8)


def read_text(path: Path) -> str:
    """A text file of at most 64 MiB.

    Raises:
        InputError: missing, no file, not readable, too long, no text.
    """
    return bounded_files.read_text(path, RESTORE, _MAX_TEXT_BYTES)


def read_rows(path: Path, columns: int) -> NDArray[np.float64]:
    """Rows of ``columns`` finite numbers, float64 ``[n, columns]``, at least one and at most a million.

    Raises:
        InputError: as ``read_text``; more rows; a line of anything else.
    """
    text = read_text(path).rstrip()
    if (rows := text.count("\n") + 1) > _MAX_ROWS:
        raise InputError(path, f"it has {rows} lines, at most {_MAX_ROWS} are read", RESTORE)
    lines = text.splitlines()
    return np.stack([numbers(line, columns, f"{path}, line {n}") for n, line in enumerate(lines or [""], 1)])


def numbers(text: str, count: int, where: str) -> NDArray[np.float64]:
    """``count`` finite numbers divided by spaces, or InputError."""
    try:
        row = np.array(text.split(), np.float64)
    except ValueError:
        row = np.empty(0)
    if len(row) != count or not np.isfinite(row).all():
        raise InputError(where, f"found {text[:40]!r}", f"give {count} finite numbers; {RESTORE}")
    return row


def check_npz(path: Path, names: Sequence[str], shape: tuple[int, ...]) -> None:
    """Raise InputError unless the npz is whole by its directory and declares such arrays (``read_npz``)."""
    with _archive(path) as archive:
        for name in names:
            with archive.open(f"{name}.npy") as file:
                dtype, _ = _header(file, shape)
                size = file.tell() + dtype.itemsize * math.prod(shape)
            if archive.getinfo(f"{name}.npy").file_size != size:
                raise InputError(path, f"{name} does not have {size} bytes", RESTORE)


def read_npz(path: Path, names: Sequence[str], shape: tuple[int, ...]) -> dict[str, NDArray[np.uint8]]:
    """Arrays of an npz, of any integer type whose values are bytes, as uint8; never unpickled.

    Raises:
        InputError: missing, truncated or damaged, another shape or type, values beyond a byte.
    """
    arrays = {}
    with _archive(path) as archive:
        for name in names:
            with archive.open(f"{name}.npy") as file:
                dtype, order = _header(file, shape)
                data = file.read(dtype.itemsize * math.prod(shape))
                if file.read(1):
                    raise InputError(path, f"{name} is longer than it declares", RESTORE)
            array = np.frombuffer(data, dtype).reshape(shape, order=order)
            if dtype.itemsize > 1 and not ((array >= 0) & (array <= 255)).all():
                raise InputError(path, f"{name} has a value that is no byte", RESTORE)
            arrays[name] = array.astype(np.uint8)
    return arrays


def binary(mask: NDArray[np.uint8], name: str, path: Path) -> NDArray[np.uint8]:
    """A mask of 0 and 1, or InputError."""
    if mask.max() > 1:
        raise InputError(path, f"{name} has the value {mask.max()}", f"give 0 and 1; {RESTORE}")
    return mask


def _header(file: Any, shape: tuple[int, ...]) -> tuple[np.dtype[Any], Any]:
    """Type and order ("C", "F") that an npy file declares.

    Raises:
        ValueError: another shape, or a type that holds no integers.
    """
    found, fortran, dtype = bounded_files.npy_header(file)
    if found != shape or dtype.kind not in "uib":
        raise ValueError(f"{dtype} {found}, expected integers {shape}")
    return dtype, "F" if fortran else "C"


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open npz; whatever goes wrong while it is read is bad input."""
    try:
        if not stat.S_ISREG((status := path.stat()).st_mode):
            raise InputError(path, "it is not a file", RESTORE)
        if status.st_size > _MAX_NPZ_BYTES:
            raise InputError(path, f"it has more than {_MAX_NPZ_BYTES} bytes", RESTORE)
        with zipfile.ZipFile(path) as archive:
            bounded_files.check_members(archive)
            yield archive
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, "there is no such file", RESTORE) from None
    except KeyError as error:
        raise InputError(path, f"an array is missing ({error})", RESTORE) from None
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise InputError(path, f"not readable as npz ({error})"[:300], RESTORE) from None
    except (zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise InputError(path, f"it is damaged ({error})"[:300], RESTORE) from None
