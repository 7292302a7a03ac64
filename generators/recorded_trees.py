"""RecordedTrees: the native tree of a data set as a source of scenes, one scene a drive or one a piece of it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from dyncity.conditions import Conditions, command_from_trajectory, trajectory_from_poses
from dyncity.datasets import carlasc, occ3d_nuscenes, occ3d_waymo, semantickitti
from dyncity.datasets.layout import MAX_SCENE_BYTES
from dyncity.datasets.tree import Drive, relative
from dyncity.errors import InputError
from dyncity.presets import preset
from dyncity.scene import OccupancyScene, SceneSpec
from generators.base import check_index
from generators.recorded_content import content_digest

IMPORTER_VERSION = 1  # raise it whenever the same tree becomes other bytes
_AT_ONCE = 16  # frames
# Whether a tree is the data set's own or an export, its files state no terms.
LICENCE = "unknown"
TREES = {
    "semantickitti": semantickitti.TREE,
    "occ3d-nuscenes": occ3d_nuscenes.TREE,
    "occ3d-waymo": occ3d_waymo.TREE,
    "carlasc": carlasc.TREE,
}


class RecordedTrees:
    """A SceneGenerator whose scenes are the drives of a tree, on the data set's own grid and label space.

    Attributes:
        name: which of ``TREES`` it reads.
        config: the preset of that name; the frame rate is that of the drives.
        micro_batch: specs a call.
        scenes: how many scenes the tree holds; ``SceneSpec.index`` counts through them.
        columns: the masks that the data set has.
    """

    def __init__(
        self, kind: str, source: Path, frames: int | None = None, micro_batch: int = 1, content: str | None = None
    ) -> None:
        """Find the drives; their names, poses and times are read.

        Args:
            kind: one of ``TREES``.
            source: the folder of the tree; ``docs/import.md`` says which folders will do.
            frames: cut each drive into pieces of so many frames (the last may be shorter); None: whole.
            micro_batch: specs a call of ``generate``.
            content: ``self.content``, where another process has found it; None: all files are read for it.

        Raises:
            InputError: no drives there, damaged poses or times, frames that do not match them, drives that are
                too long for a scene.
        """
        if frames is not None and frames < 1:
            raise InputError("--frames", f"found {frames}", "give a whole number above 0")
        self.name = kind
        self.micro_batch = micro_batch
        self.columns = TREES[kind].masks
        self._tree = TREES[kind]
        self._frames, self._source = frames, Path(source)
        self._content = content
        self._drives = self._tree.find(Path(source))
        names = [drive.name for drive in self._drives]
        for name in names:
            if names.count(name) > 1:
                raise InputError(source, f"two drives are named {name}", "keep one of the two")
        config = preset(kind)
        self.config = replace(config, grid=replace(config.grid, frame_rate=self._rate(config.grid.frame_rate)))
        most = MAX_SCENE_BYTES // (config.grid.voxels * (1 + len(self.columns)))
        longest = max(self._drives, key=lambda drive: len(drive.files))
        if min(frames or len(longest.files), len(longest.files)) > most:
            raise InputError(
                "--frames", f"{longest.name} has {len(longest.files)}, a scene at most {most}", f"give {most} or fewer"
            )
        self._pieces = [piece for drive in self._drives for piece in self._cut(drive)]
        self.scenes = len(self._pieces)

    def _rate(self, otherwise: float) -> float:
        """Frames a second over all drives, in whole hertz as data sets state it where it is above 1."""
        steps = sum(len(drive.timestamps_us) - 1 for drive in self._drives)
        if not steps:
            return otherwise
        rate = steps / sum(int(drive.timestamps_us[-1] - drive.timestamps_us[0]) for drive in self._drives) * 1e6
        return float(round(rate)) if rate > 1 else float(f"{rate:.2g}")

    def _cut(self, drive: Drive) -> list[tuple[Drive, int, str]]:
        """(drive, first frame, scene id) of every scene of a drive."""
        if self._frames is None:
            return [(drive, 0, drive.name)]
        starts = range(0, len(drive.files), self._frames)
        return [(drive, start, f"{drive.name}-{part:03d}") for part, start in enumerate(starts)]

    @property
    def content(self) -> str:
        """A digest of all that the scenes are made of."""
        if self._content is None:
            digest = hashlib.sha256()
            for drive in self._drives:
                digest.update(f"{drive.name}/{len(drive.files)}/".encode())
                digest.update(drive.timestamps_us.astype("<i8").tobytes() + drive.poses.astype("<f8").tobytes())
            files = {path for drive in self._drives for frame in drive.files for path in frame}
            digest.update(content_digest(files, self._source).encode())
            self._content = digest.hexdigest()
        return self._content

    def fingerprint(self) -> dict[str, str | int | float]:
        """The importer's version, what the drives hold and how they are cut."""
        return {
            "importer": IMPORTER_VERSION,
            "drives": self.content,
            "frames": self._frames or 0,
            "licence": LICENCE,
        }

    def check(self) -> None:
        """Look at the sizes and headers of all files, then read them all, to fail before anything is written.

        Raises:
            InputError: the first damaged file.
        """
        for drive in self._drives:
            self._tree.check(drive)
        frames = [(drive, number) for drive in self._drives for number in range(len(drive.files))]
        # In parts: a pool is handed all of its work at once, and keeps what is done until it is asked for.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for first in range(0, len(frames), _AT_ONCE):
                for _ in pool.map(lambda frame: self._tree.read(*frame), frames[first : first + _AT_ONCE]):
                    pass

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """The scenes numbered ``spec.index``; seeds and conditions change nothing about a recording.

        Raises:
            InputError: an index that no scene has, a damaged file.
        """
        return [self._scene(spec.index) for spec in specs]

    def _scene(self, index: int) -> OccupancyScene:
        check_index(index, self.scenes)
        drive, first, scene_id = self._pieces[index]
        span = range(first, min(first + (self._frames or len(drive.files)), len(drive.files)))
        shape = (len(span), *self.config.grid.shape)
        voxels = {name: np.empty(shape, np.uint8) for name in ("semantics", *self.columns)}
        for row, number in enumerate(span):
            frame = self._tree.read(drive, number)
            for name, array in voxels.items():
                array[row] = getattr(frame, name)
        poses = relative(drive.poses[span.start : span.stop])
        trajectory = trajectory_from_poses(poses)
        return OccupancyScene(
            scene_id=scene_id,
            semantics=voxels["semantics"],
            poses=poses,
            grid=self.config.grid,
            taxonomy=self.config.taxonomy,
            timestamps_us=drive.timestamps_us[span.start : span.stop],
            conditions=Conditions(command_from_trajectory(trajectory), trajectory),
            mask_lidar=voxels["mask_lidar"],
            mask_camera=voxels.get("mask_camera"),
            provenance={"generator": self.name, "drive": drive.name, "first_frame": first, "licence": LICENCE},
        )
