"""Scenes longer than a clip: chunk after chunk, each given what the one before knows of its place.

A chunk shares its first half with the last half of the one before (paper section 4.2, "long sequences"). In planes
fixed to the world that half is known geometry: the voxels of the shared frames, and after them everything that stands,
on the grid of the new chunk. They are kept voxel for voxel; the DiT adds what comes into view and what moves.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import along, frame_on, moved_grid
from dyncity.conditions import (
    TURN_YAW,
    Conditions,
    command_from_trajectory,
    grid_yaw_from,
    poses_from_trajectory,
    trajectory_from_poses,
    turned,
    yaw_between,
)
from dyncity.config import Config, SamplingConfig
from dyncity.errors import InputError
from dyncity.metrics.components import components
from dyncity.object_storage import ObjectPath
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import taxonomy
from dyncity.trajectories import draw_drive
from generators.diffusion import LatentDiffusion

# A chunk whose ego heads farther than this from the axes of the lattice, and does not turn, begins a new one.
_ASKEW = np.deg2rad(12)


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
    sampled = True

    def __init__(self, diffusion: LatentDiffusion, chunks: int) -> None:
        config = diffusion.config
        if chunks < 1:
            raise InputError("--chunks", f"found {chunks}", "give at least 1")
        if config.clip.planes != "world" or not config.dit.given or config.clip.frames < 2:
            raise InputError("--chunks", "this checkpoint cannot continue a scene", "use one trained with dit.given")
        self.diffusion, self.chunks, self.micro_batch = diffusion, chunks, diffusion.micro_batch
        self.shared = config.clip.frames // 2
        self.config = lengthened(config, chunks)
        self._movers = np.isin(np.arange(256), list(taxonomy(config.taxonomy).movers))

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
            start = replace(spec, conditions=replace(asked, trajectory=asked.trajectory[:length]))
            first, drive = self.diffusion.conditions(start), asked.trajectory
        else:
            first, rng = self.diffusion.conditions(spec), stream(spec.seed, spec.index, Purpose.CHUNK)
            assert first.trajectory is not None
            assert first.grid_yaw is not None
            street = float(first.trajectory[length // 2, 2]) + first.grid_yaw
            drive = draw_drive(first.trajectory, frames, self.config.grid.frame_rate, rng, street)
        poses = poses_from_trajectory(drive)
        grid_yaw = grid_yaw_from(poses[frames // 2], poses[length // 2], first.grid_yaw or 0.0)
        return Conditions(first.command, drive, grid_yaw=grid_yaw)

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec; the chunks of all of them are made together."""
        inner = self.diffusion.config
        length, grid = inner.clip.frames, inner.clip_grid
        whole = [self.conditions(spec) for spec in specs]
        poses = [poses_from_trajectory(c.trajectory) for c in whole if c.trajectory is not None]
        seeds = [stream(s.seed, s.index, Purpose.LATENT_NOISE).integers(2**62, size=self.chunks) for s in specs]
        windows: list[list[NDArray[np.uint8]]] = [[] for _ in specs]
        before: list[NDArray[np.uint8]] = []
        places: list[NDArray[np.float64]] = []
        for chunk in range(self.chunks):
            start = chunk * (length - self.shared)
            parts = [p[start : start + length] for p in poses]
            if chunk:
                now = [self._place(place, part) for place, part in zip(places, parts, strict=True)]
            else:
                middle = self.config.clip.frames // 2
                streets = [turned(p[middle], c.grid_yaw) for p, c in zip(poses, whole, strict=True)]
                now = [along(street, part[length // 2]) for street, part in zip(streets, parts, strict=True)]
            asked = []
            for number, part in enumerate(parts):
                trajectory = trajectory_from_poses(part)
                given = self._given(before[number], np.linalg.inv(places[number]) @ now[number]) if chunk else None
                grid_yaw = yaw_between(part[length // 2], now[number])
                command = command_from_trajectory(trajectory)
                asked.append(Conditions(command, trajectory, given=given, grid_yaw=grid_yaw))
            # The first chunk is the scene that the spec alone would give.
            drawn = [s if chunk == 0 else SceneSpec(s.index, int(k[chunk])) for s, k in zip(specs, seeds, strict=True)]
            before, places = self.diffusion.volumes(drawn, asked), now
            for number, part in enumerate(parts):
                steps = np.linalg.inv(places[number]) @ part
                new = range(self.shared if chunk else 0, length)
                windows[number] += [frame_on(before[number][t], grid, inner.grid, steps[t]) for t in new]
        return [
            OccupancyScene(
                scene_id=f"{self.name}-{spec.index:06d}",
                semantics=np.stack(frames),
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

    def _place(self, before: NDArray[np.float64], part: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[4, 4]`` pose of a chunk's grid: next to its middle pose, on the lattice of the chunk before.

        Shifted by whole voxels and turned by right angles what is known is not resampled, so that no wall moves at the
        seam, and streets keep to the axes of the grid. A long bend without a turn leads away from them: from 12
        degrees on the grid is placed anew, along the ego.

        Args:
            before: of the chunk before.
            part: ``[t, 4, 4]`` poses of this one.
        """
        size = np.array(self.diffusion.config.grid.voxel_size)
        anchor = part[len(part) // 2]
        placed = along(before, anchor)
        if abs(yaw_between(placed, anchor)) > _ASKEW and abs(yaw_between(part[0], part[-1])) <= TURN_YAW:
            return anchor
        step = np.linalg.inv(before) @ placed
        step[:3, 3] = np.round(step[:3, 3] / size) * size
        step[:3, :3] = np.round(step[:3, :3])
        return before @ step

    def _given(self, before: NDArray[np.uint8], new_to_old: NDArray[np.float64]) -> NDArray[np.uint8]:
        """What the chunk before knows, on the grid of the new one, ``[t, x, y, z]``; 255 is open."""
        config = self.diffusion.config
        known = moved_grid(before[-self.shared :], config.clip_grid, new_to_old)
        last = known[-1]
        stands = ~self._movers[last] & (last != taxonomy(config.taxonomy).free) | self._parked(known)
        later = np.where(stands, last, UNKNOWN)
        rest = np.broadcast_to(later, (config.clip.frames - self.shared, *later.shape))
        return np.concatenate([known, rest]).astype(np.uint8)

    def _parked(self, known: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which voxels ``[x, y, z]`` of the last of ``known`` frames belong to a mover that stood in all."""
        movers = self._movers[known[-1]]
        unchanged = (known == known[-1]).all(axis=0)
        parked = np.zeros_like(movers)
        for part in components(movers):
            at = tuple(part.T)
            parked[at] = unchanged[at].all()
        return parked
