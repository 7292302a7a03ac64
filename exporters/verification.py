"""Checking a corpus: every byte against the manifest, every scene against what its shard declares."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dyncity.config_file import read_config
from dyncity.datasets.corpus import open_shard, read_manifest
from dyncity.datasets.layout import ShardLayout
from dyncity.datasets.manifest import COMPANIONS, EMPTY_DIGEST, MANIFEST, Manifest, ShardRecord, manifest_json
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy

# Opens a context in which a shard is there to be looked at.
Fetched = Callable[[ShardRecord], AbstractContextManager[object]]
LEASE = ".lease-"  # objects that runs in object storage hold a corpus by
_ASKED = 1024  # shards that wait for a thread at a time: there may be half a million
_REQUIRED = ("README.md", "config.json")
_EXPECTED = {*COMPANIONS, MANIFEST, "shards", ".lock"}


class _Checked(NamedTuple):
    """What looking at one shard came to.

    Attributes:
        finding: the first thing that is wrong with it, or None.
        layout: what it declares of its scenes; None where they were not read.
        names: of its scenes.
    """

    finding: str | None = None
    layout: ShardLayout | None = None
    names: tuple[str, ...] = ()


def digest(path: Path) -> str:
    """sha256 of a shard: of the file, or of the listing of the folder.

    The listing is what ``sha256sum *`` prints in the folder: a line ``<sha256>  <name>`` a file, by name.

    Raises:
        OSError: something is not a plain file, or not readable.
    """
    if not path.is_symlink() and path.is_dir():
        lines = [f"{digest(p)}  {p.name}\n" for p in sorted(path.iterdir(), key=lambda p: p.name)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(f"{path.name} is not a plain file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_corpus(folder: Path | ObjectPath, *, decode: bool = False, threads: int | None = None) -> list[str]:
    """What is wrong with a corpus, one line a finding; empty where every byte is as it was written.

    Finds changed, truncated, missing, extra and swapped files (shards, card, configuration, preview),
    counts that do not add up, unfinished runs; decoding, also rows that do not read, class ids without a
    class, poses that do not start at the identity. Shards are looked at several at a time; a thread holds
    one group of scenes.

    Args:
        folder: the corpus.
        decode: read every scene too, which tells whether the writer was right; damage shows in sizes and digests.
        threads: shards looked at at a time; by default one a core.

    One in object storage is fetched for that shard by shard, and needs room for one a thread.

    Raises:
        InputError: there is no such folder, or it is no corpus at all.
    """
    if isinstance(folder, ObjectPath):
        return _stored(folder, decode, threads)
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "there is no such folder", "give the folder of a corpus")
    if not (folder / MANIFEST).exists() and not (folder / "shards").exists():
        raise InputError(folder, "it is no corpus: there is no manifest.json", "give the folder of a corpus")
    return _findings(folder, _extra, nullcontext, decode, threads)


def _findings(
    folder: Path,
    extra: Callable[[Path, Manifest], Iterator[str]],
    fetched: Fetched,
    decode: bool,
    threads: int | None,
) -> list[str]:
    """What is wrong in a folder, whose shards are there while ``fetched(record)`` is open."""
    try:
        manifest = read_manifest(folder)
    except InputError as error:
        return [str(error)]
    with open(folder / MANIFEST, "rb") as file:
        pieces = map(str.encode, manifest_json(manifest))
        written = all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)
    if not written:
        return [f"{folder / MANIFEST}: its layout was changed, though not what it says"]
    return [
        *_companions(folder, manifest),
        *extra(folder, manifest),
        *_counts(manifest),
        *(found for _, found in shard_findings(folder, manifest, decode=decode, threads=threads, fetched=fetched)),
    ]


def shard_findings(
    folder: Path,
    manifest: Manifest,
    *,
    decode: bool = False,
    threads: int | None = None,
    fetched: Fetched = nullcontext,
) -> Iterator[tuple[ShardRecord, str]]:
    """The shards that are not what the manifest says, in order, each with the first thing that is wrong with it.

    Args:
        folder: the corpus.
        manifest: its manifest.
        decode, threads: as for ``verify_corpus``.
        fetched: the shard is in the folder while this is open.
    """
    layout: ShardLayout | None = None
    names: set[str] = set()
    # Digests and decompression leave the interpreter to other threads.
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        look, shards = partial(_check_shard, folder, fetched, decode), manifest.shards
        checked = (
            one for first in range(0, len(shards), _ASKED) for one in pool.map(look, shards[first : first + _ASKED])
        )
        for record, (finding, found, scenes) in zip(manifest.shards, checked, strict=True):
            path = folder / "shards" / record.name
            if finding is not None:
                yield record, finding
            elif found not in (None, layout or found):
                yield record, f"{path}: its grid, labels or columns are not those of the others; restore it"
            elif twice := [name for name, count in Counter(scenes).items() if count > 1 or name in names]:
                yield record, f"{path}: scene {twice[0]} is there twice; restore the shard"
            layout = layout or found
            names.update(scenes)


def _stored(place: ObjectPath, decode: bool, threads: int | None) -> list[str]:
    """What is wrong with a corpus in object storage, by way of a folder that holds one shard a thread."""
    sizes = place.sizes()
    if MANIFEST not in sizes and not any(name.startswith("shards/") for name in sizes):
        raise InputError(place, "it is no corpus: there is no manifest.json", "give the place of a corpus")

    names_of: dict[str, list[str]] = {}  # the objects of each shard
    for name in sizes:
        top, _, below = name.partition("/")
        if top == "shards":
            names_of.setdefault(below.partition("/")[0], []).append(name)

    def extra(copy: Path, manifest: Manifest) -> Iterator[str]:
        records = {record.name for record in manifest.shards if record.scenes}
        for name in sizes:
            top, _, below = name.partition("/")
            known = below.partition("/")[0] in records if top == "shards" else not below and top in _EXPECTED
            if not known and not name.startswith(LEASE):
                yield f"{place / name}: it does not belong to the corpus"

    with place.local(MANIFEST, *COMPANIONS) as copy:

        @contextmanager
        def fetched(record: ShardRecord) -> Iterator[None]:
            shard = copy / "shards" / record.name
            names = names_of.get(record.name, [])
            size = sum(sizes[name] for name in names)
            if names and size != record.bytes:  # not fetched: it may be of any size
                raise InputError(shard, f"it has {size} bytes, not {record.bytes}", "restore it, or remake it")
            try:
                for name in names:
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    (place / name).download(copy / name, record.bytes)
                yield
            finally:
                for name in names:
                    (copy / name).unlink(missing_ok=True)

        return [finding.replace(str(copy), str(place)) for finding in _findings(copy, extra, fetched, decode, threads)]


def _companions(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Card, configuration and preview: there, and as they were when the manifest was written."""
    for name in COMPANIONS:
        path = folder / name
        if name not in _REQUIRED and name not in manifest.files and not path.exists():
            continue
        try:
            changed = name in manifest.files and digest(path) != manifest.files[name]
        except OSError:
            yield f"{path}: it is missing or not a plain file"
            continue
        if changed:
            yield f"{path}: it was changed (other sha256 than in the manifest)"
        elif not path.exists():
            yield f"{path}: it is missing"
    if (folder / "config.json").exists():
        try:
            read_config(folder / "config.json")
        except InputError as error:
            yield str(error)


