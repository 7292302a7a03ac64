"""What is there before a run begins: is it a corpus, and what does overwriting it delete?"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from dyncity.config import Config
from dyncity.config_file import read_config
from dyncity.datasets.manifest import read_manifest
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath

Say = Callable[[str], None]


def is_begun(out: Path | ObjectPath, foreign: Collection[str]) -> bool:
    """Whether a run has begun a corpus there: its manifest can be read, or its configuration and nothing else is there.

    Args:
        out: the place.
        foreign: names there that no corpus has; runs of training have a configuration too.
    """
    for read in (read_manifest,) if foreign else (read_manifest, _configuration):
        with suppress(InputError):
            read(out)
            return True
    return False


def _configuration(out: Path | ObjectPath) -> Config:
    if isinstance(out, Path):
        return read_config(out / "config.json")
    with out.local("config.json") as copy:
        return read_config(copy / "config.json")


def deletion(out: Path | ObjectPath, sizes: Collection[int]) -> str:
    """What overwriting a corpus of files of so many bytes deletes, in one line."""
    size = f"{sum(sizes)} bytes"
    try:
        manifest = read_manifest(out)
    except InputError:
        return f"--overwrite deletes {out}: {len(sizes)} files, {size}, without a manifest that can be read"
    shards = sum(record.scenes > 0 for record in manifest.shards)
    return f"--overwrite deletes {out}: {manifest.written} scenes in {shards} shards, {size}"
