"""Scenes longer than a clip: first what stands along the drive, then chunk after chunk what moves.

A chunk shares its first half with the last half of the one before (paper section 4.2, "long sequences"), and is given
those frames. In planes fixed to the world the city is known geometry as well: made before (``generators.city_ahead``),
it is given to every chunk, on the grid of the chunk. Both are kept voxel for voxel; the DiT adds what moves. A layout
is one of the whole scene, of which each clip is asked for what lies on its grid in its frames.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import along, frame_on, moved_grid
from dyncity.conditions import (
    TURN_YAW,
    Conditions,
    Layout,
    command_from_trajectory,
    grid_yaw_from,
    poses_from_trajectory,
    trajectory_from_poses,
    turned,
    yaw_between,
)
from dyncity.config import Config, SamplingConfig
from dyncity.contradictions import contradictions
from dyncity.datasets.layout import MAX_SCENE_BYTES
from dyncity.drivable import check_drivable
from dyncity.errors import InputError
from dyncity.layout import layout_on
from dyncity.models.conditioning import Route
from dyncity.movers import parked, without_cut_off
from dyncity.object_storage import ObjectPath
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import taxonomy
from dyncity.trajectories import draw_drive
from generators.asked_agents import columns_held
from generators.city_ahead import City, tiles_along
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
    gives_voxels = False

    def __init__(self, diffusion: LatentDiffusion, chunks: int) -> None:
        config = diffusion.config
        if chunks < 1:
            raise InputError("--chunks", f"found {chunks}", "give at least 1")
        longest = MAX_SCENE_BYTES // config.grid.voxels // config.clip.frames
        if chunks > longest:
            raise InputError("--chunks", f"found {chunks}, more than a scene can hold", f"give at most {longest}")
        if config.clip.planes != "world" or not config.dit.given or config.clip.frames < 2:
            raise InputError("--chunks", "this checkpoint cannot continue a scene", "use one trained with dit.given")
        self.diffusion, self.chunks, self.micro_batch = diffusion, chunks, diffusion.micro_batch
        self.shared = config.clip.frames // 2
        self.config = lengthened(config, chunks)
        self.anchor = self.config.clip.frames // 2  # the frame whose ego pose places layouts

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs."""
        return {**self.diffusion.fingerprint(), "chunks": self.chunks}

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The trajectory of the whole drive, what it begins with, and the layout where it lies.

        Raises:
            InputError: a given trajectory or layout has another number of frames, or the checkpoint was trained without
                layouts.
        """
        asked, frames, length = spec.conditions, self.config.clip.frames, self.diffusion.config.clip.frames
        layout = self._placed(asked.layout)
        spec, asked = replace(spec, conditions=replace(asked, layout=None)), replace(asked, layout=None)
        if asked.trajectory is not None:
            if len(asked.trajectory) != frames:
                fix = f"give {frames}, one a frame of {self.chunks} chunks"
                raise InputError("--trajectory", f"has {len(asked.trajectory)} rows", fix)
            check_drivable(asked.trajectory, self.config.grid.frame_rate, "--trajectory")
            start = replace(spec, conditions=replace(asked, trajectory=asked.trajectory[:length]))
            first, drive = self.diffusion.conditions(start), asked.trajectory
        else:
            first, rng = self.diffusion.conditions(spec), stream(spec.seed, spec.index, Purpose.CHUNK)
            assert first.trajectory is not None
            assert first.grid_yaw is not None
            street = float(first.trajectory[length // 2, 2]) + first.grid_yaw
            drive = draw_drive(first.trajectory, frames, self.config.grid.frame_rate, rng, street)
        if layout is not None:
            return Conditions(first.command, drive, layout, grid_yaw=layout.grid_yaw or 0.0)
        poses = poses_from_trajectory(drive)
        grid_yaw = grid_yaw_from(poses[frames // 2], poses[length // 2], first.grid_yaw or 0.0)
        return Conditions(first.command, drive, grid_yaw=grid_yaw)

    def _placed(self, layout: Layout | None) -> Layout | None:
        """The layout with the grid that its maps lie on: its own, or that of a clip."""
        if layout is None:
            return None
        config, frames = self.diffusion.config, self.config.clip.frames
        if not config.dit.layout_plane:
            raise InputError("layout", "this checkpoint was trained without it", "use one that knows it")
        placed = replace(layout, grid=layout.grid or config.clip_grid, anchor=self.anchor)
        if layout.maps.shape[1] != frames or layout.anchor not in (None, self.anchor):
            found = f"has {layout.maps.shape[1]} frames, anchor {layout.anchor}"
            raise InputError("layout", found, f"give {frames}, of {self.chunks} chunks, anchor {self.anchor}")
        return placed

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec; the clips of all of them are made together, first those of the city, then the chunks."""
        inner = self.diffusion.config
        length, grid = inner.clip.frames, inner.clip_grid
        whole = [self.conditions(spec) for spec in specs]
        poses = [poses_from_trajectory(c.trajectory) for c in whole if c.trajectory is not None]
        drives = [self._clips(path, asked) for path, asked in zip(poses, whole, strict=True)]
        seeds = [stream(s.seed, s.index, Purpose.LATENT_NOISE).integers(2**62, size=2 * self.chunks) for s in specs]
        # The first chunk has the noise of the scene that the spec alone would give, and is told where the drive leads.
        begun = [drive[0] for drive in drives]
        before = self.diffusion.volumes(specs, [c.asked() for c in begun], [c.route for c in begun])
        held: list[Counter[str]] = [Counter() for _ in specs]
        cities = self._cities(specs, drives, before, [s[self.chunks :] for s in seeds])
        windows: list[list[NDArray[np.uint8]]] = [[] for _ in specs]
        known: list[NDArray[np.uint8] | None] = [None] * len(specs)
        for chunk in range(self.chunks):
            if chunk:
                known = [
                    self._known(volume, city, drive[chunk - 1].place, drive[chunk].place)
                    for volume, city, drive in zip(before, cities, drives, strict=True)
                ]
                drawn = [SceneSpec(s.index, int(k[chunk])) for s, k in zip(specs, seeds, strict=True)]
                asked = [drive[chunk].asked(given) for drive, given in zip(drives, known, strict=True)]
                made = self.diffusion.volumes(drawn, asked, [drive[chunk].route for drive in drives], self.shared)
                before = [
                    city.kept(drive[chunk].place, volume)
                    for city, drive, volume in zip(cities, drives, made, strict=True)
                ]
            new = slice(self.shared if chunk else 0, length)
            for fact, drive, volume in zip(held, drives, before, strict=True):
                fact.update(columns_held(volume, drive[chunk].layout, inner.taxonomy, new))
            before = [
                self.diffusion.with_asked(volume, drive[chunk].asked(given), drive[chunk].route)
                for volume, drive, given in zip(before, drives, known, strict=True)
            ]
            for frames, drive, volume in zip(windows, drives, before, strict=True):
                steps = np.linalg.inv(drive[chunk].place) @ drive[chunk].poses
                frames += [frame_on(volume[t], grid, inner.grid, steps[t]) for t in range(length)[new]]
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
                    "generator": self.name, "seed": spec.seed, "index": spec.index, "chunks": self.chunks,
                    **self._facts(conditions), **fact,
                },
            )
            for spec, conditions, path, frames, fact in zip(specs, whole, poses, windows, held, strict=True)
        ]  # fmt: skip

    def _facts(self, conditions: Conditions) -> dict[str, int]:
        """What a scene's provenance says of its conditions: how much contradicts itself."""
        grid = self.diffusion.config.clip_grid
        found = contradictions(conditions, grid, self.config.taxonomy, self.anchor)
        return {"contradictions": len(found)} if found else {}

    def _clips(self, poses: NDArray[np.float64], whole: Conditions) -> list[_Clip]:
        """The chunks of a drive ``[t, 4, 4]``, whose streets run along ``grid_yaw`` at its middle pose."""
        length, step = self.diffusion.config.clip.frames, self.diffusion.config.clip.frames - self.shared
        street = turned(poses[self.anchor], whole.grid_yaw)
        clips: list[_Clip] = []
        for start in range(0, self.chunks * step, step):
            part = poses[start : start + length]
            place = self._place(clips[-1].place, part) if clips else along(street, part[length // 2])
            drive = trajectory_from_poses(np.concatenate([part[:1], poses]))[1:]
            layout = whole.layout
            if layout is not None:
                here = slice(start, start + length)
                layout = layout_on(layout, self.diffusion.config.clip_grid, np.linalg.inv(street) @ place, here)
            clips.append(_Clip(part, place, (drive[:start], drive[start + length :]), layout))
        return clips

    def _cities(
        self,
        specs: list[SceneSpec],
        drives: list[list[_Clip]],
        first: list[NDArray[np.uint8]],
        seeds: list[NDArray[np.int64]],
    ) -> list[City]:
        """What stands along each drive, from its ``first`` chunk on, tile after tile."""
        config = self.diffusion.config
        cities = [City(config.clip_grid, config.taxonomy) for _ in specs]
        tiles = [tiles_along([clip.place for clip in drive], config.clip_grid) for drive in drives]
        for city, drive, volume in zip(cities, drives, first, strict=True):
            city.add(drive[0].place, volume)
        for number in range(1, max(map(len, tiles))):
            # Rows of drives that need no more tiles are made and not used: a scene does not depend on its company.
            drawn = [SceneSpec(s.index, int(k[number])) for s, k in zip(specs, seeds, strict=True)]
            here = [drive[clips[min(number, len(clips) - 1)]] for drive, clips in zip(drives, tiles, strict=True)]
            asked = []
            for clip, city in zip(here, cities, strict=True):
                ground = city.at(clip.place)
                asked.append(clip.asked(np.broadcast_to(ground, (config.clip.frames, *ground.shape))))
            made = self.diffusion.volumes(drawn, asked, [clip.route for clip in here])
            for clips, clip, city, volume in zip(tiles, here, cities, made, strict=True):
                if number < len(clips):
                    city.add(clip.place, volume)
        return cities

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

    def _known(
        self, before: NDArray[np.uint8], city: City, old: NDArray[np.float64], new: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """What is known of a chunk, ``[t, x, y, z]``; 255 is open: all that the chunk before it holds of the shared
        frames, but movers that its sides cut off, and what stands, in all frames. Where nothing stands something may
        move, so free space is open.

        Args:
            before: the chunk before it, on the grid at the pose ``old``.
            city: what stands.
            new: the pose of its own grid.
        """
        config = self.diffusion.config
        shared = moved_grid(before[-self.shared :], config.clip_grid, np.linalg.inv(old) @ new)
        # Half a vehicle that was given would be half in all that follows: the chunk's own makes it a whole one.
        shared = without_cut_off(shared, config.taxonomy)
        stands = city.at(new)
        stands = np.where(stands == taxonomy(config.taxonomy).free, UNKNOWN, stands)
        stopped = parked(shared, config.taxonomy)
        later = np.where(stopped, shared[-1], stands)
        rest = np.broadcast_to(later, (config.clip.frames - self.shared, *later.shape))
        return np.concatenate([np.where(shared == UNKNOWN, stands, shared), rest]).astype(np.uint8)


@dataclass(frozen=True)
class _Clip:
    """A chunk or a tile: ``[t, 4, 4]`` poses of its frames, that of its grid, ``[4, 4]``, where the drive leads, and
    what is asked for on that grid.
    """

    poses: NDArray[np.float64]
    place: NDArray[np.float64]
    route: Route
    layout: Layout | None = None

    def asked(self, given: NDArray[np.uint8] | None = None) -> Conditions:
        """Its conditions, with what is known of it."""
        trajectory = trajectory_from_poses(self.poses)
        grid_yaw = yaw_between(self.poses[len(self.poses) // 2], self.place)
        command = command_from_trajectory(trajectory)
        return Conditions(command, trajectory, self.layout, given=given, grid_yaw=grid_yaw)
