"""The manifest of a corpus: its records, and reading it strictly.

A manifest is input from outside. Nothing in it can name a file outside ``shards/``, and a damaged or
made-up one is refused with a line that says where, in memory bounded by its size on disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from dyncity.config_file import from_dict, to_dict
from dyncity.datasets.long_json import members_of
from dyncity.errors import InputError
from dyncity.folder_kind import CORPUS, not_wanted
from dyncity.object_storage import ObjectPath

FORMAT = "dyncity-corpus"
VERSION = 1
MANIFEST = "manifest.json"
COMPANIONS = ("README.md", "config.json", "preview.png")
MAX_MANIFEST_BYTES = 256 * 2**20  # half a million shards, or a million failed scenes in shards of some
_DENSE_BYTES = 8 * 2**20  # beyond so many, a value has to take 8 bytes: "{}," would take 30 times its size in memory
_CHUNK = 256  # records that are encoded together

_KEYS = ("format", "version", "plan", "fingerprint", "files", "shards", "sha256")
_SHARD_NAME = re.compile(r"[0-9]{5,12}(\.parquet)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_MANIFEST, _FIX = "there is no manifest.json in it", "give the folder of a corpus"
EMPTY_DIGEST = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class FailedScene:
    """A scene that was asked for and could not be made: its number, root seed and the reason."""

    index: int
    seed: int
    reason: str


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What the manifest says of one shard.

    Attributes:
        name: its name below ``shards/``: ``00007.parquet`` (a file) or ``00007`` (a folder of npz).
        bytes: size, of all its files.
        sha256: digest of the file, or of the folder (``docs/corpus-format.md``). A shard none of whose
            scenes could be made has no file, 0 bytes and the digest of nothing.
        first_scene: index of its first scene.
        scenes: scenes written; its range is ``[first_scene, first_scene + scenes + failures)``.
        frames: frames of all its scenes.
        failures: the scenes of its range that are not in it.
    """

    name: str
    bytes: int
    sha256: str
    first_scene: int
    scenes: int
    frames: int
    failures: tuple[FailedScene, ...] = ()

    @property
    def end(self) -> int:
        """The index after its last scene."""
        return self.first_scene + self.scenes + len(self.failures)


