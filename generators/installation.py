"""What of an installation decides the bytes of shards besides the plan: versions, the code itself, the CPU."""

from __future__ import annotations

import hashlib
import platform
import zlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

import dyncity
import exporters
import generators
from dyncity import __version__


def installation() -> dict[str, str]:
    """What is installed here, by name.

    ``code`` tells two states of the sources of one version from each other. ``cpu`` is what numpy adds up and
    approximates with: its ``exp``, ``log``, ``tan`` and ``arctan2`` differ in the last bit between AVX2 and AVX-512.
    ``zlib`` compresses NumPy shards.
    """
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])  # no list where there are none
    return {
        "dyncity": __version__,
        "code": _digest_of_code(),
        "numpy": np.__version__,
        "pyarrow": version("pyarrow"),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "cpu": ", ".join([platform.machine(), *found]),
    }


@lru_cache(maxsize=1)
def _digest_of_code() -> str:
    """sha256 of the sources of the three packages, as far as it takes to tell them apart."""
    total = hashlib.sha256()
    for package in (dyncity, exporters, generators):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            total.update(f"{package.__name__}/{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return total.hexdigest()[:16]