def _extra(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Files that the manifest does not know."""
    shards = folder / "shards"
    known = {record.name for record in manifest.shards if record.scenes}
    for parent, expected in ((folder, _EXPECTED), (shards, known)):
        if parent.is_symlink():
            yield f"{parent}: it is a link; a corpus is checked in the folder that it lies in"
            continue
        if not parent.is_dir():
            if known:
                yield f"{parent}: it is not a folder"
            continue
        for path in sorted(parent.iterdir()):
            if path.name not in expected:
                yield f"{path}: it does not belong to the corpus"


def _counts(manifest: Manifest) -> Iterator[str]:
    """Whether every scene asked for is accounted for."""
    if not manifest.complete:
        yield (
            f"manifest.json: {manifest.requested} scenes were asked for, {manifest.written} are written and "
            f"{manifest.failed} failed: the run did not end; go on with --resume"
        )


def _check_bytes(folder: Path, record: ShardRecord) -> None:
    """Size and digest of a shard against its record."""
    path = folder / "shards" / record.name
    if not record.scenes:
        if record.sha256 != EMPTY_DIGEST or record.bytes:
            raise InputError(path, "it has no scene but a size or digest", "restore the manifest")
        return
    try:
        if path.is_dir() and not path.is_symlink():
            size = sum(p.lstat().st_size for p in path.iterdir())
        else:
            size = path.lstat().st_size
        found = digest(path) if size == record.bytes else None
    except FileNotFoundError:
        raise InputError(path, "it is missing", "restore it, or remake it with --resume") from None
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror or error})", "restore it") from None
    if found is None:
        raise InputError(path, f"it has {size} bytes, not {record.bytes}", "restore it, or remake it")
    if found != record.sha256:
        raise InputError(path, "it was changed (other sha256 than in the manifest)", "restore it, or remake it")


def _check_shard(folder: Path, fetched: Fetched, decode: bool, record: ShardRecord) -> _Checked:
    """Look at one shard, by itself."""
    try:
        with fetched(record):
            _check_bytes(folder, record)
            return _check_scenes(folder, record) if decode and record.scenes else _Checked()
    except InputError as error:
        return _Checked(str(error))


def _check_scenes(folder: Path, record: ShardRecord) -> _Checked:
    """Read every scene of a shard."""
    shard = open_shard(folder, record)
    frames = 0
    names: list[str] = []
    for group in dict.fromkeys(group for _, group, _ in shard.index()):
        for scene in shard.read(group):
            frames += scene.frames
            _check_scene(scene, shard.path)
            names.append(scene.scene_id)
    if (len(names), frames) != (record.scenes, record.frames):
        raise InputError(
            shard.path,
            f"it holds {len(names)} scenes of {frames} frames, recorded are {record.scenes} of {record.frames}",
            "restore the shard or the manifest",
        )
    return _Checked(None, shard.layout, tuple(names))


def _check_scene(scene: OccupancyScene, path: object) -> None:
    """Class ids, first pose and boxes of one scene."""
    where = f"{path}, scene {scene.scene_id}"
    classes = len(taxonomy(scene.taxonomy))
    odd = (scene.semantics >= classes) & (scene.semantics != UNKNOWN)
    if odd.any():
        ids = np.unique(scene.semantics[odd]).tolist()
        raise InputError(where, f"class ids {ids[:8]} have no class in {scene.taxonomy}", "remake the shard")
    if not np.array_equal(scene.poses[0], np.eye(4)):
        raise InputError(where, "its first pose is not the identity", "remake the shard")
    for name in ("mask_lidar", "mask_camera"):
        mask = getattr(scene, name)
        if mask is not None and mask.max(initial=0) > 1:
            raise InputError(where, f"{name} holds other values than 0 and 1", "remake the shard")
    boxes = scene.boxes
    if boxes is not None and len(boxes):
        if not 0 <= boxes.frame.min() <= boxes.frame.max() < scene.frames:
            raise InputError(where, "it has boxes in frames that do not exist", "remake the shard")
        if any(i >= classes and i != UNKNOWN for i in boxes.label.tolist()):
            raise InputError(where, "a box has a class id without a class", "remake the shard")
