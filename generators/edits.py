"""Scenes of a corpus, generated anew in part: a region (inpainting), or all but one frame."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from dyncity.anchoring import anchored, ego_windows, frame_on
from dyncity.conditions import (
    Conditions,
    command_from_trajectory,
    grid_yaw_from,
    poses_from_trajectory,
    trajectory_from_poses,
    turned,
)
from dyncity.config import SamplingConfig
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.regions import Region
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from generators.diffusion import LatentDiffusion

_LOOKED_AT = 16  # scenes


class _Edits:
    """What both edits share: scene i is made of scene i of a corpus.

    Raises:
        InputError: no corpus; another grid, label space or rate than the checkpoint's; planes that are not fixed to
            the world, or a checkpoint that does not know given voxels.
    """

    name = "diffusion"
    sampled = True
    gives_voxels = True

    def __init__(self, checkpoint: Path | ObjectPath, sampling: SamplingConfig, corpus: Path | ObjectPath) -> None:
        self.corpus: Corpus = open_corpus(corpus)  # first: it is refused before weights are read
        self.diffusion = LatentDiffusion(checkpoint, sampling)
        self.config, self.micro_batch = self.diffusion.config, self.diffusion.micro_batch
        self.anchor = self.diffusion.anchor
        if self.config.clip.planes != "world" or not self.config.dit.given:
            raise InputError(checkpoint, "it cannot be given voxels", "use a checkpoint trained with dit.given")
        if not self.corpus.scene_ids:
            raise InputError(corpus, "it holds no scene", "give a corpus with scenes")
        for name, found, wanted in (
            ("frame", "world" if self.corpus.anchor is not None else "ego", "ego"),
            ("label space", self.corpus.taxonomy, self.config.taxonomy),
            ("grid", self.corpus.grid, self.config.grid),
        ):
            if found != wanted:
                raise InputError(corpus, f"its {name} is {found}", f"use a corpus of this checkpoint's: {wanted}")

    @property
    def scenes(self) -> int:
        """How many scenes there are to edit."""
        return len(self.corpus.scene_ids)

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs: the checkpoint, the corpus, the edit."""
        shards = "".join(record.sha256 for record in self.corpus.manifest.shards)
        return {**self.diffusion.fingerprint(), "edited_corpus_sha256": hashlib.sha256(shards.encode()).hexdigest()}

    def _source(self, index: int) -> OccupancyScene:
        """Scene ``index``; those that fill up the last micro-batch begin anew."""
        return self.corpus.scene(self.corpus.scene_ids[index % self.scenes])


