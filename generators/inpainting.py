"""Scenes of a corpus, generated anew inside a region; every voxel outside stays as it is.

A scene that is longer than a clip is edited clip after clip, each of which shares half of its frames with the one
before: what the region holds in those is known by then, and so is what stands there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import anchored, ego_windows
from dyncity.conditions import Conditions, command_from_trajectory, grid_yaw_from, trajectory_from_poses
from dyncity.config import Config, SamplingConfig
from dyncity.errors import InputError
from dyncity.models.conditioning import Route
from dyncity.movers import parked
from dyncity.object_storage import ObjectPath
from dyncity.regions import Region
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import taxonomy
from generators.best_joined import best_joined
from generators.diffusion import LatentDiffusion
from generators.edited_corpus import (
    LEAVE_SOME,
    check_covers,
    check_fits,
    corpus_fingerprint,
    corpus_to_edit,
    inpainted,
    scene_to_edit,
)


def clip_starts(first: int, end: int, frames: int, length: int) -> list[int]:
    """Where clips of ``length`` begin that hold frames ``first`` to ``end - 1`` of a scene of ``frames``.

    One clip has them in its middle; several share half of their frames.
    """
    spare = max(0, length - (end - first)) // 2
    starts = [min(max(0, first - spare), frames - length)]
    while starts[-1] + length < end:
        starts.append(min(starts[-1] + length - length // 2, frames - length))
    return starts


def known_around(world: NDArray[np.uint8], hole: NDArray[np.bool_], labels: str) -> NDArray[np.uint8]:
    """What is given of a clip that was seen through moving windows: all outside the hole, at any time if it was once.

    Where the window is elsewhere nobody looks, so what moved there is taken for free space in those frames. Cells
    that were given in some frames alone would keep the sampler from joining both sides (``dyncity.diffusion.joining``).

    Args:
        world: ``[t, x, y, z]`` class ids fixed to the world, what stands completed (``anchored``); 255 unknown.
        hole: bool ``[t, x, y, z]``, what is open.
        labels: the label space.
    """
    seen = ((world != UNKNOWN) & ~hole).any(axis=0)
    known = np.where((world == UNKNOWN) & seen, taxonomy(labels).free, world)
    return np.where(hole, UNKNOWN, known).astype(np.uint8)


class Inpainting:
    """Keeps what is outside a region, voxel for voxel, and generates what is inside; implements ``SceneGenerator``.

    Args:
        checkpoint, sampling: of the diffusion.
        corpus: ego-centred scenes on the checkpoint's grid, at least as long as a clip.
        region: what to generate.

    Raises:
        InputError: another grid, label space or rate than the checkpoint's; a shorter scene; planes that are not fixed
            to the world, or a checkpoint that does not know given voxels.
    """

    name = "diffusion"
    sampled = True
    gives_voxels = True

    def __init__(
        self, checkpoint: Path | ObjectPath, sampling: SamplingConfig, corpus: Path | ObjectPath, region: Region
    ) -> None:
        self.corpus = corpus_to_edit(corpus)  # first: it is refused before weights are read
        self.diffusion = LatentDiffusion(checkpoint, sampling)
        self.config, self.micro_batch = self.diffusion.config, self.diffusion.micro_batch
        self.anchor, self.region = self.diffusion.anchor, region
        check_fits(corpus, self.corpus, self.config, checkpoint)
        for scene_id in self.corpus.scene_ids:
            if (found := self.corpus.frames(scene_id)) < (least := self.config.clip.frames):
                raise InputError(corpus, f"scene {scene_id} has {found} frames", f"use scenes of at least {least}")

    @property
    def scenes(self) -> int:
        """How many scenes there are to edit."""
        return len(self.corpus.scene_ids)

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs: the checkpoint, the corpus, the region, the draws of it."""
        return {
            **self.diffusion.fingerprint(),
            **corpus_fingerprint(self.corpus),
            "region": repr(self.region),
            "join_draws": self.diffusion.sampling.join_draws,
        }

    def check(self) -> None:
        """Raise InputError where the region covers nothing of the first scenes (``check_covers``)."""
        check_covers(self.region, self.corpus)

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The path of the source, and its voxels outside the region, of the clip that the edit begins with.

        Raises:
            InputError: a region that covers all of a scene.
        """
        return self._edit(spec).asked(0)

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One edited scene a spec; one of which the region covers nothing is as it was.

        Raises:
            InputError: a region that covers all of a scene.
        """
        edits = [self._edit(spec) for spec in specs]
        clips = max(len(edit.starts) for edit in edits)
        seeds = [stream(s.seed, s.index, Purpose.CHUNK).integers(2**62, size=clips) for s in specs]
        facts: list[Counter[str]] = [Counter() for _ in specs]
        for clip in range(clips):
            # Rows of scenes that need no more clips are made and not used: a scene does not depend on its company.
            here = [min(clip, len(edit.starts) - 1) for edit in edits]
            drawn = [SceneSpec(s.index, int(k[clip])) if clip else s for s, k in zip(specs, seeds, strict=True)]
            asked = [edit.asked(number) for edit, number in zip(edits, here, strict=True)]
            routes = [edit.route(number) for edit, number in zip(edits, here, strict=True)]
            holes = [edit.hole(number) for edit, number in zip(edits, here, strict=True)]
            made = best_joined(self.diffusion, drawn, asked, holes, routes)
            for edit, conditions, volume, fact in zip(edits, asked, made, facts, strict=True):
                if clip < len(edit.starts):
                    edit.paste(clip, volume)
                    fact.update(self.diffusion.facts(conditions))
        return [
            inpainted(edit.source, spec, edit.semantics, self.region, fact)
            for spec, edit, fact in zip(specs, edits, facts, strict=True)
        ]

    def _edit(self, spec: SceneSpec) -> _Edit:
        return _Edit(self.config, self.region, scene_to_edit(self.corpus, spec))


