"""A corpus folder as scenes: ``open_corpus`` reads both containers, strictly and in bounded memory."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from dyncity.config import Config
from dyncity.config_file import read_config
from dyncity.datasets.layout import ShardLayout
from dyncity.datasets.manifest import FailedScene, Manifest, ShardRecord, read_manifest
from dyncity.datasets.npz_shard import NpzShard
from dyncity.datasets.parquet_shard import ParquetShard
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.object_storage import ObjectPath
from dyncity.places import place
from dyncity.scene import OccupancyScene

__all__ = [
    "Corpus",
    "FailedScene",
    "Manifest",
    "ShardRecord",
    "open_corpus",
    "open_shard",
    "read_manifest",
]

_OPEN_SHARDS = 4


def open_corpus(folder: str | Path | ObjectPath) -> Corpus:
    """Open a corpus, a folder or ``s3://bucket/prefix``; nothing but its manifest is read yet.

    Raises:
        InputError: no folder, no manifest, a manifest that is not one.
    """
    folder = place(folder)
    return Corpus(folder, read_manifest(folder))


def open_shard(folder: Path | ObjectPath, record: ShardRecord) -> ParquetShard | NpzShard:
    """Open one shard of a corpus. Links are not followed.

    Raises:
        InputError: it is not there, is not what its name says, or has another size than recorded.
    """
    if isinstance(folder, ObjectPath):
        return _open_stored(folder / "shards" / record.name, record)
    parent = folder / "shards"
    path = parent / record.name
    parquet = record.name.endswith(".parquet")
    try:
        if parent.is_symlink():
            raise InputError(parent, "it is a link", "put the folder itself there")
        status = path.lstat()
    except FileNotFoundError:
        raise InputError(path, "it is missing", "restore it, or remake it with --resume") from None
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror})", "check the file") from None
    if not (stat.S_ISREG if parquet else stat.S_ISDIR)(status.st_mode):
        raise InputError(path, "it is not a plain file" if parquet else "it is not a folder", "restore it")
    if parquet and status.st_size != record.bytes:
        raise InputError(path, f"it has {status.st_size} bytes, not {record.bytes}", "restore or remake the shard")
    return ParquetShard(path) if parquet else NpzShard(path)


def _open_stored(path: ObjectPath, record: ShardRecord) -> ParquetShard | NpzShard:
    """Open one shard in object storage, of which what is read is fetched, and no more."""
    if not record.name.endswith(".parquet"):
        names = list(path.sizes())
        return NpzShard(path, {name: (path / name).buffered for name in names})
    size = path.size()
    if size is None:
        raise InputError(path, "it is missing", "restore it, or remake it with --resume")
    if size != record.bytes:
        raise InputError(path, f"it has {size} bytes, not {record.bytes}", "restore or remake the shard")
    return ParquetShard(path)


class Corpus:
    """A corpus: imported logs, simulated or generated scenes.

    It can be pickled and forked; open files are each process's own.

    Attributes:
        folder: where it lies.
        manifest: what was asked for and what there is.
    """

    def __init__(self, folder: Path | ObjectPath, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._shards: dict[str, ParquetShard | NpzShard] = {}
        self._owner = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_shards": {}}

    @cached_property
    def config(self) -> Config:
        """The resolved configuration that it was made with."""
        if isinstance(self.folder, ObjectPath):
            with self.folder.local("config.json") as copy:
                return read_config(copy / "config.json")
        return read_config(self.folder / "config.json")

    @cached_property
    def layout(self) -> ShardLayout | None:
        """Grid, label space, anchor and columns of its shards; None where no scene was written."""
        record = next((r for r in self.manifest.shards if r.scenes), None)
        return None if record is None else self._shard(record).layout

    @property
    def grid(self) -> GridSpec:
        """The grid of every frame."""
        return self.config.grid if self.layout is None else self.layout.grid

    @property
    def taxonomy(self) -> str:
        """The name of the label space."""
        return self.config.taxonomy if self.layout is None else self.layout.taxonomy

    @property
    def anchor(self) -> int | None:
        """The frame whose pose places the grid of all frames, or None: ego-centred frames."""
        return None if self.layout is None else self.layout.anchor

    @property
    def columns(self) -> tuple[str, ...]:
        """The optional columns that its scenes have."""
        return () if self.layout is None else self.layout.columns

    @cached_property
    def _index(self) -> dict[str, tuple[ShardRecord, int, int]]:
        """scene id -> (shard, group in the shard, frames); only names and headers are read."""
        index: dict[str, tuple[ShardRecord, int, int]] = {}
        for record in self.manifest.shards:
            if not record.scenes:
                continue
            entries = self._shard(record).index()
            path = self.folder / "shards" / record.name
            if len(entries) != record.scenes:
                raise InputError(path, f"it holds {len(entries)} scenes, not {record.scenes}", "restore the shard")
            for scene_id, group, frames in entries:
                if scene_id in index:
                    raise InputError(path, f"scene {scene_id} is there twice", "restore the shard")
                index[scene_id] = (record, group, frames)
        return index

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """Names of all scenes, in the order of the shards."""
        return tuple(self._index)

    def frames(self, scene_id: str) -> int:
        """Number of frames of a scene."""
        return self._entry(scene_id)[2]

    def group(self, scene_id: str) -> tuple[str, int]:
        """Which scenes are decoded together: shard name and group number."""
        record, group, _ = self._entry(scene_id)
        return record.name, group

    def scene(self, scene_id: str) -> OccupancyScene:
        """One scene.

        Raises:
            InputError: no scene of that name, or its shard is damaged.
        """
        for scene in self.scenes_of_group(scene_id):
            if scene.scene_id == scene_id:
                return scene
        raise InputError(self.folder, f"scene {scene_id} is not where its shard lists it", "restore the shard")

    def scenes_of_group(self, scene_id: str) -> Iterator[OccupancyScene]:
        """The scenes that are decoded together with ``scene_id``, one at a time."""
        record, group, _ = self._entry(scene_id)
        return self._shard(record).read(group)

    def scenes(self) -> Iterator[OccupancyScene]:
        """All scenes, shard by shard, in memory bounded by a few MB and one scene."""
        listed = Counter(map(self.group, self.scene_ids))  # in the order of the shards
        first = {self.group(scene_id): scene_id for scene_id in reversed(self.scene_ids)}
        for group, count in listed.items():
            found = 0
            for scene in self.scenes_of_group(first[group]):
                found += 1
                yield scene
            if found != count:  # damage can leave a shard readable and short
                path = self.folder / "shards" / group[0]
                raise InputError(path, f"it gives {found} of {count} listed scenes", "restore or remake the shard")

    def _entry(self, scene_id: str) -> tuple[ShardRecord, int, int]:
        if scene_id not in self._index:
            raise InputError(self.folder, f"it has no scene {scene_id!r}", "name one of its scenes")
        return self._index[scene_id]

    def _shard(self, record: ShardRecord) -> ParquetShard | NpzShard:
        """The open shard; the last few stay open."""
        if self._owner != os.getpid():  # a fork must not share its parent's file positions
            self._shards, self._owner = {}, os.getpid()
        if record.name not in self._shards:
            shard = open_shard(self.folder, record)
            first = self.__dict__.get("layout")
            if first is not None and shard.layout != first:
                raise InputError(shard.path, "its grid, labels or columns are not those of the others", "restore it")
            while len(self._shards) >= _OPEN_SHARDS:
                self._shards.pop(next(iter(self._shards)))
            self._shards[record.name] = shard
        return self._shards[record.name]
