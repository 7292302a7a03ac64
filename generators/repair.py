"""Repair: damaged shards of a finished corpus are made again, by the plan in its manifest; all else is left alone.

Shards are made in a folder inside the corpus (in object storage: in the worker's temporary one), compared with the
manifest, and only then put in place: what a killed repair leaves can be repaired again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dyncity.config_file import config_json
from dyncity.datasets.corpus import open_corpus
from dyncity.datasets.manifest import Manifest, ShardRecord, read_manifest
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.watchdog import STUCK_AFTER
from exporters.base import SceneExporter
from exporters.manifest import TEMPORARY, RunLock, digest, flush, sweep_leftovers, write_file
from exporters.shard_digests import Compared, shard_faults
from exporters.stored import other_bytes
from exporters.verification import verify_corpus
from generators.base import SceneGenerator
from generators.card import card
from generators.corpus import PREVIEW_SCENES, Preview, card_sample, check_execution, make_shards
from generators.corpus_folder import SHARDS
from generators.corpus_prefix import journals_of
from generators.lease import Lease
from generators.ledger import Report
from generators.plan import CorpusPlan, difference
from generators.shard_worker import BuildGenerator

Execution = tuple[tuple[int, int] | None, float, str, float]  # workers, GPUs a worker, address of the cluster, patience


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What a repair did.

    Attributes:
        shards: names of the shards that were made again.
        scenes: how many scenes they hold.
        files: which of README.md, config.json and preview.png were written again.
        left: what ``dyncity verify`` still finds: files that do not belong there are not touched.
        seconds: how long it took.
    """

    shards: tuple[str, ...]
    scenes: int
    files: tuple[str, ...]
    left: tuple[str, ...]
    seconds: float


def repairable(out: Path | ObjectPath) -> Manifest:
    """The manifest of a corpus that can be repaired.

    Raises:
        InputError: no corpus, a damaged manifest, a run that did not end, a link for ``shards``.
    """
    manifest = read_manifest(out)
    if not manifest.complete:
        raise InputError(out, "its run did not end", "go on with --resume, which makes damaged shards anew as well")
    if isinstance(out, Path) and (out / SHARDS).is_symlink():
        raise InputError(out / SHARDS, "it is a link", "put the folder itself there")
    return manifest


def repair_corpus(
    plan: CorpusPlan,
    generator: SceneGenerator,
    build_generator: BuildGenerator,
    exporter: SceneExporter,
    out: Path | ObjectPath,
    *,
    fingerprint: dict[str, Any] | None = None,
    workers: tuple[int, int] | None = (0, 0),
    gpus_per_worker: float = 0.0,
    address: str = "local",
    stuck_after: float = STUCK_AFTER,
    preview: Preview | None = None,
    report: Report | None = None,
    compared: Compared | None = None,
) -> RepairResult:
    """Make what is damaged or missing in a corpus again, to the bytes that its manifest records.

    Args:
        plan: as the manifest has it (``CorpusPlan.from_dict``).
        generator: what ``build_generator`` builds, built here once.
        build_generator, exporter, preview, report: as for ``make_corpus``.
        fingerprint: what the generator says of itself where the shards are made; None: what it says here.
        workers, gpus_per_worker, address, stuck_after: so are these.
        out: the corpus.
        compared: told how many shards of how many are compared with the manifest.

    Raises:
        InputError: see ``repairable``; another run is at work there; what is installed or was given would make
            other bytes than the corpus was made of.
    """
    check_execution(workers, gpus_per_worker, stuck_after)
    begun = time.monotonic()
    out = out.absolute()
    repairable(out)
    fingerprint = generator.fingerprint() if fingerprint is None else fingerprint
    made_of: dict[str, Any] = {"plan": plan, "build_generator": build_generator, "exporter": exporter}
    execution = workers, gpus_per_worker, address, stuck_after
    if isinstance(out, ObjectPath):
        with Lease(out) as lease:
            manifest = _manifest_for(plan, generator, fingerprint, out)
            faults = shard_faults(out, manifest.shards, compared=compared)
            damaged = [record for record, fault in faults if fault is not None]
            _make_there(made_of, out, damaged, lease, execution, report)
            files = _restore(plan, manifest, out, preview)
    else:
        with RunLock(out):
            manifest = _manifest_for(plan, generator, fingerprint, out)
            sweep_leftovers(out)
            faults = shard_faults(out, manifest.shards, compared=compared)
            damaged = [record for record, fault in faults if fault is not None]
            _make_here(made_of, out, damaged, execution, report)
            files = _restore(plan, manifest, out, preview)
    scenes = sum(record.scenes for record in damaged)
    left = tuple(verify_corpus(out, decode=False))
    return RepairResult(tuple(r.name for r in damaged), scenes, files, left, time.monotonic() - begun)


