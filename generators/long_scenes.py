"""Scenes longer than a clip: chunk after chunk, each given what the one before knows of its place.

A chunk shares its first half with the last half of the one before (paper section 4.2, "long sequences"). In planes
fixed to the world that half is known geometry: the voxels of the shared frames, and after them everything that stands,
resampled to the grid of the new chunk. They are kept voxel for voxel; the DiT adds what comes into view and what moves.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import ego_windows, moved_grid
from dyncity.conditions import Conditions, command_from_trajectory, poses_from_trajectory, trajectory_from_poses
from dyncity.config import Config, SamplingConfig
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import taxonomy
from dyncity.trajectories import draw_drive
from generators.diffusion import LatentDiffusion


def lengthened(config: Config, chunks: int) -> Config:
    """The configuration of scenes of so many chunks: that of a clip, with more frames."""
    frames = config.clip.frames
    return replace(config, clip=replace(config.clip, frames=frames + (chunks - 1) * (frames - frames // 2)))


def long_scenes(checkpoint: Path | ObjectPath, sampling: SamplingConfig, chunks: int) -> LongScenes:
    """``LongScenes`` from a checkpoint folder; a function of plain values, so that it travels to workers."""
    return LongScenes(LatentDiffusion(checkpoint, sampling), chunks)


class LongScenes:
    """Scenes of several chunks from a checkpoint; implements ``SceneGenerator``.

    Args:
        diffusion: makes the chunks; its checkpoint has planes fixed to the world and knows given voxels.
        chunks: how many; n chunks of t frames are a scene of t + (n - 1) t / 2 frames.

    Raises:
        InputError: the checkpoint cannot continue a scene.
    """

    name = "diffusion"

    def __init__(self, diffusion: LatentDiffusion, chunks: int) -> None:
        config = diffusion.config
        if chunks < 1:
            raise InputError("--chunks", f"found {chunks}", "give at least 1")
        if config.clip.planes != "world" or not config.dit.given or config.clip.frames < 2:
            raise InputError("--chunks", "this checkpoint cannot continue a scene", "use one trained with dit.given")
        self.diffusion, self.chunks, self.micro_batch = diffusion, chunks, diffusion.micro_batch
        self.shared = config.clip.frames // 2
        self.config = lengthened(config, chunks)

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs."""
        return {**self.diffusion.fingerprint(), "chunks": self.chunks}

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The trajectory of the whole drive and what it begins with.

        Raises:
            InputError: a given trajectory has another number of frames.
        """
        asked, frames, length = spec.conditions, self.config.clip.frames, self.diffusion.config.clip.frames
        if asked.trajectory is not None:
            if len(asked.trajectory) != frames:
                fix = f"give {frames}, one a frame of {self.chunks} chunks"
                raise InputError("--trajectory", f"has {len(asked.trajectory)} rows", fix)
            return Conditions(command_from_trajectory(asked.trajectory[:length]), asked.trajectory)
        first = self.diffusion.conditions(spec)
        assert first.trajectory is not None
        rng = stream(spec.seed, spec.index, Purpose.CHUNK)
        return Conditions(first.command, draw_drive(first.trajectory, frames, self.config.grid.frame_rate, rng))

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec; the chunks of all of them are made together."""
        inner = self.diffusion.config
        length, grid = inner.clip.frames, inner.clip_grid
        whole = [self.conditions(spec) for spec in specs]
        poses = [poses_from_trajectory(c.trajectory) for c in whole if c.trajectory is not None]
        seeds = [stream(s.seed, s.index, Purpose.LATENT_NOISE).integers(2**62, size=self.chunks) for s in specs]
        windows: list[list[NDArray[np.uint8]]] = [[] for _ in specs]
        before: list[NDArray[np.uint8]] = []
        for chunk in range(self.chunks):
            start = chunk * (length - self.shared)
            parts = [p[start : start + length] for p in poses]
            asked = []
            for number, part in enumerate(parts):
                trajectory = trajectory_from_poses(part)
                given = None
                if chunk:
                    earlier = poses[number][start - (length - self.shared) :][length // 2]
                    given = self._given(before[number], np.linalg.inv(earlier) @ part[length // 2])
                asked.append(Conditions(command_from_trajectory(trajectory), trajectory, given=given))
            # The first chunk is the scene that the spec alone would give.
            drawn = [s if chunk == 0 else SceneSpec(s.index, int(k[chunk])) for s, k in zip(specs, seeds, strict=True)]
            before = self.diffusion.volumes(drawn, asked)
            for number, (volume, part) in enumerate(zip(before, parts, strict=True)):
                scene = OccupancyScene(
                    scene_id=f"chunk-{chunk}",
                    semantics=volume,
                    poses=part,
                    grid=grid,
                    taxonomy=inner.taxonomy,
                    timestamps_us=np.arange(length, dtype=np.int64),
                    anchor=length // 2,
                )
                windows[number].append(ego_windows(scene, inner.grid).semantics[self.shared if chunk else 0 :])
        return [
            OccupancyScene(
                scene_id=f"{self.name}-{spec.index:06d}",
                semantics=np.concatenate(frames),
                poses=path,
                grid=inner.grid,
                taxonomy=inner.taxonomy,
                timestamps_us=np.round(np.arange(len(path)) * 1e6 / inner.grid.frame_rate).astype(np.int64),
                conditions=conditions,
                provenance={
                    "generator": self.name, "seed": spec.seed, "index": spec.index, "chunks": self.chunks
                },
            )
            for spec, conditions, path, frames in zip(specs, whole, poses, windows, strict=True)
        ]  # fmt: skip

    def _given(self, before: NDArray[np.uint8], new_to_old: NDArray[np.float64]) -> NDArray[np.uint8]:
        """What the chunk before knows, on the grid of the new one, ``[t, x, y, z]``; 255 is open."""
        config = self.diffusion.config
        space = taxonomy(config.taxonomy)
        still = np.ones(256, bool)
        still[[space.free, UNKNOWN, *space.movers]] = False
        known = moved_grid(before[-self.shared :], config.clip_grid, new_to_old)
        last = known[-1]
        later = np.where(still[last], last, UNKNOWN)
        rest = np.broadcast_to(later, (config.clip.frames - self.shared, *later.shape))
        return np.concatenate([known, rest]).astype(np.uint8)
