"""What is there before a run begins: is it a corpus, and what does overwriting it delete?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from dyncity.config import Config
from dyncity.config_file import read_config
from dyncity.datasets.manifest import Manifest, ShardRecord, read_manifest
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from generators.plan import CorpusPlan, difference

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


def check_same_plan(plan: CorpusPlan, manifest: Manifest, out: Path | ObjectPath) -> None:
    """Raise InputError unless the corpus was begun under this plan; the line names the first difference."""
    if manifest.fingerprint != plan.fingerprint():
        what = difference(manifest.plan, plan.to_dict()) or "its fingerprint is another one"
        raise InputError(out, f"it was begun under another plan: {what}", "ask for the same, or use --overwrite")


def by_number(plan: CorpusPlan, records: Iterable[ShardRecord], out: Path | ObjectPath) -> dict[int, ShardRecord]:
    """Records by the number that their shard has in the plan.

    Raises:
        InputError: one of them is of no shard of the plan's: somebody else wrote the manifest.
    """
    found, shards = {}, plan.shards
    for record in records:
        number = record.first_scene // plan.shard_size
        shard = shards[number] if number < len(shards) else None
        said = (record.name.partition(".")[0], record.first_scene, record.end)
        if shard is None or said != (f"{number:05d}", shard.first, shard.first + shard.scenes):
            raise InputError(out, f"shard {record.name} is none of its plan's", "make it anew with --overwrite")
        found[number] = record
    return found


def deletion(out: Path | ObjectPath, sizes: Collection[int]) -> str:
    """What overwriting a corpus of files of so many bytes deletes, in one line."""
    size = f"{sum(sizes)} bytes"
    try:
        manifest = read_manifest(out)
    except InputError:
        return f"--overwrite deletes {out}: {len(sizes)} files, {size}, without a manifest that can be read"
    shards = sum(record.scenes > 0 for record in manifest.shards)
    return f"--overwrite deletes {out}: {manifest.written} scenes in {shards} shards, {size}"