class Inpainting(_Edits):
    """Keeps what is outside a region, voxel for voxel, and generates what is inside; implements ``SceneGenerator``.

    Args:
        checkpoint, sampling: of the diffusion.
        corpus: its scenes are as long as a clip.
        region: what to generate.

    Raises:
        InputError: see ``_Edits``; a scene of another length.
    """

    def __init__(
        self, checkpoint: Path | ObjectPath, sampling: SamplingConfig, corpus: Path | ObjectPath, region: Region
    ) -> None:
        super().__init__(checkpoint, sampling, corpus)
        self.region = region
        frames = self.config.clip.frames
        for scene_id in self.corpus.scene_ids:
            if (found := self.corpus.frames(scene_id)) != frames:
                raise InputError(corpus, f"scene {scene_id} has {found} frames", f"use scenes of {frames}")

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs."""
        return {**super().fingerprint(), "region": repr(self.region)}

    def check(self) -> None:
        """Look at scenes until the region covers something of one, to fail before anything is written.

        A scene in which it covers nothing, of a class that is not there for one, is kept as it is.

        Raises:
            InputError: the region covers nothing of any of the first scenes.
        """
        first = self.corpus.scene_ids[:_LOOKED_AT]
        if not any(self.region.mask(self.corpus.scene(scene_id)).any() for scene_id in first):
            found = f"covers nothing of {first[0] if len(first) == 1 else f'the first {len(first)} scenes'}"
            raise InputError("--inpaint", found, "give another region")

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One edited scene a spec; one of which the region covers nothing is as it was.

        Raises:
            InputError: a region that covers all of a scene.
        """
        sources = [self._source(spec.index) for spec in specs]
        worlds = [anchored(source, self.config.clip_grid) for source in sources]
        asked = [self._asked(source, world) for source, world in zip(sources, worlds, strict=True)]
        volumes = self.diffusion.volumes(specs, asked)
        return [
            self._edited(spec, source, replace(world, semantics=volume), conditions)
            for spec, source, world, volume, conditions in zip(specs, sources, worlds, volumes, asked, strict=True)
        ]

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The path of the source, and its voxels outside the region.

        Raises:
            InputError: a region that covers all of a scene.
        """
        source = self._source(spec.index)
        return self._asked(source, anchored(source, self.config.clip_grid))

    def _asked(self, source: OccupancyScene, world: OccupancyScene) -> Conditions:
        """The conditions of the edit of ``source``, whose clip is ``world``."""
        hole = self.region.mask(world)
        if self.region.mask(source).all():
            raise InputError("region", f"covers everything of scene {source.scene_id}", "give another region")
        trajectory = trajectory_from_poses(source.poses)
        given = np.where(hole, UNKNOWN, world.semantics).astype(np.uint8)
        grid_yaw = source.conditions.grid_yaw
        return Conditions(command_from_trajectory(trajectory), trajectory, given=given, grid_yaw=grid_yaw)

    def _edited(
        self, spec: SceneSpec, source: OccupancyScene, world: OccupancyScene, asked: Conditions
    ) -> OccupancyScene:
        """The windows of the source, and of the generated volume inside the region."""
        new = ego_windows(replace(world, instances=None, mask_lidar=None, mask_camera=None), self.config.grid).semantics
        inside = self.region.mask(source)
        return replace(
            source,
            semantics=np.where(inside, new, source.semantics).astype(np.uint8),
            conditions=replace(source.conditions, layout=None),  # the edit was not told of it
            instances=None,  # what is new has none
            boxes=None,
            provenance={
                "generator": self.name, "seed": spec.seed, "index": spec.index, "edit": "inpaint",
                "region": self.region.to_json(), **source_facts(source), **self.diffusion.facts(asked),
            },
        )  # fmt: skip


class FromFrame(_Edits):
    """Scenes that hold one given frame, voxel for voxel; implements ``SceneGenerator``.

    Args:
        checkpoint, sampling: of the diffusion.
        corpus: whose frames are given.
        frame: number of the given frame in its scene.
        at: number of that frame in the new scene: 0 generates what follows, the last one what came before.

    Raises:
        InputError: see ``_Edits``; no such frame.
    """

    def __init__(
        self, checkpoint: Path | ObjectPath, sampling: SamplingConfig, corpus: Path | ObjectPath, frame: int, at: int
    ) -> None:
        super().__init__(checkpoint, sampling, corpus)
        self.frame, self.at = frame, at
        shortest = min(self.corpus.frames(scene_id) for scene_id in self.corpus.scene_ids)
        for option, found, count in (("--frame", frame, shortest), ("--at", at, self.config.clip.frames)):
            if not 0 <= found < count:
                raise InputError(option, f"found {found}", f"give 0 to {count - 1}")

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs."""
        return {**super().fingerprint(), "frame": self.frame, "at": self.at}

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec; where it drives is drawn by the spec, as without a given frame."""
        sources = [self._source(spec.index) for spec in specs]
        asked = [self._asked(spec, source) for spec, source in zip(specs, sources, strict=True)]
        scenes = self.diffusion.scenes(specs, asked)
        return [self._with(scene, source) for scene, source in zip(scenes, sources, strict=True)]

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The drive that the spec decides, and the given frame where it then lies."""
        return self._asked(spec, self._source(spec.index))

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


def source_facts(source: OccupancyScene) -> dict[str, str]:
    """What the provenance of an edit says of the scene that it is made of: its name, and its terms if it has any."""
    terms = source.provenance.get("licence")
    return {"source": source.scene_id} | ({"licence": str(terms)} if terms else {})
