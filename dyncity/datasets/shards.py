"""OccupancyShards: the clips of a corpus as a torch ``Dataset``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from dyncity.anchoring import clip_of
from dyncity.conditions import COMMANDS, command_from_trajectory, trajectory_from_poses
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import label_map

CACHED_BYTES = 64 * 2**20
_OPTIONAL = ("mask_lidar", "mask_camera", "instances")


class OccupancyShards(Dataset[Any]):
    """Clips of a corpus, for a plain ``DataLoader`` with any ``num_workers`` (fork or spawn).

    An item holds tensors and names that the default collation stacks:

    - ``semantics`` uint8 ``[t, x, y, z]`` class ids, 255 unknown;
    - ``poses`` float64 ``[t, 4, 4]`` ego-to-world, the first frame of the clip being the world;
    - ``grid_poses`` float64 ``[t, 4, 4]`` grid-to-world: ``poses``, or the anchor's for all frames;
    - ``trajectory`` float64 ``[t, 3]`` x, y (metres) and yaw (radians) of the ego, from the poses;
    - ``command`` int64, its number in ``dyncity.conditions.COMMANDS``, from the trajectory;
    - ``scene_id`` str and ``first_frame`` int, where the clip comes from;
    - ``mask_lidar``, ``mask_camera`` uint8 and ``instances`` int32 ``[t, x, y, z]``: the ``columns``.

    Scenes are decoded a group at a time (``docs/corpus-format.md``: a row group of a Parquet shard, one NumPy
    file). Any order of items is right; ``dyncity.datasets.sampling.ShardSampler`` shuffles such that a group is
    decoded about once an epoch.

    Args:
        corpus: a corpus folder, a place in object storage (``s3://bucket/prefix``), or an open corpus.
        frames: frames of a clip; None: whole scenes (of different lengths, if the corpus has such).
        stride: frames from the start of a clip to that of the next one; None: ``frames``, no overlap.
        labels: the label space of ``semantics``, or a table of your own, uint8 ``[256]``, from ids of the
            corpus to ids of yours; None: the corpus's own.
        columns: which of mask_lidar, mask_camera, instances items have; None: all that the corpus has.
        transform: called with each item; what it returns is the item. It runs in the workers.
        cached_bytes: voxels that are held decoded, in each process. A single group may be larger: it is then
            held alone.

    Attributes:
        clips: (scene id, first frame, frames) of each item.
        labels: the label space of ``semantics``, or None: that of a table of your own.

    Raises:
        InputError: not a corpus, no map leads to ``labels``, a column it does not have, no scene has enough
            frames, or clips that are shorter than the scenes of a corpus whose frames are fixed to the world
            as a whole.
    """

    def __init__(
        self,
        corpus: Path | str | Corpus,
        frames: int | None = None,
        stride: int | None = None,
        labels: str | NDArray[np.uint8] | None = None,
        columns: tuple[str, ...] | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        cached_bytes: int = CACHED_BYTES,
    ) -> None:
        self.corpus = corpus if isinstance(corpus, Corpus) else open_corpus(corpus)
        for name, value in (("frames", frames), ("stride", stride), ("cached_bytes", cached_bytes)):
            if value is not None and value < 1:
                raise InputError(name, f"found {value}", "give a whole number from 1")
        self.labels = (labels or self.corpus.taxonomy) if labels is None or isinstance(labels, str) else None
        self.table = _table(self.corpus.taxonomy, labels)
        self.columns = _columns(self.corpus, columns)
        self.transform = transform
        self.cached_bytes = cached_bytes
        self.clips: list[tuple[str, int, int]] = []
        for scene_id in self.corpus.scene_ids:
            length = self.corpus.frames(scene_id)
            count = length if frames is None else frames
            starts = range(0, length - count + 1, stride or count)
            self.clips += [(scene_id, start, count) for start in starts]
        if not self.clips:
            wanted = "a frame" if frames is None else f"{frames} frames"
            raise InputError(self.corpus.folder, f"no scene has {wanted}", "use a longer corpus or shorter clips")
        if self.corpus.anchor is not None and any(self.corpus.frames(s) != n for s, _, n in self.clips):
            raise InputError(
                self.corpus.folder, "its scenes are fixed to the world as a whole", "use clips of whole scenes"
            )
        self._groups: OrderedDict[tuple[str, int], list[OccupancyScene]] = OrderedDict()
        self._sizes = _group_bytes(self.corpus)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_groups": OrderedDict()}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Any:
        scene_id, start, frames = self.clips[index]
        scene = clip_of(self._scene(scene_id), start, frames)
        trajectory = trajectory_from_poses(scene.poses)
        semantics = scene.semantics if self.table is None else self.table[scene.semantics]
        item: dict[str, Any] = {
            "semantics": _tensor(semantics),
            "poses": _tensor(scene.poses),
            "grid_poses": _tensor(scene.grid_poses()),
            "trajectory": _tensor(trajectory),
            "command": COMMANDS.index(command_from_trajectory(trajectory)),
            "scene_id": scene_id,
            "first_frame": start,
        }
        for name in self.columns:
            array = getattr(scene, name)
            item[name] = _tensor(array.astype(np.int32) if name == "instances" else array)
        return item if self.transform is None else self.transform(item)

    def clip_groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What is decoded together: int64 ``[clips]`` the group of each clip, int64 ``[groups]`` their bytes."""
        numbers = {group: number for number, group in enumerate(self._sizes)}
        groups = np.array([numbers[self.corpus.group(scene_id)] for scene_id, _, _ in self.clips], np.int64)
        return groups, np.array(list(self._sizes.values()), np.int64)

    def _scene(self, scene_id: str) -> OccupancyScene:
        """A scene; what was decoded together with it stays at hand, within ``cached_bytes``."""
        group = self.corpus.group(scene_id)
        if group not in self._groups:
            room = self.cached_bytes - self._sizes[group]
            while self._groups and sum(self._sizes[held] for held in self._groups) > room:
                self._groups.popitem(last=False)  # before the next one is decoded: both at once would be too much
            self._groups[group] = list(self.corpus.scenes_of_group(scene_id))
        self._groups.move_to_end(group)
        for scene in self._groups[group]:
            if scene.scene_id == scene_id:
                return scene
        raise InputError(self.corpus.folder, f"scene {scene_id} is not where its shard lists it", "restore the shard")


def _table(space: str, labels: str | NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """The look-up table from ids of the corpus to those of the items; None: they stay."""
    if labels is None or isinstance(labels, str):
        return None if labels in (None, space) else label_map(space, str(labels))
    table = np.asarray(labels)
    if table.shape != (256,) or table.dtype != np.uint8:
        raise InputError("labels", f"found {table.dtype} {table.shape}", "give a name, or a uint8 table of 256 ids")
    return table.copy()


def _columns(corpus: Corpus, columns: tuple[str, ...] | None) -> tuple[str, ...]:
    """The optional columns of the items, in their fixed order."""
    there = tuple(name for name in _OPTIONAL if name in corpus.columns)
    for name in columns or ():
        if name not in there:
            has = ", ".join(there) or "none of them"
            raise InputError("columns", f"{corpus.folder} has no {name!r}, it has {has}", "name columns that it has")
    return there if columns is None else tuple(name for name in there if name in columns)


def _group_bytes(corpus: Corpus) -> dict[tuple[str, int], int]:
    """Bytes of the voxels of each group once it is decoded, in the order of the shards."""
    frame = corpus.layout.frame_bytes if corpus.layout is not None else 0
    sizes: dict[tuple[str, int], int] = {}
    for scene_id in corpus.scene_ids:
        group = corpus.group(scene_id)
        sizes[group] = sizes.get(group, 0) + corpus.frames(scene_id) * frame
    return sizes


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of its own: nobody who changes it changes the scenes at hand."""
    return torch.from_numpy(np.array(array))