class _Edit:
    """One scene while it is edited, clip after clip.

    Args:
        config: of the clips.
        region: what to generate.
        source: the scene.

    Raises:
        InputError: the region covers all of the clip that the edit begins with.
    """

    def __init__(self, config: Config, region: Region, source: OccupancyScene) -> None:
        self.config, self.region, self.source = config, region, source
        self.semantics, self._inside = source.semantics.copy(), region.mask(source)
        covered = np.flatnonzero(self._inside.any(axis=(1, 2, 3)))
        first, end = (int(covered[0]), int(covered[-1]) + 1) if len(covered) else (0, 1)
        self.starts = clip_starts(first, end, source.frames, config.clip.frames)
        last = self.starts[0] + config.clip.frames - 1
        if self._inside[self.starts[0] : last + 1].all():
            which = "" if source.frames == config.clip.frames else f"frames {self.starts[0]} to {last} of "
            found = f"covers everything of {which}scene {source.scene_id}"
            raise InputError(region.where, found, LEAVE_SOME)

    def hole(self, clip: int) -> NDArray[np.bool_]:
        """bool ``[t, x, y, z]``: the region on a clip's grid."""
        return self.region.mask_of_part(self._clip(clip, self.source.semantics), self.starts[clip])

    def asked(self, clip: int) -> Conditions:
        """The path of a clip, and what is known of it: all but the region, and that as far as it is made."""
        made, hole = self._made(clip), self.hole(clip)
        world = self._clip(clip, self.semantics)
        still_open = hole & (np.arange(len(hole)) >= made)[:, None, None, None]
        given = known_around(world.semantics, still_open, self.config.taxonomy)
        if made:
            last, space = world.semantics[made - 1], taxonomy(self.config.taxonomy)
            stands = ~np.isin(last, [space.free, UNKNOWN, *space.movers]) | parked(world.semantics[:made], space.name)
            given[made:] = np.where(hole[made:] & stands, last, given[made:])
        trajectory = trajectory_from_poses(world.poses)
        return Conditions(
            command_from_trajectory(trajectory), trajectory, given=given, grid_yaw=world.conditions.grid_yaw
        )

    def route(self, clip: int) -> Route:
        """Where the drive leads before and after a clip, as its first pose sees it."""
        start, poses = self.starts[clip], self.source.poses
        drive = trajectory_from_poses(np.concatenate([poses[start : start + 1], poses]))[1:]
        return drive[:start], drive[start + self.config.clip.frames :]

    def paste(self, clip: int, volume: NDArray[np.uint8]) -> None:
        """Take over what a clip ``[t, x, y, z]`` holds of the region in the frames that were not made before."""
        start, made = self.starts[clip], self._made(clip)
        new = ego_windows(replace(self._clip(clip, self.semantics), semantics=volume), self.config.grid).semantics
        frames = slice(start + made, start + self.config.clip.frames)
        self.semantics[frames] = np.where(self._inside[frames], new[made:], self.semantics[frames])

    def _made(self, clip: int) -> int:
        """How many frames of a clip the one before has made."""
        return self.starts[clip - 1] + self.config.clip.frames - self.starts[clip] if clip else 0

    def _clip(self, clip: int, semantics: NDArray[np.uint8]) -> OccupancyScene:
        """The frames of a clip of the scene, holding ``semantics``, on the clip's grid; the world is the scene's."""
        source, length = self.source, self.config.clip.frames
        start = self.starts[clip]
        frames = slice(start, start + length)
        grid_yaw = source.conditions.grid_yaw
        if grid_yaw is not None and source.frames != length:
            grid_yaw = grid_yaw_from(source.poses[start + length // 2], source.poses[source.frames // 2], grid_yaw)
        part = replace(
            source,
            semantics=semantics[frames],
            poses=source.poses[frames],
            timestamps_us=source.timestamps_us[frames],
            conditions=Conditions(grid_yaw=grid_yaw),
            instances=None,
            boxes=None,
            mask_lidar=None,
            mask_camera=None,
        )
        return anchored(part, self.config.clip_grid)