def _manifest_for(
    plan: CorpusPlan, generator: SceneGenerator, fingerprint: dict[str, Any], out: Path | ObjectPath
) -> Manifest:
    """The manifest as it is now that nobody else is at work there.

    Raises:
        InputError: ``repairable``, or plan and generator, as they are here and now, do not promise its bytes.
    """
    manifest = repairable(out)
    made_with = manifest.plan.get("versions")
    known = made_with if isinstance(made_with, dict) else {}
    # Other code may make the same bytes, which are compared; an older manifest does not tell of all.
    versions = {
        name: known[name] if name == "code" else value for name, value in plan.versions.items() if name in known
    }
    now = replace(
        plan,
        config=generator.config,
        micro_batch=generator.micro_batch,
        fingerprint_of_generator=fingerprint,
        versions=versions,
    )
    if now.fingerprint() != manifest.fingerprint:
        what = difference(manifest.plan, now.to_dict()) or "its fingerprint is another one"
        fix = "use the same checkpoint, versions and kind of device, or make it anew with --overwrite"
        raise InputError(out, f"it cannot be repaired here: {what}", fix)
    return manifest


def _make_here(
    made_of: dict[str, Any], out: Path, damaged: list[ShardRecord], execution: Execution, report: Report | None
) -> None:
    """Make the damaged shards in a folder inside the corpus, and put each in place that has the bytes of its record."""
    staging = out / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        (staging / "journals").mkdir(parents=True)
        (out / SHARDS).mkdir(exist_ok=True)
        made_of = {**made_of, "out": staging, "journals": staging / "journals"}
        wanted = {record.first_scene: record for record in damaged}
        for made in _made(made_of, out, damaged, execution, report):
            if made != wanted[made.first_scene]:
                raise other_bytes(out / SHARDS / made.name, made, wanted[made.first_scene])
            _put(staging / SHARDS / made.name, out / SHARDS / made.name, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _make_there(
    made_of: dict[str, Any],
    out: ObjectPath,
    damaged: list[ShardRecord],
    lease: Lease,
    execution: Execution,
    report: Report | None,
) -> None:
    """Make the damaged shards in object storage, where workers put what has the bytes of its record."""
    journals = journals_of(lease)
    numbers = {shard.first: shard.number for shard in made_of["plan"].shards}
    wanted = {numbers[record.first_scene]: record for record in damaged if record.first_scene in numbers}
    try:
        journals.mkdir()
        made_of = {**made_of, "out": out, "journals": journals, "wanted": wanted}
        for _ in _made(made_of, out, damaged, execution, report):
            pass
        lease.check()
    finally:
        shutil.rmtree(journals, ignore_errors=True)


def _made(
    made_of: dict[str, Any],
    out: Path | ObjectPath,
    damaged: list[ShardRecord],
    execution: Execution,
    report: Report | None,
) -> Iterator[ShardRecord]:
    """Make shards; the record of each as it is there."""
    if not damaged:
        return
    firsts = {record.first_scene for record in damaged}
    shards = [shard for shard in made_of["plan"].shards if shard.first in firsts]
    if len(shards) != len(damaged):
        raise InputError(out, "its shards are not those of its plan", "make it anew with --overwrite")
    done, total = 0, sum(shard.scenes for shard in shards)
    with closing(make_shards(made_of, [shard.number for shard in shards], *execution)) as outcomes:
        for number, (_, made) in enumerate(outcomes):
            yield made
            done += made.end - made.first_scene
            if report is not None:
                report(done, total, f"{number + 1}/{len(shards)} shards")


def _put(new: Path, target: Path, staging: Path) -> None:
    """Put a shard in the place of a damaged one: a file in one step, a folder in two."""
    if (new.is_dir() or target.is_dir()) and os.path.lexists(target):
        target.rename(staging / f"damaged-{target.name}")
    os.replace(new, target)
    flush(target.parent)


def _restore(plan: CorpusPlan, manifest: Manifest, out: Path | ObjectPath, preview: Preview | None) -> tuple[str, ...]:
    """Write card, configuration and preview again where they are not what the manifest digests; which of them.

    What comes out with other bytes now, say a picture by another version of Pillow, is not put in place.
    """
    damaged = [name for name, sha256 in manifest.files.items() if not _has(out / name, sha256)]
    if not damaged:
        return ()
    sample = card_sample(open_corpus(out))
    restored = []
    with tempfile.TemporaryDirectory(prefix="dyncity-") as folder:
        for name in damaged:
            made = Path(folder) / name
            if name == "config.json":
                made.write_text(config_json(plan.config))
            elif name == "README.md":
                made.write_text(card(plan, manifest, sample, "preview.png" in manifest.files))
            elif preview is not None:
                preview(sample[:PREVIEW_SCENES], made)
            if _has(made, manifest.files[name]):
                target = out / name
                if isinstance(target, ObjectPath):
                    target.upload(made)
                else:
                    write_file(target, [made.read_bytes()])
                restored.append(name)
    return tuple(restored)


def _has(path: Path | ObjectPath, sha256: str) -> bool:
    """Whether a file or object is there and has that digest."""
    if isinstance(path, ObjectPath):
        return path.exists() and path.sha256() == sha256
    try:
        return digest(path) == sha256
    except OSError:
        return False
