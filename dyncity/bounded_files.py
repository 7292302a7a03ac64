"""Files from outside, read in memory that is bounded before they are: JSON, YAML, arrays, tensors."""

from __future__ import annotations

import json
import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from dyncity.errors import InputError

MAX_JSON_BYTES = 2**26
MAX_REQUEST_BYTES = 2**23
MAX_YAML_BYTES = 2**20
MAX_TENSORS_HEADER_BYTES = 2**23
LARGEST = 1e8  # metres and radians: no map goes farther
# What a damaged header of an npy raises: numpy parses it as a line of Python, and mends what Python 2 wrote.
NPY_ERRORS: tuple[type[Exception], ...] = (
    *(OSError, ValueError, EOFError, MemoryError, OverflowError),
    *(SyntaxError, TypeError, RecursionError, tokenize.TokenError),
)


def check_is_file(path: Path, fix: str) -> None:
    """Raise InputError where a pipe or a device lies under the name of a file, which may have no end or never begin."""
    if path.exists() and not path.is_file():
        raise InputError(path, "it is not a file", fix)


def read_text(path: Path, fix: str, most: int) -> str:
    """A text file in UTF-8 of at most so many bytes; no more than that is ever read of it.

    Raises:
        InputError: missing, not readable, larger, no text.
    """
    try:
        check_is_file(path, fix)
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise InputError(path, "there is no such file", fix) from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"not readable ({getattr(error, 'strerror', None) or error})", fix) from None
    if len(data) > most:
        raise InputError(path, f"it has more than {most} bytes", fix)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(path, f"not readable as text ({error})", fix) from None


def are_numbers(value: Any, count: int) -> bool:
    """Whether a value of JSON is a list of ``count`` numbers of at most ``LARGEST``.

    They are compared as they are: a whole number of JSON may be too large for any float.
    """
    plain = isinstance(value, list) and len(value) == count and all(type(v) in (int, float) for v in value)
    return plain and all(-LARGEST <= v <= LARGEST for v in value)


def read_json(path: Path, fix: str, most: int = MAX_JSON_BYTES) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: as ``read_text``; no JSON, or nested too deeply.
    """
    return _parsed(path, read_text(path, fix, most), fix)


def read_request(path: Path, fix: str) -> Any:
    """The value of a JSON file that somebody wrote by hand: a layout, a region, a trajectory, a camera rig.

    At most 8 MiB; a byte order mark is skipped, as editors write one.

    Raises:
        InputError: as ``read_json``; a key that an object has twice, of which JSON would keep the last.
    """
    text = read_text(path, fix, MAX_REQUEST_BYTES).removeprefix("\ufeff")
    return _parsed(path, text, fix, object_pairs_hook=_each_once)


def _parsed(path: Path, text: str, fix: str, **how: Any) -> Any:
    try:
        return json.loads(text, **how)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"not readable as JSON ({error})", fix) from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of some pairs. Raises ValueError where a key comes twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it says {key[:80]!r} twice in one place")
        found[key] = value
    return found


class _PlainLoader(yaml.SafeLoader):
    """Plain values alone: no tags that make objects, no aliases, a few of which stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("found an alias")
        return super().compose_node(parent, index)


def plain_yaml(text: str) -> Any:
    """The value of a YAML text, of plain values alone.

    Raises:
        ValueError: no YAML, a tag, an alias, nested too deeply.
    """
    try:
        return _PlainLoader(text).get_single_data()
    except (yaml.YAMLError, RecursionError, AttributeError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


def read_array(path: Path, fix: str) -> NDArray[Any]:
    """The array of a ``.npy`` file, mapped: its header is compared with the length of the file first.

    Raises:
        InputError: missing, not readable, too short, Python objects, or no ``.npy`` at all.
    """
    try:
        check_is_file(path, fix)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(path, "there is no such file", fix) from None
    except NPY_ERRORS as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).partition(". ")[0]  # numpy goes on to say how to load it all the same
        raise InputError(path, f"not readable as an array ({reason})"[:300], fix) from None
    if not isinstance(array, np.ndarray):  # an npz by another name
        array.close()
        raise InputError(path, "it is no .npy", fix)
    return array


def npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type that a version-1 npy declares; numpy bounds its header at 10,000 bytes.

    Raises:
        ValueError: no such header. What the file itself raises while it is read is left as it is.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"npy version {version}")
    try:
        return np.lib.format.read_array_header_1_0(file)
    except (MemoryError, SyntaxError, TypeError, RecursionError, tokenize.TokenError) as error:
        raise ValueError(f"a header that is none: {str(error) or type(error).__name__}") from None


def check_members(archive: zipfile.ZipFile) -> None:
    """Raise ValueError where an npz is packed as numpy packs none: other methods ask for memory as they like."""
    for info in archive.infolist():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename} is packed by method {info.compress_type}, neither stored nor deflated")


def check_tensors_header(path: Path, fix: str) -> None:
    """Raise InputError where a safetensors file has a header of more than 8 MiB: reading it takes many times that."""
    try:
        check_is_file(path, fix)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except FileNotFoundError:
        raise InputError(path, "there is no such file", fix) from None
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror or error})", fix) from None
    if length > MAX_TENSORS_HEADER_BYTES:
        raise InputError(path, f"not readable: not a safetensors file (a header of {length} bytes)", fix)
