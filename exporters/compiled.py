"""Loops compiled by numba, their machine code kept for later commands wherever a folder for it can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled when it is first called; without Python's checks of indices and of division by zero.

    The machine code is kept in ``__pycache__`` next to the module; where that cannot be written, in
    ``NUMBA_CACHE_DIR`` or the user's own cache folder; where nothing can, each process compiles for itself.
    """
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba's word for: there is no folder to keep it in
        return numba.njit(**options)(function)
