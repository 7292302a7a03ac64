"""Compressed npz files of trees: deflated quickly, as reading takes any level; the same arrays give the same bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exporters.pickles import object_array

# Voxels deflate to a few hundredths at any level; 1 takes a third of the time of 6, the default.
_LEVEL = 1


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as the new file ``path``, as ``numpy.savez_compressed`` does; lists become arrays of objects.

    Raises:
        OSError: there is such a file, or the file system refuses.
    """
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, value in arrays.items():
            # Stamped with 1980-01-01, as numpy does.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                if isinstance(value, list):
                    file.write(object_array(value))
                else:
                    np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)
