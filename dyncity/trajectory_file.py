"""A trajectory from a file: JSON, NumPy or CSV rows of x, y, yaw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.bounded_files import read_array, read_json, read_text
from dyncity.conditions import check_trajectory
from dyncity.errors import InputError

_FIX = "give a file with rows x, y, yaw"
_MAX_BYTES = 2**23


def read_trajectory(path: Path, frames: int) -> NDArray[np.float64]:
    """float64 ``[t, 3]`` x, y (metres), yaw (radians), moved to start at (0, 0, 0).

    Args:
        path: ``.json`` (a list of rows), ``.npy`` (an array) or ``.csv`` (a header line may come first).
        frames: number of rows that there have to be: one a frame.

    Raises:
        InputError: no such file, another kind of file, not numbers, another number of rows.
    """
    if path.suffix not in (".json", ".npy", ".csv"):
        raise InputError(path, "not a kind of file that is read here", "give .json, .npy or .csv")
    try:
        if path.suffix == ".json":
            rows = np.array(read_json(path, _FIX, _MAX_BYTES), dtype=np.float64)
        elif path.suffix == ".npy":
            found = read_array(path, _FIX)
            if found.nbytes > _MAX_BYTES:
                raise InputError(path, f"found shape {found.shape}", _FIX)
            rows = np.array(found, dtype=np.float64)
        else:
            lines = read_text(path, _FIX, _MAX_BYTES).strip().splitlines()
            header = bool(lines) and any(c.isalpha() and c not in "eE" for c in lines[0])
            rows = np.array([line.split(",") for line in lines[header:]], dtype=np.float64)
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"not rows of numbers ({error})", "give one row x, y, yaw a frame") from None
    trajectory = check_trajectory(rows, str(path))
    if len(trajectory) != frames:
        raise InputError(path, f"has {len(trajectory)} rows", f"give {frames}, one a frame of a scene")
    return trajectory
