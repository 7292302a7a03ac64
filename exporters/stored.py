"""Committing shards to object storage: made in a temporary folder, then put there object by object, complete."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from dyncity.datasets.manifest import FailedScene, ShardRecord
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.scene import OccupancyScene
from exporters.base import SceneExporter
from exporters.manifest import commit_shard, digest


def store_shard(
    place: ObjectPath,
    shard: int,
    scenes: Iterable[OccupancyScene],
    failures: Sequence[FailedScene],
    exporter: SceneExporter,
    first_scene: int,
) -> ShardRecord:
    """Write one shard to object storage; ``exporters.manifest.commit_shard`` says what the arguments are.

    There is no rename: a Parquet shard is one object, there as a whole or not at all. The objects of a NumPy
    shard come one after the other; it counts as there when a manifest has its record. An object that is there
    already is left as it is.

    Raises:
        InputError: what the exporter refuses, a full temporary folder, no bucket, no access, no answer, an
            object with other bytes under the name of one of its own.
    """
    with tempfile.TemporaryDirectory(prefix="dyncity-") as folder:
        record = commit_shard(Path(folder), shard, scenes, failures, exporter, first_scene)
        if not record.scenes:
            return record
        made, target = Path(folder) / "shards" / record.name, place / "shards" / record.name
        if made.is_file():
            _put(made, target, target.size())
        else:
            there = target.sizes()
            for path in sorted(made.iterdir(), key=lambda p: p.name):
                _put(path, target / path.name, there.get(path.name))
    return record


def _put(path: Path, target: ObjectPath, size: int | None) -> None:
    """Put one file of a shard in place, unless it is there, with ``size`` bytes."""
    if size is None:
        target.upload(path)
    elif size != path.stat().st_size or target.sha256() != digest(path):
        raise InputError(target, "is there already with other bytes", "remove it, or start over with --overwrite")
