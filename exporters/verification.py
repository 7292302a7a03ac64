"""Checking a corpus: every byte against the manifest, every scene against what its shard declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dyncity.config_file import read_config
from dyncity.datasets.corpus import open_shard, read_manifest
from dyncity.datasets.layout import ShardLayout
from dyncity.datasets.manifest import COMPANIONS, MANIFEST, MAX_MANIFEST_BYTES, Manifest, ShardRecord, manifest_json
from dyncity.errors import InputError
from dyncity.folder_kind import CORPUS, not_wanted
from dyncity.object_storage import ObjectPath
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.shard_digests import (
    STORED_AT_ONCE,
    Compared,
    digest,
    looked_at,
    objects_of_shards,
    shard_fault,
    stored_shard_fault,
    told,
)

LEASE = ".lease-"  # objects that runs in object storage hold a corpus by
_CARD = "README.md"
_REQUIRED = (_CARD, "config.json")
_EXPECTED = {*COMPANIONS, MANIFEST, "shards", ".lock"}
_FOREIGN = "it does not belong to the corpus"
JOURNALS = ".progress"  # of a run that did not end, which has no card yet


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


def verify_corpus(
    folder: Path | ObjectPath,
    *,
    decode: bool = False,
    threads: int | None = None,
    compared: Compared | None = None,
) -> list[str]:
    """What is wrong with a corpus, one line a finding; empty where every byte is as it was written.

    Finds changed, truncated, missing, extra and swapped files (shards, card, configuration, preview),
    counts that do not add up, unfinished runs; decoding, also rows that do not read, class ids without a
    class, poses that do not start at the identity. Shards are looked at several at a time; a thread holds
    one group of scenes.

    Args:
        folder: the corpus.
        decode: read every scene too, which tells whether the writer was right; damage shows in sizes and digests.
        threads: shards looked at at a time; by default one a core, eight where they are digested in object storage.
        compared: told how many shards of how many were looked at.

    Of one in object storage a shard a thread is fetched to be decoded, and needs room in the temporary folder.

    Raises:
        InputError: there is no such folder, or it is no corpus at all; the storage refuses, or does not answer.
    """
    if isinstance(folder, ObjectPath):
        return _stored(folder, decode, threads, compared)
    folder = Path(folder)
    if not folder.is_dir():
        raise not_wanted(folder, "it is no folder", "give a corpus, or an exported tree")
    if not (folder / MANIFEST).exists() and not (folder / "shards").exists():
        missing = "it is no corpus: there is no manifest.json"
        raise not_wanted(folder, missing, "give a corpus, or an exported tree", CORPUS)
    folder = folder.resolve() if folder.is_symlink() else folder  # a link that was named; none in it is followed
    return _findings(folder, _extra, partial(_look, folder, decode), threads, compared)


def is_repairable(folder: Path | ObjectPath, findings: Sequence[str]) -> bool:
    """Whether ``dyncity generate --repair`` is the way to go on from what ``verify_corpus`` found.

    It makes what a whole manifest tells of again, where the manifest says how the scenes were made; what does not
    belong to a corpus it leaves.
    """
    try:
        manifest = read_manifest(folder)
    except InputError:
        return False
    made_of = manifest.plan.get("fingerprint_of_generator")
    known = manifest.plan.get("generator") in ("diffusion", "procedural") and isinstance(made_of, dict)
    own = any(not finding.endswith(_FOREIGN) for finding in findings)
    return manifest.complete and known and own and "edited_corpus_sha256" not in (made_of or {})


def _findings(
    folder: Path,
    extra: Callable[[Path, Manifest], Iterator[str]],
    look: Callable[[ShardRecord], _Checked],
    threads: int | None,
    compared: Compared | None,
) -> list[str]:
    """What is wrong in a folder, whose shards ``look`` knows how to look at."""
    try:
        manifest = read_manifest(folder)
    except InputError as error:
        return [str(error)]
    with open(folder / MANIFEST, "rb") as file:
        pieces = map(str.encode, manifest_json(manifest))
        written = all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)
    if not written:
        return [f"{folder / MANIFEST}: its layout was changed, though not what it says"]
    shards = manifest.shards
    return [
        *_counts(manifest),
        *_companions(folder, manifest),
        *extra(folder, manifest),
        *_shard_findings(folder, told(looked_at(look, shards, threads), len(shards), compared)),
    ]


def _shard_findings(folder: Path, looked: Iterable[tuple[ShardRecord, _Checked]]) -> Iterator[str]:
    """The first thing that is wrong with each shard that is not what the manifest says, in order."""
    layout: ShardLayout | None = None
    names: set[str] = set()
    for record, (finding, found, scenes) in looked:
        path = folder / "shards" / record.name
        if finding is not None:
            yield finding
        elif found not in (None, layout or found):
            yield f"{path}: its grid, labels or columns are not those of the others; restore it"
        elif twice := [name for name, count in Counter(scenes).items() if count > 1 or name in names]:
            yield f"{path}: scene {twice[0]} is there twice; restore the shard"
        layout = layout or found
        names.update(scenes)


def _stored(place: ObjectPath, decode: bool, threads: int | None, compared: Compared | None) -> list[str]:
    """What is wrong with a corpus in object storage: digested there; decoding, in a folder with a shard a thread."""
    sizes = place.sizes()
    if MANIFEST not in sizes and not any(name.startswith("shards/") for name in sizes):
        raise InputError(place, "it is no corpus: there is no manifest.json", "give the place of a corpus")

    objects = objects_of_shards(
        {name.removeprefix("shards/"): size for name, size in sizes.items() if name.startswith("shards/")}
    )

    def extra(copy: Path, manifest: Manifest) -> Iterator[str]:
        records = {record.name for record in manifest.shards if record.scenes}
        for name in sizes:
            top, _, below = name.partition("/")
            known = below.partition("/")[0] in records if top == "shards" else not below and top in _EXPECTED
            if not known and not name.startswith(LEASE):
                yield f"{place / name}: {_FOREIGN}"

    with place.local(MANIFEST, *COMPANIONS, most=MAX_MANIFEST_BYTES) as copy:

        def digested(record: ShardRecord) -> _Checked:
            fault = stored_shard_fault(place / "shards", record, objects.get(record.name, {}))
            return _Checked(None if fault is None else str(fault))

        def decoded(record: ShardRecord) -> _Checked:
            names = objects.get(record.name, {})
            if sum(names.values()) != record.bytes:  # not fetched: it may be of any size
                return digested(record)
            try:
                for name in names:
                    path = copy / "shards" / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    (place / "shards" / name).download(path, record.bytes)
                return _look(copy, True, record)
            finally:
                for name in names:
                    (copy / "shards" / name).unlink(missing_ok=True)

        look, threads = (decoded, threads) if decode else (digested, threads or STORED_AT_ONCE)
        return [finding.replace(str(copy), str(place)) for finding in _findings(copy, extra, look, threads, compared)]


def _companions(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Card, configuration and preview: there, and as they were when the manifest was written."""
    for name in COMPANIONS:
        path = folder / name
        awaited = name in _REQUIRED and (manifest.complete or name != _CARD)
        if not awaited and name not in manifest.files and not path.exists():
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
    own = _EXPECTED if manifest.complete else _EXPECTED | {JOURNALS}
    for parent, expected in ((folder, own), (shards, known)):
        if parent.is_symlink():
            yield f"{parent}: it is a link; a corpus is checked in the folder that it lies in"
            continue
        if not parent.is_dir():
            if known:
                yield f"{parent}: it is not a folder"
            continue
        for path in sorted(parent.iterdir()):
            if path.name not in expected:
                yield f"{path}: {_FOREIGN}"


def _counts(manifest: Manifest) -> Iterator[str]:
    """Whether every scene asked for is accounted for."""
    if not manifest.complete:
        yield (
            f"manifest.json: {manifest.requested} scenes were asked for, {manifest.written} are written and "
            f"{manifest.failed} failed: the run did not end; go on with --resume"
        )


def _look(folder: Path, decode: bool, record: ShardRecord) -> _Checked:
    """Look at one shard in a folder, by itself."""
    fault = shard_fault(folder, record)
    if fault is not None or not decode or not record.scenes:
        return _Checked(None if fault is None else str(fault))
    try:
        return _check_scenes(folder, record)
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
