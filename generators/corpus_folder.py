"""The folder of a corpus while it is made: opened under a lock, fresh, resumed or replaced.

A run that ends before its first shard, by bad input or by hand, leaves the file system as it was: a fresh
folder goes, a corpus that was to be replaced comes back.
"""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dyncity.config_file import config_json
from dyncity.datasets.manifest import COMPANIONS, MANIFEST, Manifest, ShardRecord, read_manifest
from dyncity.errors import InputError
from dyncity.places import check_outside_corpora
from exporters.manifest import LOCK, TEMPORARY, RunLock, flush, sweep_leftovers, write_manifest
from exporters.shard_digests import Compared, shard_faults
from exporters.verification import JOURNALS
from generators.begun import Say, by_number, check_same_plan, deletion, is_begun
from generators.journal import committed_shards
from generators.plan import CorpusPlan

SHARDS = "shards"
_REPLACED = ".replaced"
_OWN = (MANIFEST, *COMPANIONS, SHARDS)


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """A corpus folder that this process holds the lock of.

    Attributes:
        out: the folder.
        journals: where the workers of this run tell how far they are.
        records: by shard number, the shards that are there and undamaged; more are added as they come.
    """

    out: Path
    journals: Path
    records: dict[int, ShardRecord] = field(default_factory=dict)

    def add(self, number: int, record: ShardRecord) -> None:
        """Take note of a shard that is there; what the corpus replaces goes with the first one."""
        if not self.records:
            _remove(self.out / _REPLACED)
        self.records[number] = record

    def manifest(self, plan: CorpusPlan) -> Manifest:
        """The manifest of the shards that are there."""
        return Manifest(plan.to_dict(), plan.fingerprint(), tuple(self.records[n] for n in sorted(self.records)))

    def save(self, manifest: Manifest) -> None:
        """Put the manifest in place in one step."""
        write_manifest(self.out, manifest)

    def sweep(self) -> None:
        """Remove what workers left that died while they wrote."""
        sweep_leftovers(self.out)

    def replace(self, name: str, write: Callable[[Path], object]) -> None:
        """Put a file in place in one step, by way of a temporary one that ``write`` makes."""
        temporary = self.out / f"{TEMPORARY}{secrets.token_hex(16)}{Path(name).suffix}"
        with disk_errors(self.out / name):
            try:
                write(temporary)
                flush(temporary)
                temporary.replace(self.out / name)
            finally:
                temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full, broken or forbidden file system as an InputError about ``path``."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        fix = "make room, then go on with --resume" if full else "choose a folder that can be written"
        raise InputError(path, f"cannot be written ({error.strerror or error})", fix) from error


@contextmanager
def open_folder(
    plan: CorpusPlan,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    say: Say | None = None,
    compared: Compared | None = None,
) -> Iterator[OpenFolder]:
    """Open ``out`` for the shards of ``plan``.

    Args:
        plan: what is going to be made.
        out: the folder; it is made where it is missing or empty.
        resume: go on with what is there, under the same plan.
        overwrite: replace the corpus that is there.
        say: told in one line what is going to be deleted, before anything is touched.
        compared: told how many shards of how many a resume has compared.

    Raises:
        InputError: something is there and neither is allowed, it is no corpus, it was begun under
            another plan, another process is at work in it, or it cannot be written.
    """
    if resume and overwrite:
        raise InputError("--resume", "given together with --overwrite", "choose one of them")
    with disk_errors(out):
        _check(out, resume, overwrite)
        created = _create(out)
    try:
        with RunLock(out):
            with disk_errors(out):
                _check(out, resume, overwrite)  # again: another run may have ended in between
            with _filled(plan, out, resume, overwrite, say, compared) as folder:
                yield folder
    except BaseException:
        for path in reversed(created):
            with suppress(OSError):
                path.rmdir()  # only where nothing was kept in it
        raise