_RECORD_FIELDS = tuple(f.name for f in fields(ShardRecord) if f.name != "failures")
_LINE = json.JSONEncoder(allow_nan=False)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole manifest.

    Attributes:
        plan: what was asked for; ``plan["num_scenes"]`` is the number of scenes requested.
        fingerprint: digest of all that decides the bytes; a resume under another one is refused.
        shards: by first scene, ranges apart from each other; gaps are shards not made yet.
        files: sha256 of README.md, config.json, preview.png when the manifest was written.
    """

    plan: dict[str, Any]
    fingerprint: str
    shards: tuple[ShardRecord, ...]
    files: dict[str, str] = field(default_factory=dict)

    @property
    def requested(self) -> int:
        """Scenes asked for."""
        return int(self.plan["num_scenes"])

    @property
    def written(self) -> int:
        """Scenes in the shards."""
        return sum(s.scenes for s in self.shards)

    @property
    def failed(self) -> int:
        """Scenes recorded as failed."""
        return sum(len(s.failures) for s in self.shards)

    @property
    def complete(self) -> bool:
        """Whether every scene asked for is either written or recorded as failed."""
        return self.requested == self.written + self.failed


def manifest_json(manifest: Manifest) -> Iterator[str]:
    """The manifest as JSON text, in pieces, a line a shard; ``sha256`` is the digest of all the rest of it."""
    heads = {
        "format": FORMAT,
        "version": VERSION,
        "plan": manifest.plan,
        "fingerprint": manifest.fingerprint,
        "files": dict(sorted(manifest.files.items())),
    }
    yield "{\n"
    for key, value in heads.items():
        yield f" {_LINE.encode(key)}: {_LINE.encode(value)},\n"
    yield ' "shards": ['
    digest = _Digest(manifest.plan, manifest.fingerprint, manifest.files)
    separator = "\n  "
    for chunk in _chunks(manifest.shards):
        digest.update(chunk)
        yield separator + ",\n  ".join(map(_LINE.encode, chunk))
        separator = ",\n  "
    yield ("\n ]" if manifest.shards else "]") + f',\n "sha256": "{digest.hexdigest()}"\n}}\n'


def _chunks(records: Sequence[ShardRecord]) -> Iterator[list[dict[str, Any]]]:
    """The records as JSON values, some at a time."""
    values = map(_values, records)
    while chunk := list(islice(values, _CHUNK)):
        yield chunk


def _values(record: ShardRecord) -> dict[str, Any]:
    """A record as JSON values; ``to_dict`` would take five times as long, and there is one a shard."""
    values = {name: getattr(record, name) for name in _RECORD_FIELDS}
    return values | {"failures": [to_dict(f) for f in record.failures]}


class _Digest:
    """sha256 of a manifest without its own digest, as canonical JSON (sorted keys, no spaces), records as they come."""

    def __init__(self, plan: dict[str, Any], fingerprint: str, files: dict[str, str]) -> None:
        head = _CANONICAL.encode({"files": files, "fingerprint": fingerprint, "format": FORMAT, "plan": plan})
        self._sha256 = hashlib.sha256(f'{head[:-1]},"shards":['.encode())
        self._comma = b""

    def update(self, records: list[dict[str, Any]]) -> None:
        """The next records; at least one."""
        self._sha256.update(self._comma + _CANONICAL.encode(records)[1:-1].encode())
        self._comma = b","

    def hexdigest(self) -> str:
        """The digest, after the last record."""
        self._sha256.update(f'],"version":{VERSION}}}'.encode())
        return self._sha256.hexdigest()


def read_manifest(folder: Path | ObjectPath) -> Manifest:
    """The manifest of a corpus, in a folder or in object storage, read strictly.

    Raises:
        InputError: no folder, no manifest, no JSON, another version, unknown or missing keys, names
            that are not those of shards, negative sizes, ranges that overlap or exceed the plan, a
            digest that is not that of the contents.
    """
    if isinstance(folder, ObjectPath):
        with folder.local(MANIFEST, most=MAX_MANIFEST_BYTES) as copy:
            return read_manifest(copy)
    path = Path(folder) / MANIFEST
    values, shards = _read_json(Path(folder), path)
    where = str(path)
    if values.get("format") != FORMAT:
        raise InputError(where, "it is not the manifest of a corpus", "give a folder that dyncity wrote")
    if values.get("version") != VERSION:
        raise InputError(where, f"found format version {values.get('version')!r}", f"this reads {VERSION}")
    return _checked(values, shards, where)


def _read_json(folder: Path, path: Path) -> tuple[dict[str, Any], _Shards]:
    """The JSON mapping in ``path``, and the records that its list of shards held; anything else is an InputError."""
    if not folder.is_dir():
        raise not_wanted(folder, _NO_MANIFEST, _FIX, CORPUS)
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise not_wanted(folder, _NO_MANIFEST, _FIX, CORPUS) from None
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror})", "check the file") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(path, "it is not a plain file", _FIX)
    if status.st_size > MAX_MANIFEST_BYTES:
        raise InputError(path, f"it has {status.st_size} bytes", f"at most {MAX_MANIFEST_BYTES} are read")
    shards = _Shards(str(path))
    try:
        text = path.read_text("ascii")  # as it is written; one other character would take four bytes for each
        if len(text) > _DENSE_BYTES and text.count(",") > len(text) // 8:
            raise ValueError("more values than a list of shards has")
        return members_of(text, "shards", shards.take), shards
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"not readable as JSON ({error})", "restore the file") from None


class _Shards:
    """The records of a manifest as they are read. What is wrong with the first bad one is told when all is read."""

    def __init__(self, where: str) -> None:
        self.records: list[ShardRecord] = []
        self._where = where
        self.fault: InputError | None = None

    def take(self, values: Any) -> None:
        """The next record."""
        if self.fault is None:
            try:
                self.records.append(record_from_json(values, f"{self._where}, shard {len(self.records)}"))
            except InputError as error:
                self.fault = error


def _checked(values: dict[str, Any], shards: _Shards, where: str) -> Manifest:
    """The manifest from plain values and records; every count and name checked."""
    if set(values) != set(_KEYS):
        odd = ", ".join(sorted(set(values) ^ set(_KEYS)))[:80]
        raise InputError(where, f"unknown or missing keys: {odd}", "restore the file")
    if not isinstance(values["fingerprint"], str) or not isinstance(values["sha256"], str):
        raise InputError(where, "its fingerprint or sha256 is no text", "restore the file")
    plan, files, records = values["plan"], values["files"], shards.records
    if not isinstance(plan, dict) or type(plan.get("num_scenes")) is not int or plan["num_scenes"] < 0:
        raise InputError(where, "its plan does not say num_scenes", "restore the file")
    if not isinstance(files, dict) or not all(
        name in COMPANIONS and isinstance(digest, str) and _DIGEST.fullmatch(digest) for name, digest in files.items()
    ):
        raise InputError(where, "its files are not README.md, config.json, preview.png", "restore the file")
    if values["shards"] != []:  # a list is read already
        raise InputError(where, "its shards are not a list", "restore the file")
    if shards.fault is not None:
        raise shards.fault
    end = 0
    for record in records:
        if record.first_scene < end:
            raise InputError(where, f"the range of shard {record.name} overlaps the one before", "restore the file")
        end = record.end
    if end > plan["num_scenes"]:
        raise InputError(where, f"its shards end at scene {end}, beyond the plan", "restore the file")
    if len({r.name for r in records}) != len(records):
        raise InputError(where, "two shards have the same name", "restore the file")
    digest = _Digest(plan, values["fingerprint"], files)
    for chunk in _chunks(records):
        digest.update(chunk)
    if values["sha256"] != digest.hexdigest():
        raise InputError(where, "its sha256 is not that of its contents", "restore it; it was changed")
    return Manifest(plan, values["fingerprint"], tuple(records), files)


def record_from_json(values: Any, where: str) -> ShardRecord:
    """One shard record from plain values, every one checked.

    Raises:
        InputError: it is none; the message begins with ``where``.
    """
    failures = values.get("failures") if isinstance(values, dict) else None
    if not isinstance(failures, list):
        raise InputError(where, "it has no list of failures", "restore the file")
    record = from_dict(ShardRecord, {k: v for k, v in values.items() if k != "failures"}, where)
    if failures:
        failed = tuple(from_dict(FailedScene, f, where, "failures") for f in failures)
        record = replace(record, failures=failed)
    if not _SHARD_NAME.fullmatch(record.name):
        raise InputError(where, f"found name {record.name[:60]!r}", "shards are named 00000.parquet or 00000")
    if not _DIGEST.fullmatch(record.sha256):
        raise InputError(where, f"found sha256 {record.sha256[:80]!r}", "restore the file")
    if min(record.bytes, record.first_scene, record.scenes, record.frames) < 0:
        raise InputError(where, "a count is negative", "restore the file")
    if record.frames < record.scenes or (record.scenes == 0) != (record.bytes == 0):
        raise InputError(where, "its scenes, frames and bytes do not agree", "restore the file")
    indices = [f.index for f in record.failures]
    if sorted(set(indices)) != indices or any(not record.first_scene <= i < record.end for i in indices):
        raise InputError(where, f"failures {indices[:8]} are not in its range, in order", "restore the file")
    return record
