"""Shards against their records: sizes and digests, of files and folders, and of objects read where they lie."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from dyncity.datasets.manifest import EMPTY_DIGEST, ShardRecord
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath

Asked = TypeVar("Asked")
Found = TypeVar("Found")
Compared = Callable[[int, int], None]  # told how many shards (of a tree: files) of how many are compared

STORED_AT_ONCE = 8  # a MiB of each in memory: one alone mostly waits for the network
_ASKED = 1024  # of what waits for a thread, or their answers for those before them: there may be half a million


def digest(path: Path) -> str:
    """sha256 of a shard: of the file, or of the listing of the folder.

    The listing is what ``sha256sum *`` prints in the folder: a line ``<sha256>  <name>`` a file, by name.

    Raises:
        OSError: something is not a plain file, or not readable.
    """
    if not path.is_symlink() and path.is_dir():
        return _of_listing((digest(p), p.name) for p in sorted(path.iterdir(), key=lambda p: p.name))
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(f"{path.name} is not a plain file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_faults(
    out: Path | ObjectPath,
    records: Sequence[ShardRecord],
    *,
    threads: int | None = None,
    compared: Compared | None = None,
) -> Iterator[tuple[ShardRecord, InputError | None]]:
    """Each record, in order, with how the shard that is there differs from it in size or digest, or None.

    Every byte is read, of several shards at a time; one of another size is not.

    Args:
        out: the corpus, in a folder or in object storage.
        records: what the manifest says.
        threads: shards read at a time; by default one a core, in object storage eight.
        compared: called before the first shard, and after each.

    Raises:
        InputError: the storage refuses, or does not answer.
    """
    if isinstance(out, ObjectPath):
        objects = objects_of_shards((out / "shards").sizes())

        def look(record: ShardRecord) -> InputError | None:
            return stored_shard_fault(out / "shards", record, objects.get(record.name, {}))

        faults = looked_at(look, records, threads or STORED_AT_ONCE)
    else:
        faults = looked_at(partial(shard_fault, out), records, threads)
    yield from told(faults, len(records), compared)


def looked_at(
    look: Callable[[Asked], Found], records: Sequence[Asked], threads: int | None = None
) -> Iterator[tuple[Asked, Found]]:
    """What ``look`` says of each record, in order, by several threads (one a core): digests let others run."""
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for first in range(0, len(records), _ASKED):
            some = records[first : first + _ASKED]
            yield from zip(some, pool.map(look, some), strict=True)


def told(faults: Iterable[Found], total: int, compared: Compared | None) -> Iterator[Found]:
    """What is found, as it comes; ``compared`` is told before the first and after each."""
    if compared is not None:
        compared(0, total)
    for number, found in enumerate(faults):
        yield found
        if compared is not None:
            compared(number + 1, total)


def _of_listing(files: Iterable[tuple[str, str]]) -> str:
    """The digest of a folder, of the digests and names of its files."""
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for sha256, name in files).encode()).hexdigest()


def shard_fault(folder: Path, record: ShardRecord) -> InputError | None:
    """How the shard in the corpus ``folder`` differs from its record in size or digest; None where it does not."""
    path = folder / "shards" / record.name
    try:
        if path.is_dir() and not path.is_symlink():
            size = sum(p.lstat().st_size for p in path.iterdir())
        else:
            size = path.lstat().st_size
        return _fault(path, record, size, lambda: digest(path))
    except FileNotFoundError:
        return _fault(path, record, None, str)
    except OSError as error:
        return InputError(path, f"not readable ({error.strerror or error})", "restore it")


def objects_of_shards(names: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """By shard, the objects that it is made of and their bytes, of a listing of ``shards/``."""
    found: dict[str, dict[str, int]] = {}
    for name, size in names.items():
        found.setdefault(name.partition("/")[0], {})[name] = size
    return found


def stored_shard_fault(shards: ObjectPath, record: ShardRecord, objects: Mapping[str, int]) -> InputError | None:
    """How a shard in object storage differs from its record; None where it does not.

    Its objects are read a MiB at a time, and not at all where their sizes tell already.

    Args:
        shards: the place of all shards.
        record: what the manifest says.
        objects: names below ``shards`` and bytes, as ``objects_of_shards`` has them.

    Raises:
        InputError: the storage refuses, or does not answer.
    """

    def read() -> str:
        if list(objects) == [record.name]:
            return (shards / record.name).sha256()
        below = sorted(name.removeprefix(f"{record.name}/") for name in objects)
        return _of_listing(((shards / record.name / name).sha256(), name) for name in below)

    try:
        return _fault(shards / record.name, record, sum(objects.values()) if objects else None, read)
    except InputError as error:
        if error.found != "there is no such object":  # it was there when it was listed
            raise
        return _fault(shards / record.name, record, None, read)


def _fault(
    path: Path | ObjectPath, record: ShardRecord, size: int | None, read: Callable[[], str]
) -> InputError | None:
    """How a shard of ``size`` bytes (None: it is missing) whose digest ``read`` says differs from its record."""
    if not record.scenes:
        if record.sha256 == EMPTY_DIGEST and not record.bytes:
            return None
        return InputError(path, "it has no scene but a size or digest", "restore the manifest")
    if size is None:
        return InputError(path, "it is missing", "restore it, or remake it with --resume")
    if size != record.bytes:
        return InputError(path, f"it has {size} bytes, not {record.bytes}", "restore it, or remake it")
    if read() != record.sha256:
        return InputError(path, "it was changed (other sha256 than in the manifest)", "restore it, or remake it")
    return None