def _check(out: Path, resume: bool, overwrite: bool) -> None:
    """Raise InputError unless ``out`` may be used."""
    check_outside_corpora(out)
    if out.is_symlink() and not out.exists():
        raise InputError(out, "it is a link that leads nowhere", "choose another folder")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(out, "it is not a folder", "choose another one")
    names = {p.name for p in out.iterdir()} - {LOCK}
    if not names:
        return
    if not (resume or overwrite):
        raise InputError(out, "already exists", "use --resume or --overwrite")
    foreign = [
        n for n in sorted(names.difference(_OWN)) if n not in (JOURNALS, _REPLACED) and not n.startswith(TEMPORARY)
    ]
    others = [name for name in foreign or sorted(names.intersection(_OWN)) if not _is_empty(out / name)]
    if others and (foreign or _REPLACED not in names) and not is_begun(out, foreign):
        raise InputError(out, f"it is no corpus: it holds {others[0]}", "choose another folder")
    if (out / SHARDS).is_symlink():
        raise InputError(out / SHARDS, "it is a link", "choose another folder")


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _create(out: Path) -> list[Path]:
    """Make the folder with its parents; returns those that were missing, outermost first."""
    missing: list[Path] = []
    path = out.absolute()
    while not path.exists():
        missing.insert(0, path)
        path = path.parent
    for path in missing:
        path.mkdir(exist_ok=True)
    return missing


@contextmanager
def _filled(
    plan: CorpusPlan, out: Path, resume: bool, overwrite: bool, say: Say | None, compared: Compared | None
) -> Iterator[OpenFolder]:
    """The folder with its plan written and its sound shards known; undone when the run ends before any."""
    with disk_errors(out):
        if overwrite and say is not None and (line := _to_be_deleted(out)):
            say(line)
        sweep_leftovers(out)
        records = _sound_records(plan, out, compared) if resume and (out / MANIFEST).exists() else {}
        folder = OpenFolder(out, out / JOURNALS / secrets.token_hex(8), records)
        if records:
            write_manifest(out, folder.manifest(plan))  # before the journals go that some of them come from
        _remove(out / JOURNALS)
        # A run that was killed while it replaced a corpus may have moved a part of it only.
        half_replaced = (out / _REPLACED).exists() and not records
        _remove(out / _REPLACED)
        if overwrite or half_replaced:
            _move_aside(out)
    try:
        with disk_errors(out):
            folder.journals.mkdir(parents=True)
            (out / SHARDS).mkdir(exist_ok=True)
        folder.replace("config.json", lambda path: path.write_text(config_json(plan.config)))
        folder.save(folder.manifest(plan))
        yield folder
    except BaseException:
        if not folder.records and not resume:
            for name in _OWN:
                _remove(out / name)
            _move_back(out)
        raise
    finally:
        sweep_leftovers(out)
        _remove(out / JOURNALS)


def _sound_records(plan: CorpusPlan, out: Path, compared: Compared | None) -> dict[int, ShardRecord]:
    """The shards of an interrupted run under the same plan; damaged ones are removed, to be made anew."""
    manifest = read_manifest(out)
    check_same_plan(plan, manifest, out)
    known = by_number(plan, manifest.shards, out)
    journals = sorted((out / JOURNALS).glob("*/*"))  # of a killed run
    known |= by_number(plan, committed_shards(journals, known).values(), out)
    records = {}
    for number, (record, fault) in zip(known, shard_faults(out, [*known.values()], compared=compared), strict=True):
        if fault is None:
            records[number] = record
        else:
            _remove(out / SHARDS / record.name)
    return records


def _to_be_deleted(out: Path) -> str:
    """What overwriting the corpus in ``out`` deletes, in one line; empty where there is nothing."""
    found = [path for name in _OWN if (path := out / name).exists()]
    files = [f for path in found for f in (path.rglob("*") if path.is_dir() else (path,)) if f.is_file()]
    if not files:
        return ""
    return deletion(out, [f.stat().st_size for f in files])


def _move_aside(out: Path) -> None:
    """Move a corpus into a folder inside it, manifest first, until the first shard of its successor is there."""
    aside = out / _REPLACED
    aside.mkdir()
    for name in _OWN:
        if (out / name).exists():
            (out / name).rename(aside / name)


def _move_back(out: Path) -> None:
    aside = out / _REPLACED
    if aside.exists():
        for path in aside.iterdir():
            path.rename(out / path.name)
        aside.rmdir()


def _remove(path: Path) -> None:
    """Remove a file or a folder, which orphans of a killed run may still be writing to."""
    for _ in range(3):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
