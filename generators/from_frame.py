"""Scenes that hold one frame of a scene of a corpus, voxel for voxel; the others are generated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dyncity.anchoring import ego_windows, frame_on
from dyncity.conditions import Conditions, grid_yaw_from, poses_from_trajectory, turned
from dyncity.config import SamplingConfig
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from generators.diffusion import LatentDiffusion
from generators.edited_corpus import check_fits, corpus_fingerprint, corpus_to_edit, scene_to_edit, source_facts


class FromFrame:
    """Scenes that hold one given frame, voxel for voxel; implements ``SceneGenerator``.

    Args:
        checkpoint, sampling: of the diffusion.
        corpus: whose frames are given, of any number: scenes on the checkpoint's grid, or the windows of the ego of
            larger ones.
        frame: number of the given frame in its scene.
        at: number of that frame in the new scene: 0 generates what follows, the last one what came before.

    Raises:
        InputError: another grid, label space or rate than the checkpoint's; planes that are not fixed to the world, or
            a checkpoint that does not know given voxels; no such frame.
    """

    name = "diffusion"
    sampled = True
    gives_voxels = True

    def __init__(
        self, checkpoint: Path | ObjectPath, sampling: SamplingConfig, corpus: Path | ObjectPath, frame: int, at: int
    ) -> None:
        self.corpus = corpus_to_edit(corpus)  # first: it is refused before weights are read
        self.diffusion = LatentDiffusion(checkpoint, sampling)
        self.config, self.micro_batch = self.diffusion.config, self.diffusion.micro_batch
        self.anchor = self.diffusion.anchor
        check_fits(corpus, self.corpus, self.config, checkpoint)
        self.frame, self.at = frame, at
        shortest = min(self.corpus.frames(scene_id) for scene_id in self.corpus.scene_ids)
        for option, found, count in (("--frame", frame, shortest), ("--at", at, self.config.clip.frames)):
            if not 0 <= found < count:
                raise InputError(option, f"found {found}", f"give 0 to {count - 1}")

    @property
    def scenes(self) -> int:
        """How many scenes there are to edit."""
        return len(self.corpus.scene_ids)

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs: the checkpoint, the corpus, the frame."""
        return {**self.diffusion.fingerprint(), **corpus_fingerprint(self.corpus), "frame": self.frame, "at": self.at}

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec; where it drives is drawn by the spec, as without a given frame."""
        sources = [self._source(spec) for spec in specs]
        asked = [self._asked(spec, source) for spec, source in zip(specs, sources, strict=True)]
        scenes = self.diffusion.scenes(specs, asked)
        return [self._with(scene, source) for scene, source in zip(scenes, sources, strict=True)]

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The drive that the spec decides, and the given frame where it then lies."""
        return self._asked(spec, self._source(spec))

    def _source(self, spec: SceneSpec) -> OccupancyScene:
        """The scene that the frame is taken from, as the ego sees it."""
        scene = scene_to_edit(self.corpus, spec)
        return scene if scene.anchor is None else ego_windows(scene, self.config.grid)

    def _asked(self, spec: SceneSpec, source: OccupancyScene) -> Conditions:
        """The conditions of a scene that holds a frame of ``source``."""
        config, conditions = self.config, self.diffusion.conditions(spec)
        assert conditions.trajectory is not None
        poses = poses_from_trajectory(conditions.trajectory)
        given = np.full(config.clip_shape, UNKNOWN, np.uint8)
        middle = poses[config.clip.frames // 2]
        # The streets of the given frame, seen from the middle of the new scene.
        known = source.conditions.grid_yaw or 0.0
        at_frame = grid_yaw_from(source.poses[self.frame], source.poses[source.frames // 2], known)
        grid_yaw = grid_yaw_from(middle, poses[self.at], at_frame)
        clip_to_frame = np.linalg.inv(poses[self.at]) @ turned(middle, grid_yaw)
        given[self.at] = frame_on(source.semantics[self.frame], config.grid, config.clip_grid, clip_to_frame)
        return replace(conditions, given=given, grid_yaw=grid_yaw)

    def _with(self, scene: OccupancyScene, source: OccupancyScene) -> OccupancyScene:
        frame = source.semantics[self.frame]
        semantics = scene.semantics.copy()
        semantics[self.at] = np.where(frame == UNKNOWN, semantics[self.at], frame)
        edit: dict[str, str | int] = {"edit": "from a frame", "frame": self.frame, "at": self.at}
        provenance = {**scene.provenance, **edit, **source_facts(source)}
        return replace(scene, semantics=semantics, provenance=provenance)
