"""Shards in object storage: made in a temporary folder, put there object by object, complete."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from dyncity.datasets.manifest import FailedScene, ShardRecord
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.patience import patiently
from dyncity.scene import OccupancyScene
from exporters.base import SceneExporter
from exporters.manifest import commit_shard
from exporters.shard_digests import digest


def store_shard(
    place: ObjectPath,
    shard: int,
    scenes: Iterable[OccupancyScene],
    failures: Sequence[FailedScene],
    exporter: SceneExporter,
    first_scene: int,
    wanted: ShardRecord | None = None,
) -> ShardRecord:
    """Write one shard to object storage; ``exporters.manifest.commit_shard`` says what the arguments are.

    There is no rename: a Parquet shard is one object, there as a whole or not at all. The objects of a NumPy
    shard come one after the other; it counts as there when a manifest has its record. An object that is there
    already is left as it is.

    Args:
        place, shard, scenes, failures, exporter, first_scene: as for a folder.
        wanted: the record that the shard has to have; then whatever lies under its name is replaced.

    Raises:
        InputError: what the exporter refuses, a full temporary folder, no bucket, no access, no answer, an
            object with other bytes under the name of one of its own, another record than the wanted one.
    """
    with tempfile.TemporaryDirectory(prefix="dyncity-") as folder:
        record = commit_shard(Path(folder), shard, scenes, failures, exporter, first_scene)
        target = place / "shards" / record.name
        if wanted is not None and record != wanted:
            raise other_bytes(target, record, wanted)
        if not record.scenes:
            return record
        patiently(partial(_put_shard, Path(folder) / "shards" / record.name, target, replace=wanted is not None))
    return record


def _put_shard(made: Path, target: ObjectPath, replace: bool) -> None:
    """Put the files of a shard in place, as far as they are not there; ``replace``: and nothing else."""
    files = {target / path.name: path for path in sorted(made.iterdir())} if made.is_dir() else {target: made}
    there = {target / name: size for name, size in target.sizes().items()}
    if (size := target.size()) is not None:
        there[target] = size
    for found, path in files.items():
        _put(path, found, there.get(found), replace)
    for found in (there.keys() - files.keys()) if replace else ():
        found.remove()


def other_bytes(target: object, made: ShardRecord, wanted: ShardRecord) -> InputError:
    """What is said of a shard that was made again and is not what it was."""
    found = f"made again it has other bytes (sha256 {made.sha256[:12]}, recorded {wanted.sha256[:12]})"
    return InputError(target, found, "make the corpus anew with --overwrite")


def _put(path: Path, target: ObjectPath, size: int | None, replace: bool) -> None:
    """Put one file of a shard in place, unless it is there, with ``size`` bytes."""
    if size is None:
        target.upload(path)
    elif size != path.stat().st_size or target.sha256() != digest(path):
        if not replace:
            raise InputError(target, "is there already with other bytes", "remove it, or start over with --overwrite")
        target.upload(path)
