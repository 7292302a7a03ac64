"""Committing shards and the manifest: complete under their names or not there at all."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from dyncity.datasets.manifest import (
    COMPANIONS,
    EMPTY_DIGEST,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    FailedScene,
    Manifest,
    ShardRecord,
    manifest_json,
)
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from exporters.base import SceneExporter
from exporters.shard_digests import digest
from exporters.verification import verify_corpus

__all__ = [
    "LOCK",
    "TEMPORARY",
    "RunLock",
    "commit_shard",
    "digest",
    "flush",
    "settle",
    "sweep_leftovers",
    "verify_corpus",
    "write_file",
    "write_manifest",
]

TEMPORARY = ".tmp-"
LOCK = ".lock"
_FIXES = {
    errno.ENOSPC: "make room, then go on with --resume",
    errno.EFBIG: "make room, then go on with --resume",
    errno.EDQUOT: "make room, then go on with --resume",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
}


def commit_shard(
    folder: Path,
    shard: int,
    scenes: Iterable[OccupancyScene],
    failures: Sequence[FailedScene],
    exporter: SceneExporter,
    first_scene: int,
) -> ShardRecord:
    """Write one shard under a temporary name, flush it to the disk, rename it: all of it or nothing.

    Committing the same shard again changes nothing, whoever does it; other bytes under its name are an
    error. ``scenes`` may be a generator and ``failures`` a list that it appends to as it goes: it is
    read when the scenes have ended. A shard without a scene has a record and no file.

    Args:
        folder: the corpus; ``folder/shards`` is made as needed.
        shard: number of the shard.
        scenes: what goes into it, in order of their indices.
        failures: the scenes of its range that could not be made.
        exporter: writes it.
        first_scene: index of the first scene of its range.

    Raises:
        InputError: what the exporter refuses, a full disk, no permission, other bytes under its name.
    """
    target = Path(folder) / "shards" / exporter.shard_name(shard)
    temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    count = _Count(scenes)
    with _readable_errors(target):
        target.parent.mkdir(exist_ok=True)
        try:
            if count.any():
                exporter.write(count, temporary)
            size, sha256 = _flushed(temporary) if count.scenes else (0, EMPTY_DIGEST)
            if os.path.lexists(target) or (count.scenes and not _moved(temporary, target)):
                _check_same(target, sha256)
        finally:
            _remove(temporary)
    failed = tuple(sorted(failures, key=lambda f: f.index))
    return ShardRecord(target.name, size, sha256, first_scene, count.scenes, count.frames, failed)


class _Count:
    """An iterable that counts scenes and frames as they pass."""

    def __init__(self, scenes: Iterable[OccupancyScene]) -> None:
        self._scenes = iter(scenes)
        self._first: list[OccupancyScene] = []
        self.scenes = self.frames = 0

    def any(self) -> bool:
        """Whether there is a scene at all."""
        self._first = list(itertools.islice(self._scenes, 1))
        return bool(self._first)

    def __iter__(self) -> Iterator[OccupancyScene]:
        while self._first or self.any():
            scene = self._first.pop()
            self.scenes += 1
            self.frames += scene.frames
            yield scene
            del scene


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in place in one step, with the digests of README.md, config.json, preview.png.

    They are digested as they are now: write them first.

    Raises:
        InputError: a full disk, no permission, more than can be read again: then the one before stays.
    """
    folder = Path(folder)
    files = {name: digest(folder / name) for name in COMPANIONS if (folder / name).is_file()}
    ordered = tuple(sorted(manifest.shards, key=lambda s: s.first_scene))
    whole = replace(manifest, shards=ordered, files=files)
    write_file(folder / MANIFEST, _readable(folder / MANIFEST, whole))


def _readable(path: Path, manifest: Manifest) -> Iterator[bytes]:
    """The manifest in pieces, as long as readers take it."""
    size = 0
    for piece in map(str.encode, manifest_json(manifest)):
        size += len(piece)
        if size > MAX_MANIFEST_BYTES:
            found = f"with {manifest.failed} failed scenes it would be larger than the {MAX_MANIFEST_BYTES} bytes read"
            raise InputError(path, found, "find out why they fail, which it says of those before")
        yield piece


def write_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Put a file in place in one step: a reader sees the old one or the whole new one.

    Raises:
        InputError: a full disk, no permission.
    """
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    with _readable_errors(path):
        try:
            with open(temporary, "xb") as file:
                file.writelines(pieces)
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            _remove(temporary)


def sweep_leftovers(folder: Path) -> int:
    """Remove what killed runs left under temporary names; how many. Only under a ``RunLock``."""
    found = [p for parent in (Path(folder), Path(folder) / "shards") for p in parent.glob(f"{TEMPORARY}*")]
    for path in found:
        _remove(path)
    return len(found)


class RunLock:
    """``with RunLock(folder):`` one writer a corpus. A killed process frees the lock.

    Raises:
        InputError: on entry, when another run holds it or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / LOCK
        self._descriptor = -1

    def __enter__(self) -> RunLock:
        with _readable_errors(self.path):
            while self._descriptor < 0:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # The holder removes the file when it ends: what was locked must still be the file there.
                    if os.path.exists(self.path) and os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                        self._descriptor = descriptor
                except BlockingIOError:
                    raise InputError(
                        self.path.parent, "another run is writing there", "wait for it, or choose another folder"
                    ) from None
                finally:
                    if self._descriptor != descriptor:
                        os.close(descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = -1


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """A refusal of the file system as one line that says what to do."""
    try:
        yield
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "check the file system")
        raise InputError(path, f"cannot be written ({error.strerror or error})", fix) from error


def _moved(temporary: Path, target: Path) -> bool:
    """Rename a shard and flush the folder; False where another writer of it was quicker (a folder is not replaced)."""
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    flush(target.parent)
    return True


def _check_same(target: Path, sha256: str) -> None:
    """Raise InputError unless what is already at ``target`` has that digest."""
    found = digest(target)
    if found != sha256:
        raise InputError(
            target,
            f"is there already with other bytes (sha256 {found[:12]}, now {sha256[:12]})",
            "remove it, or start over with --overwrite",
        )


def _flushed(path: Path) -> tuple[int, str]:
    """Flush a new file or folder to the disk; its bytes and digest."""
    files = list(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        flush(file)
    if path.is_dir():
        flush(path)
    return sum(file.stat().st_size for file in files), digest(path)


def flush(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(folder: Path) -> None:
    """Have all that was written to the file system of a folder on the disk: many files at once, unlike ``flush``.

    Raises:
        OSError: something could not be written.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:  # not Linux
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a temporary file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
