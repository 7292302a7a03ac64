"""The place of a corpus in object storage while it is made: opened under a lease, fresh, resumed or replaced.

What ``generators.corpus_folder`` does with renames is done here with the order of things: an object is put
when it is complete, and the manifest after what it tells of.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dyncity.config_file import config_json
from dyncity.datasets.manifest import COMPANIONS, MANIFEST, Manifest, ShardRecord, read_manifest
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.patience import patiently
from exporters.manifest import write_manifest
from exporters.shard_digests import Compared, shard_faults
from exporters.verification import LEASE
from generators.begun import Say, by_number, check_same_plan, deletion, is_begun
from generators.lease import Lease
from generators.plan import CorpusPlan

SHARDS = "shards"
_OWN = {MANIFEST, *COMPANIONS, SHARDS}


@dataclass(frozen=True, slots=True)
class OpenPrefix:
    """A place in object storage that this process holds the lease of; as ``OpenFolder``, for the engine.

    Attributes:
        out: the place.
        journals: where the workers on this machine tell how far they are. It is named after the lease, and
            those on other machines have one of their own.
        staged: the local folder in which manifest, card, configuration and picture are written first.
        lease: what this run holds the place by.
        records: by shard number, the shards that are there; more are added as they come.
    """

    out: ObjectPath
    journals: Path
    staged: Path
    lease: Lease
    records: dict[int, ShardRecord] = field(default_factory=dict)

    def add(self, number: int, record: ShardRecord) -> None:
        """Take note of a shard that is there."""
        self.records[number] = record

    def manifest(self, plan: CorpusPlan) -> Manifest:
        """The manifest of the shards that are there."""
        return Manifest(plan.to_dict(), plan.fingerprint(), tuple(self.records[n] for n in sorted(self.records)))

    def replace(self, name: str, write: Callable[[Path], object]) -> None:
        """Put an object in place, by way of a file that ``write`` makes."""
        path = self.staged / name
        path.unlink(missing_ok=True)
        write(path)
        (self.out / name).upload(path)

    def save(self, manifest: Manifest) -> None:
        """Put the manifest in place, if no other run has taken over.

        Raises:
            InputError: one has, or the storage refuses.
        """
        write_manifest(self.staged, manifest)
        self.lease.check()
        (self.out / MANIFEST).upload(self.staged / MANIFEST)

    def sweep(self) -> None:
        """Remove what workers left that died while they wrote: nothing, an object is there as a whole."""


@contextmanager
def open_prefix(
    plan: CorpusPlan,
    out: ObjectPath,
    *,
    resume: bool,
    overwrite: bool,
    say: Say | None = None,
    compared: Compared | None = None,
) -> Iterator[OpenPrefix]:
    """Open a place in object storage for the shards of ``plan``.

    Args:
        plan: what is going to be made.
        out: the place; nothing has to be there but the bucket.
        resume: go on with what is there, under the same plan. Every byte of the shards is fetched and compared,
            several shards at a time.
        overwrite: remove the corpus that is there. Nothing can be moved aside: it does not come back.
        say: told in one line what is going to be deleted, before anything is touched.
        compared: told how many shards of how many a resume has compared.

    Raises:
        InputError: something is there and neither is allowed, it is no corpus, it was begun under
            another plan, another run is at work in it, no such bucket, no access, no answer.
    """
    if resume and overwrite:
        raise InputError("--resume", "given together with --overwrite", "choose one of them")
    _check(out, resume, overwrite)
    with Lease(out) as lease, tempfile.TemporaryDirectory(prefix="dyncity-") as folder:
        _check(out, resume, overwrite)  # again: another run may have ended in between
        records = _sound_records(plan, out, compared) if resume and (out / MANIFEST).exists() else {}
        if overwrite:
            if say is not None and (sizes := _own_sizes(out)):
                say(deletion(out, sizes))
            _remove(out)
        journals = journals_of(lease)
        prefix = OpenPrefix(out, journals, Path(folder), lease, records)
        try:
            journals.mkdir()
            prefix.replace("config.json", lambda path: path.write_text(config_json(plan.config)))
            prefix.save(prefix.manifest(plan))
            yield prefix
        except BaseException:
            if not prefix.records and not resume:
                with suppress(InputError):  # the storage may be what this run ended of
                    _remove(out)
            raise
        finally:
            shutil.rmtree(journals, ignore_errors=True)


def journals_of(lease: Lease) -> Path:
    """Where the workers of the run that holds a lease keep their journals, on each machine."""
    return Path(tempfile.gettempdir()) / f"dyncity-journals{lease.path.name}"


def is_taken_over(out: ObjectPath, journals: Path) -> bool:
    """Whether the lease of the run that ``journals`` belongs to is gone."""
    return not patiently((out / f"{LEASE}{journals.name.rpartition(LEASE)[2]}").exists)


def _check(out: ObjectPath, resume: bool, overwrite: bool) -> None:
    """Raise InputError unless ``out`` may be used."""
    sizes = {name: size for name, size in out.sizes(recursive=False).items() if not name.startswith(LEASE)}
    # What stands for a folder stays when the last object in it is removed: it counts as nothing.
    names = {name for name, size in sizes.items() if size >= 0 or max(sizes.values()) >= 0 or (out / name).sizes()}
    if not names:
        return
    if not (resume or overwrite):
        raise InputError(out, "already exists", "use --resume or --overwrite")
    foreign = sorted(names - _OWN)
    if not is_begun(out, foreign):
        raise InputError(out, f"it is no corpus: it holds {(foreign or sorted(names))[0]}", "choose another place")


def _own_sizes(out: ObjectPath) -> list[int]:
    """The bytes of all objects of a corpus."""
    return [size for name, size in out.sizes().items() if name.partition("/")[0] in _OWN]


def _sound_records(plan: CorpusPlan, out: ObjectPath, compared: Compared | None) -> dict[int, ShardRecord]:
    """The shards of an interrupted run under the same plan; damaged ones are removed, to be made anew."""
    manifest = read_manifest(out)
    check_same_plan(plan, manifest, out)
    known = by_number(plan, manifest.shards, out)
    records = {}
    for number, (record, fault) in zip(known, shard_faults(out, [*known.values()], compared=compared), strict=True):
        shard = out / SHARDS / record.name
        if fault is None:
            records[number] = record
        else:
            for path in (shard, *(shard / name for name in shard.sizes())):
                path.remove()
    return records


def _remove(out: ObjectPath) -> None:
    """Remove a corpus and nothing else; the manifest first, without which the rest is nothing."""
    for name in (MANIFEST, *COMPANIONS):
        (out / name).remove()
    (out / SHARDS).remove_all()
