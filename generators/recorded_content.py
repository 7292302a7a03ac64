"""What recordings hold, in one digest: an import goes on only where nothing of its source has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dyncity.errors import InputError


def content_digest(files: Iterable[Path], below: Path) -> str:
    """sha256 over the names, below a folder, and the contents of files, in order; read several at a time.

    Raises:
        InputError: a file that cannot be read.
    """
    ordered = sorted(files)
    digest = hashlib.sha256()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for path, content in zip(ordered, pool.map(_sha256, ordered), strict=True):
            digest.update(f"{content}  {path.relative_to(below).as_posix()}\n".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror or error})", "restore it") from None
