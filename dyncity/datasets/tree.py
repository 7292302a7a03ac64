"""What readers of native trees have in common: the drives of a tree, their frames, poses, times and numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.bounded_files import LARGEST
from dyncity.errors import InputError

RESTORE = "restore the file from the data set"

_RIGID = 1e-3  # poses in text files are rounded; more than this is no rotation
_LATEST = 1e10  # seconds; 300 years


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """One recorded sequence of a tree.

    Attributes:
        name: letters, digits, '-', '_'.
        files: the files of each frame, in order of time.
        poses: float64 ``[t, 4, 4]`` ego-to-world, metres. The ego frame has its origin on the road; the world is
            the data set's.
        timestamps_us: int64 ``[t]`` microseconds, increasing.
    """

    name: str
    files: tuple[tuple[Path, ...], ...]
    poses: NDArray[np.float64]
    timestamps_us: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The voxels of one frame, all uint8 ``[x, y, z]``.

    Attributes:
        semantics: class ids of the data set's label space, 255 unknown.
        mask_lidar: 1 where a LiDAR observed the voxel from some pose of the drive.
        mask_camera: 1 where a camera sees it in this frame, or None.
    """

    semantics: NDArray[np.uint8]
    mask_lidar: NDArray[np.uint8]
    mask_camera: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class TreeReader:
    """How trees of one data set are read. Its label space and grid are those of the preset of the same name.

    Attributes:
        masks: which masks its frames have.
        find: a folder -> its drives; reads names, poses and times.
        check: looks at the sizes and headers of all files of a drive.
        read: (drive, number of a frame) -> its voxels.
    """

    masks: tuple[str, ...]
    find: Callable[[Path], list[Drive]]
    check: Callable[[Drive], None]
    read: Callable[[Drive, int], Frame]


def folders_with(source: Path, child: str, patterns: Sequence[str]) -> list[Path]:
    """The folders that hold a folder ``child``: ``source``, or what the first pattern that fits finds below it.

    Raises:
        InputError: no such folder; none is found.
    """
    if not source.is_dir():
        raise InputError(source, "it is no folder" if source.exists() else "there is no such folder", "give a tree")
    for folders in ([source], *(sorted(source.glob(pattern)) for pattern in patterns)):
        found = [folder for folder in folders if (folder / child).is_dir()]
        if found:
            return found
    raise InputError(source, f"no folder {child}/ in it", f"give a folder that holds {patterns[-1]}/{child}")


def drive_name(folder: Path, source: Path, constant: Sequence[str]) -> str:
    """The name of a drive: where it lies below ``source``, without the folders that are the same for all."""
    below = [part for part in folder.relative_to(source).parts if part not in constant]
    own = [part for part in folder.parts if part not in constant][-1:]
    return re.sub(r"[^A-Za-z0-9_-]", "-", "-".join(below or own))


def frame_numbers(folder: Path, endings: Sequence[str], poses: Path, lines: int) -> list[int]:
    """Numbers of the frames ``NNNNNN<ending>``, which count lines of ``poses`` from 0 in even steps, to its end.

    SemanticKITTI has voxels for every fifth scan: 000000, 000005 and so on. A frame counts when it has a file of
    any of the endings, so that a single file that is lost leaves no gap that looks like a step.

    Raises:
        InputError: no such files, a frame that is missing, one without a pose.
    """
    pattern = re.compile(r"(\d{6})(" + "|".join(map(re.escape, endings)) + ")")
    found = [match for match in (pattern.fullmatch(path.name) for path in folder.iterdir()) if match]
    numbers = sorted({int(match[1]) for match in found})
    if not numbers:
        raise InputError(folder, f"no file NNNNNN{endings[0]} in it", RESTORE)
    step = min(np.diff(numbers).tolist(), default=1)
    expected = range(0, lines, step)
    for number in sorted(set(numbers) ^ set(expected)):
        path = folder / f"{number:06d}{endings[0]}"
        if number in expected:
            raise InputError(path, f"it is missing: {poses.name} has {lines} poses, in steps of {step}", RESTORE)
        raise InputError(path, f"it has no pose of its own: {poses} has {lines}, in steps of {step}", RESTORE)
    return numbers


def rigid(matrices: NDArray[np.float64], where: object) -> NDArray[np.float64]:
    """Poses ``[n, 3, 4]`` or ``[n, 4, 4]`` as ``[n, 4, 4]``.

    Raises:
        InputError: numbers that are not finite or have no place on earth, a matrix that is no rotation and translation.
    """
    poses = np.tile(np.eye(4), (len(matrices), 1, 1))
    poses[:, : matrices.shape[1]] = matrices
    # Compared before anything is computed of them: products of such numbers overflow.
    rotations, sound = poses[:, :3, :3], np.abs(poses[:, :3, 3]).max(axis=1, initial=0) <= LARGEST
    sound &= np.abs(rotations).max(axis=(1, 2), initial=0) <= 1 + _RIGID
    sound &= (poses[:, 3] == [0, 0, 0, 1]).all(axis=1)
    rotations = np.where(sound[:, None, None], rotations, 0)
    off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0)
    wrong = np.flatnonzero(~sound | (off > _RIGID) | (np.linalg.det(rotations) < 0))
    if len(wrong):
        found = f"pose {wrong[0]} is no rotation and translation of at most {LARGEST:g} m"
        raise InputError(where, found, RESTORE)
    return poses


def relative(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses ``[t, 4, 4]`` in the frame of the first of them, which is exactly the identity."""
    moved = np.asarray(np.linalg.inv(poses[0]) @ poses, np.float64)
    moved[0] = np.eye(4)
    return moved


def below_lidar(poses: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """Poses ``[t, 4, 4]`` of an upright LiDAR -> those of the ego frame on the road, ``height`` metres below it."""
    lidar_from_ego = np.eye(4)
    lidar_from_ego[2, 3] = -height
    return poses @ lidar_from_ego


def microseconds(seconds: NDArray[np.float64], where: object) -> NDArray[np.int64]:
    """Times ``[t]`` in seconds as whole microseconds, or InputError where one is below 0 or above 10^10."""
    wrong = np.flatnonzero(~((seconds >= 0) & (seconds <= _LATEST)))
    if len(wrong):
        raise InputError(where, f"time {wrong[0]} is {seconds[wrong[0]]:g} s", f"give 0 to {_LATEST:g}; {RESTORE}")
    return np.rint(seconds * 1e6).astype(np.int64)


def increasing(times: NDArray[np.int64], where: object) -> NDArray[np.int64]:
    """Times ``[t]``, or InputError where one is not later than the one before."""
    stuck = np.flatnonzero(np.diff(times) <= 0)
    if len(stuck):
        raise InputError(where, f"time {stuck[0] + 1} is not later than the one before", RESTORE)
    return times
