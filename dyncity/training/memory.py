"""What the C library does with freed memory, where a training step is meant to need little of it."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_LARGE = 4 * 2**20


def hand_back_large_blocks() -> None:
    """Freed blocks of 4 MB and more go back to the system at once, for the rest of the process.

    By default glibc comes to keep blocks of up to 32 MB. Between what a recomputing step keeps for the gradient they
    leave holes as large again as all that it keeps. Costs page faults. Elsewhere than under glibc nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
