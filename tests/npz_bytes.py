"""A minimal reader of npz files whose arrays hold a byte an element, written from the format's description alone."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

import numpy as np


def read_npz(path: Path, kinds: str = "u1") -> dict[str, np.ndarray]:
    """The members of an npz from its bytes: each a version-1 npy header, C order; uint8, whatever they hold.

    Args:
        path: the file.
        kinds: element types that are allowed, as a pattern: ``u1``, or ``u1|b1``.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            assert data[:8] == b"\x93NUMPY\x01\x00"
            (length,) = struct.unpack_from("<H", data, 8)
            header = data[10 : 10 + length].decode("latin1")
            assert re.search(rf"'descr': '\|({kinds})'", header)
            assert "'fortran_order': False" in header
            shape = tuple(int(n) for n in re.search(r"'shape': \(([^)]*)\)", header)[1].split(","))
            arrays[name] = np.frombuffer(data[10 + length :], np.uint8).reshape(shape)
    return arrays
