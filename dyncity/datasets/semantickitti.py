"""SemanticKITTI trees, read: voxel labels with their invalid bits, poses and times of each sequence.

``docs/import.md`` says what becomes of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.tree import (
    RESTORE,
    Drive,
    Frame,
    TreeReader,
    below_lidar,
    drive_name,
    folders_with,
    frame_numbers,
    increasing,
    microseconds,
    rigid,
)
from dyncity.datasets.tree_files import NO_CLASS, check_size, numbers, read_rows, read_text, read_voxels, to_classes
from dyncity.errors import InputError
from dyncity.scene import UNKNOWN

SHAPE = (256, 256, 32)
_VOXELS = 256 * 256 * 32
# KITTI counts z from the LiDAR, 1.73 m above the road that ours counts from.
_LIDAR_HEIGHT = 1.73
# Raw id -> learning id, as in the data set's own configuration.
LEARNING_MAP = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11,
    49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7,
    254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip
# Known to be occupied by nothing that has a class: completion ignores them.
IGNORED = (1, 52, 99)
_CLASSES = np.array(
    [UNKNOWN if raw in IGNORED else LEARNING_MAP.get(raw, NO_CLASS) for raw in range(max(LEARNING_MAP) + 1)], np.int16
)
_ENDINGS = (".label", ".invalid")
_SEQUENCES = ("*", "sequences/*", "part-*/dataset/sequences/*", "dataset/sequences/*")


def find_drives(source: Path) -> list[Drive]:
    """The sequences under a folder: a sequence, a data set, or the parts of an export of many scenes.

    Sequences without voxel labels (11 to 21 have input scans alone) are left out.

    Raises:
        InputError: no sequence, missing or damaged poses, calibration or times, frames that do not match them.
    """
    folders = folders_with(source, "voxels", _SEQUENCES)
    labelled = [f for f in folders if any(p.suffix in _ENDINGS for p in (f / "voxels").iterdir())]
    if not labelled:
        raise InputError(source, "no voxel labels in it (sequences 11 to 21 have none)", "give sequences 00 to 10")
    return [_drive(folder, drive_name(folder, source, ("dataset", "sequences"))) for folder in labelled]


def _drive(folder: Path, name: str) -> Drive:
    lidar_to_camera = _lidar_to_camera(folder / "calib.txt")
    path = folder / "poses.txt"
    camera = rigid(read_rows(path, 12).reshape(-1, 3, 4), path)
    seconds = read_rows(folder / "times.txt", 1)[:, 0]
    if len(seconds) != len(camera):
        raise InputError(folder / "times.txt", f"{len(seconds)} times, {path.name} has {len(camera)} poses", RESTORE)
    frames = frame_numbers(folder / "voxels", _ENDINGS, path, len(camera))
    stems = [folder / "voxels" / f"{number:06d}" for number in frames]
    return Drive(
        name=name,
        files=tuple(tuple(map(stem.with_suffix, _ENDINGS)) for stem in stems),
        poses=below_lidar(np.linalg.inv(lidar_to_camera) @ camera[frames] @ lidar_to_camera, _LIDAR_HEIGHT),
        timestamps_us=increasing(microseconds(seconds[frames], folder / "times.txt"), folder / "times.txt"),
    )


def _lidar_to_camera(path: Path) -> NDArray[np.float64]:
    """``Tr`` ``[4, 4]``, from the LiDAR to camera 0, of a calibration."""
    for line in read_text(path).splitlines():
        key, _, values = line.partition(":")
        if key == "Tr":
            return rigid(numbers(values, 12, f"{path}, Tr").reshape(1, 3, 4), f"{path}, Tr")[0]
    raise InputError(path, "it has no line Tr", RESTORE)


def check_drive(drive: Drive) -> None:
    """Raise InputError unless all files of a sequence are there and have their sizes."""
    for label, invalid in drive.files:
        check_size(label, 2 * _VOXELS)
        check_size(invalid, _VOXELS // 8)


def read_frame(drive: Drive, number: int) -> Frame:
    """One voxel grid: learning ids; 255 where ``.invalid`` is set and for raw 1, 52 and 99.

    Raises:
        InputError: a file of another size, a raw id that the data set does not have.
    """
    label, invalid = drive.files[number]
    classes = to_classes(read_voxels(label, "<u2", SHAPE), _CLASSES, label)
    unseen = np.unpackbits(read_voxels(invalid, "u1", (_VOXELS // 8,))).reshape(SHAPE)
    return Frame(np.where(unseen, np.uint8(UNKNOWN), classes), 1 - unseen)


TREE = TreeReader(("mask_lidar",), find_drives, check_drive, read_frame)
