"""Training clips: every window of t frames of a corpus, in the model's grid and label space."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import anchored, clip_of, ego_windows
from dyncity.conditions import command_from_trajectory, trajectory_from_poses
from dyncity.config import Config
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import label_map

_CACHED_SCENES = 8
SIMULATED_LICENCE, UNKNOWN_LICENCE = "apache-2.0", "unknown"


@dataclass(frozen=True)
class Clip:
    """One training clip.

    Attributes:
        ids: uint8 ``[t, x, y, z]`` class ids in the model's label space; 255 unknown.
        trajectory: float64 ``[t, 3]`` of the ego, relative to the first frame.
        command: what the trajectory carries out.
        grid_yaw: how far its grid is turned against the ego's heading (``Conditions.grid_yaw``).
    """

    ids: NDArray[np.uint8]
    trajectory: NDArray[np.float64]
    command: str
    grid_yaw: float = 0.0


class Clips:
    """All clips of a corpus, addressed by number; the order is that of the corpus.

    Args:
        folder: the corpus.
        config: says frames, planes, grid and label space.

    Raises:
        InputError: not a corpus, another voxel size or frame rate, too few frames, no map of labels.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.corpus: Corpus = open_corpus(folder)
        self.config = config
        grid, wanted = self.corpus.grid, config.grid
        for name in ("voxel_size", "frame_rate"):
            found, want = getattr(grid, name), getattr(wanted, name)
            if not np.allclose(found, want):
                raise InputError(
                    folder,
                    f"{name} is {found}, the model's is {want}",
                    "use the preset that the corpus was made with",
                )
        self._table = label_map(self.corpus.taxonomy, config.taxonomy)
        self._scenes: OrderedDict[str, OccupancyScene] = OrderedDict()
        frames = config.clip.frames
        self._clips: list[tuple[str, int]] = []
        for scene_id in self.corpus.scene_ids:
            length = self.corpus.frames(scene_id)
            starts = int(length == frames) if self.corpus.anchor is not None else length - frames + 1
            self._clips += [(scene_id, start) for start in range(max(starts, 0))]
        if not self._clips:
            raise InputError(folder, f"no scene has {frames} frames", "use a longer corpus or a shorter clip.frames")

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def licence(self) -> str:
        """The terms of the data, which a model trained on it inherits; simulated data has none of its own."""
        stated = self._scene(self._clips[0][0]).provenance.get("licence")
        simulated = self.corpus.manifest.plan.get("generator") == "procedural"
        return str(stated or (SIMULATED_LICENCE if simulated else UNKNOWN_LICENCE))

    def split(self) -> tuple[list[int], list[int]]:
        """Numbers of training clips and of held-out clips (5 %, 1 to 64, the last ones).

        Training clips that share a frame with a held-out clip are in neither list; where no other is left, all are
        trained on.
        """
        held = max(1, min(64, len(self._clips) // 20))
        scene, start = self._clips[-held]
        frames = self.config.clip.frames
        train = [i for i, (s, k) in enumerate(self._clips[:-held]) if s != scene or k + frames <= start] or list(
            range(len(self._clips))
        )
        return train, list(range(len(self._clips) - held, len(self._clips)))

    def __getitem__(self, number: int) -> Clip:
        scene_id, start = self._clips[number]
        scene = clip_of(self._scene(scene_id), start, self.config.clip.frames)
        trajectory = trajectory_from_poses(scene.poses)
        command = command_from_trajectory(trajectory)
        if self.config.clip.planes == "world":
            scene = anchored(scene, self.config.clip_grid)
        elif scene.anchor is not None or scene.grid != self.config.grid:
            scene = ego_windows(scene, self.config.grid)
        return Clip(self._table[scene.semantics], trajectory, command, scene.conditions.grid_yaw or 0.0)

    def _scene(self, scene_id: str) -> OccupancyScene:
        if scene_id in self._scenes:
            self._scenes.move_to_end(scene_id)
        else:
            self._scenes[scene_id] = self.corpus.scene(scene_id)
            if len(self._scenes) > _CACHED_SCENES:
                self._scenes.popitem(last=False)
        return self._scenes[scene_id]


def batch_numbers(seed_order: NDArray[np.int64], step: int, batch: int) -> NDArray[np.int64]:
    """The clips of a step: consecutive places of one endless shuffled order, the same on every rank."""
    places = np.arange(step * batch, (step + 1) * batch) % len(seed_order)
    return seed_order[places]
