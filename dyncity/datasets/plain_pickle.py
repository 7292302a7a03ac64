"""Pickles of plain values and numpy arrays, read without running anything that they name."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.tree import RESTORE
from dyncity.errors import InputError


def load_plain_pickle(path: Path) -> Any:
    """Dicts, lists, texts, numbers and numpy arrays from a pickle; any other class in it is refused.

    Raises:
        InputError: missing, truncated, damaged, or a pickle of anything else.
    """
    if path.exists() and not path.is_file():
        raise InputError(path, "it is not a file", RESTORE)
    try:
        with path.open("rb") as file:
            _check_memo(file, path.stat().st_size)
            return _PlainUnpickler(file).load()
    except FileNotFoundError:
        raise InputError(path, "there is no such file", RESTORE) from None
    except Exception as error:  # a damaged or hostile pickle raises whatever it likes
        raise InputError(path, f"not readable as a pickle of plain values ({error})"[:300], RESTORE) from None


def _check_memo(file: BinaryIO, size: int) -> None:
    """Raise UnpicklingError where a value is to be remembered by a number that needs a table larger than the file."""
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > size:
            raise pickle.UnpicklingError(f"it remembers a value as number {argument}")
    file.seek(0)


def _empty(*_: object) -> NDArray[np.int8]:
    """An empty array, whose content follows as its state: what the pickle asks for here is not allocated."""
    return np.empty(0, np.int8)


def _latin1(text: str, _: object = None) -> bytes:
    """Bytes as pickles before protocol 3 spell them."""
    return text.encode("latin1")


_CALLABLES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): object,  # named beside _reconstruct, never made
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): lambda *_: b"",  # named before protocol 3 for no bytes alone
}
for _module in ("numpy.core", "numpy._core"):
    _CALLABLES[f"{_module}.multiarray", "_reconstruct"] = _empty
    _CALLABLES[f"{_module}.multiarray", "scalar"] = np.int64(0).__reduce__()[0]


class _PlainUnpickler(pickle.Unpickler):
    """Finds nothing but what rebuilds numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle names by module and name, or UnpicklingError."""
        if (module, name) not in _CALLABLES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _CALLABLES[module, name]
