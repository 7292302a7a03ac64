"""OccupancyShards: the clips of a corpus as a torch ``Dataset``."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from dyncity.anchoring import clip_of
from dyncity.conditions import COMMANDS, command_from_trajectory, trajectory_from_poses
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import label_map

_CACHED_BYTES = 64 * 2**20
_MASKS = ("mask_lidar", "mask_camera")


class OccupancyShards(Dataset[dict[str, Any]]):
    """Clips of a corpus, for a plain ``DataLoader`` with any ``num_workers`` (fork or spawn).

    An item holds tensors and names that the default collation stacks:

    - ``semantics`` uint8 ``[t, x, y, z]`` class ids, 255 unknown;
    - ``poses`` float64 ``[t, 4, 4]`` ego-to-world, the first frame of the clip being the world;
    - ``grid_poses`` float64 ``[t, 4, 4]`` grid-to-world: ``poses``, or the anchor's for all frames;
    - ``trajectory`` float64 ``[t, 3]`` x, y (metres) and yaw (radians) of the ego, from the poses;
    - ``command`` int64, its number in ``dyncity.conditions.COMMANDS``, from the trajectory;
    - ``scene_id`` str and ``first_frame`` int, where the clip comes from;
    - ``mask_lidar``, ``mask_camera`` uint8 and ``instances`` int32 ``[t, x, y, z]`` where the corpus has them.

    Args:
        corpus: a corpus folder, or an open one.
        frames: frames of a clip; None: whole scenes (of different lengths, if the corpus has such).
        stride: frames from the start of a clip to that of the next one; None: ``frames``, no overlap.
        labels: the label space of ``semantics``; None: the corpus's own.

    Raises:
        InputError: not a corpus, no map leads to ``labels``, no scene has enough frames, or clips that
            are shorter than the scenes of a corpus whose frames are fixed to the world as a whole.
    """

    def __init__(
        self,
        corpus: Path | str | Corpus,
        frames: int | None = None,
        stride: int | None = None,
        labels: str | None = None,
    ) -> None:
        self.corpus = corpus if isinstance(corpus, Corpus) else open_corpus(Path(corpus))
        for name, value in (("frames", frames), ("stride", stride)):
            if value is not None and value < 1:
                raise InputError(name, f"found {value}", "give a whole number from 1")
        space = self.corpus.taxonomy
        self._table = None if labels in (None, space) else label_map(space, str(labels))
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

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_groups": OrderedDict()}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene_id, start, frames = self.clips[index]
        scene = clip_of(self._scene(scene_id), start, frames)
        trajectory = trajectory_from_poses(scene.poses)
        semantics = scene.semantics if self._table is None else self._table[scene.semantics]
        item: dict[str, Any] = {
            "semantics": _tensor(semantics),
            "poses": _tensor(scene.poses),
            "grid_poses": _tensor(scene.grid_poses()),
            "trajectory": _tensor(trajectory),
            "command": COMMANDS.index(command_from_trajectory(trajectory)),
            "scene_id": scene_id,
            "first_frame": start,
        }
        item |= {name: _tensor(getattr(scene, name)) for name in _MASKS if name in self.corpus.columns}
        if scene.instances is not None:
            item["instances"] = _tensor(scene.instances.astype(np.int32))
        return item

    def _scene(self, scene_id: str) -> OccupancyScene:
        """A scene; what was decoded together with it stays at hand, up to 64 MB."""
        group = self.corpus.group(scene_id)
        if group not in self._groups:
            self._groups[group] = list(self.corpus.scenes_of_group(scene_id))
            while len(self._groups) > 1 and sum(map(_bytes, self._groups.values())) > _CACHED_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        for scene in self._groups[group]:
            if scene.scene_id == scene_id:
                return scene
        raise InputError(self.corpus.folder, f"scene {scene_id} is not where its shard lists it", "restore the shard")


def _bytes(scenes: list[OccupancyScene]) -> int:
    """Memory of the voxels of some scenes."""
    arrays = [(s.semantics, s.instances, s.mask_lidar, s.mask_camera) for s in scenes]
    return sum(a.nbytes for group in arrays for a in group if a is not None)


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of its own: nobody who changes it changes the scenes at hand."""
    return torch.from_numpy(np.array(array))
