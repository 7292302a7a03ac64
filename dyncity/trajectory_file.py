"""A trajectory from a file: JSON, NumPy or CSV rows of x, y, yaw, for all scenes or for each."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.bounded_files import MAX_REQUEST_BYTES, read_array, read_request, read_text
from dyncity.conditions import check_trajectory
from dyncity.drivable import check_drivable
from dyncity.errors import InputError

_FIX = "give a file with rows x, y, yaw"
_HEADERS = ("x,y,yaw", "scene,x,y,yaw")


def read_trajectory(path: Path, frames: int, frame_rate: float, scenes: int) -> NDArray[np.float64]:
    """float64 ``[t, 3]`` x, y (metres), yaw (radians) for all scenes, or ``[n, t, 3]``; each starts at (0, 0, 0).

    Args:
        path: ``.json`` (a list of rows, or one such list a scene), ``.npy`` (an array ``[t, 3]`` or ``[n, t, 3]``) or
            ``.csv`` (lines x,y,yaw or scene,x,y,yaw, scenes counted from 0; a header line that names them so may come
            first).
        frames: number of rows that there have to be: one a frame.
        frame_rate: frames a second.
        scenes: how many trajectories there have to be, where there is not one for all.

    Raises:
        InputError: no such file, another kind of file, not numbers, another number of rows or scenes, too fast.
    """
    kind = path.suffix.lower()
    if kind not in (".json", ".npy", ".csv"):
        raise InputError(path, "not a kind of file that is read here", "give .json, .npy or .csv")
    if kind == ".npy":
        rows = read_array(path, _FIX)
    elif kind == ".json":
        rows = _array(path, read_request(path, _FIX))
    else:
        rows = _lines(path)
    if rows.dtype.kind not in "iuf":
        raise InputError(path, f"found {rows.dtype} of shape {rows.shape}", _FIX)
    if rows.nbytes > MAX_REQUEST_BYTES:
        raise InputError(path, f"found {rows.nbytes} bytes, shape {rows.shape}", f"give at most {MAX_REQUEST_BYTES}")
    each = rows if rows.ndim == 3 else rows[None]
    names = [f"{path}, scene {k}" if rows.ndim == 3 else str(path) for k in range(len(each))]
    checked = [check_trajectory(one, name) for one, name in zip(each, names, strict=True)]
    if rows.ndim == 3 and len(each) != scenes:
        raise InputError(path, f"has trajectories of {len(each)} scenes", f"give one for all, or {scenes}")
    for one, name in zip(checked, names, strict=True):
        if len(one) != frames:
            raise InputError(name, f"has {len(one)} rows", f"give {frames}, one a frame of a scene")
        check_drivable(one, frame_rate, name)
    return np.stack(checked) if rows.ndim == 3 else checked[0]


def _array(path: Path, values: Any) -> NDArray[np.generic]:
    """An array of what JSON holds."""
    try:
        return np.array(values)
    except ValueError:
        raise InputError(path, "its rows differ in length", "give one row x, y, yaw a frame") from None


def _has_number(line: str) -> bool:
    """Whether a line has a number in it, "nan" and "inf" too: a header has names alone."""
    for word in line.split(","):
        with suppress(ValueError):
            float(word)
            return True
    return False


def _plain(header: str) -> str:
    """A header without spaces, quotes and capitals."""
    return "".join(c for c in header.lower() if c not in " \t\"'")


def _lines(path: Path) -> NDArray[np.float64]:
    """``[t, 3]`` of lines x,y,yaw, or ``[n, t, 3]`` of lines scene,x,y,yaw."""
    lines = read_text(path, _FIX, MAX_REQUEST_BYTES).removeprefix("\ufeff").rstrip().splitlines()
    header = int(bool(lines) and not _has_number(lines[0]))
    if len(lines) == header:
        raise InputError(path, "it has no rows", _FIX)
    if header and _plain(lines[0]) not in _HEADERS:
        fix = f"give {' or '.join(_HEADERS)}, divided by commas"
        raise InputError(f"{path}, line 1", f"its columns are {lines[0][:80]!r}", fix)
    columns = lines[0].count(",") + 1
    rows = np.empty((len(lines) - header, columns))
    for n, line in enumerate(lines[header:]):
        try:
            rows[n] = [float(word) for word in line.split(",")]
        except ValueError:
            fix = f"give {columns if columns in (3, 4) else 3} numbers divided by commas"
            raise InputError(f"{path}, line {n + 1 + header}", f"found {line[:80]!r}", fix) from None
    if columns != 4:
        return rows
    scenes, frames = np.unique(rows[:, 0], return_counts=True)
    in_order = np.array_equal(rows[:, 0], np.repeat(np.arange(len(scenes)), frames[0]))
    if not in_order:
        raise InputError(path, "its scenes are not 0, 1, 2 ... in order, of as many rows each", "sort the lines")
    return rows[:, 1:].reshape(len(scenes), frames[0], 3)
