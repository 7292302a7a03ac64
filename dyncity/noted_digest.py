"""A file's digest, in a file beside it as sha256sum writes it: noted by who makes it, compared by who reads it"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path

from dyncity.bounded_files import check_is_file
from dyncity.errors import InputError

ENDING = ".sha256"
_MOST_BYTES = 4096  # a line of sha256sum is 66 bytes and a name
_LINE = re.compile(rb"([0-9a-f]{64}) [ *]([^\n]+)\n?")


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex. 1.3 GB a CPU second where the processor has instructions for it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_digest(path: Path, digest: str) -> None:
    """Write ``<path>.sha256``, whole or not at all: ``sha256sum --check`` reads it.

    Who replaces a file that others read calls ``forget_digest`` before: then no reader ever has the digest of
    another file than the one that is there.
    """
    part = path.with_name(f".{path.name}{ENDING}.{uuid.uuid4().hex[:8]}")
    with part.open("w") as file:
        file.write(f"{digest}  {path.name}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path.with_name(path.name + ENDING))


def forget_digest(path: Path) -> None:
    """Remove ``<path>.sha256``, if it is there."""
    path.with_name(path.name + ENDING).unlink(missing_ok=True)


def checked_digest(path: Path, fix: str, shown: object = None) -> str:
    """sha256 of a file, in hex, which is the one noted beside it where one is.

    Args:
        path: the file.
        fix: what to do where it is another one.
        shown: what an error calls the file, where that is not ``path``.

    Raises:
        InputError: the file cannot be read, its digest is another than the one noted, or that is none.
    """
    try:
        before = _noted(path)
        found = sha256_of(path)
        if before in (None, found) or _noted(path) != before:  # else it is being replaced at this moment
            return found
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror or error})", fix) from None
    said = f"{path.name}{ENDING} beside it says {before[:16]}..."
    raise InputError(shown or path, f"is not what was written: its sha256 is {found[:16]}..., {said}", fix)


def _noted(path: Path) -> str | None:
    """The digest noted beside a file; None where there is none."""
    beside = path.with_name(path.name + ENDING)
    try:
        check_is_file(beside, "restore the file, or remove it")
        with beside.open("rb") as file:
            line = _LINE.fullmatch(file.read(_MOST_BYTES))
    except FileNotFoundError:
        return None
    if line is None or line[2] != path.name.encode():
        raise InputError(beside, f"not a line of sha256sum for {path.name}", "restore the file, or remove it")
    return line[1].decode()
