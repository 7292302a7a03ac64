"""CarlaSC trees, read: Cartesian voxel labels with their hit counts, poses and times of each town.

``docs/import.md`` says what becomes of them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

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
from dyncity.datasets.tree_files import check_size, read_rows, read_text, read_voxels, to_classes
from dyncity.errors import InputError
from dyncity.scene import UNKNOWN

SHAPE = (128, 128, 8)
_BYTES = 4 * math.prod(SHAPE)
_PARAMETERS = {"grid_size": [128, 128, 8], "min_bound": [-25.6, -25.6, -2], "max_bound": [25.6, 25.6, 1]}
# z counts from the LiDAR, 1.8 m above the road that ours counts from.
_LIDAR_HEIGHT = 1.8
# Raw id -> class, the data set's own map.
_CLASSES = np.array([0, 1, 2, 3, 4, 5, 6, 6, 8, 9, 10, 2, 5, 3, 7, 3, 3, 2, 5, 3, 3, 3, 7], np.int16)
_ENDINGS = (".label", ".bin")
_SPLITS = ("Train", "Val", "Test")
_TOWNS = ("cartesian", "*/cartesian", "*/*/cartesian", "Cartesian/*/*/cartesian")


def find_drives(source: Path) -> list[Drive]:
    """The towns under a folder: a town, a split, or the data set, whose splits come as Train, Val, Test.

    Raises:
        InputError: no town, another grid, missing or damaged poses or times, frames that do not match them.
    """
    folders = sorted(folders_with(source, "evaluation", _TOWNS), key=_split)
    return [_drive(folder, drive_name(folder, source, ("Cartesian", "cartesian"))) for folder in folders]


def _split(folder: Path) -> int:
    """Where the split of a town's ``cartesian`` folder comes in their order."""
    split = folder.parent.parent.name
    return _SPLITS.index(split) if split in _SPLITS else len(_SPLITS)


def _drive(folder: Path, name: str) -> Drive:
    _check_parameters(folder / "evaluation" / "params.json")
    path = folder / "poses.txt"
    lidar = rigid(read_rows(path, 12).reshape(-1, 3, 4), path)
    seconds = read_rows(folder / "times.txt", 1)[:, 0]
    if len(seconds) != len(lidar):
        raise InputError(folder / "times.txt", f"{len(seconds)} times, {path.name} has {len(lidar)} poses", RESTORE)
    frames = frame_numbers(folder / "evaluation", _ENDINGS, path, len(lidar))
    stems = [folder / "evaluation" / f"{number:06d}" for number in frames]
    return Drive(
        name=name,
        files=tuple(tuple(map(stem.with_suffix, _ENDINGS)) for stem in stems),
        poses=below_lidar(lidar[frames], _LIDAR_HEIGHT),
        timestamps_us=increasing(microseconds(seconds[frames], folder / "times.txt"), folder / "times.txt"),
    )


def _check_parameters(path: Path) -> None:
    """Raise InputError unless the grid is the data set's."""
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"not readable as JSON ({error})", RESTORE) from None
    for key, expected in _PARAMETERS.items():
        found = values.get(key) if isinstance(values, dict) else None
        if found != expected:
            raise InputError(path, f"{key} is {str(found)[:80]}", f"give a tree whose {key} is {expected}")


def check_drive(drive: Drive) -> None:
    """Raise InputError unless all files of a town are there and have their sizes."""
    for path in (path for files in drive.files for path in files):
        check_size(path, _BYTES)


def read_frame(drive: Drive, number: int) -> Frame:
    """One voxel grid: the data set's 11 classes; 255 where the hit count is 0.

    Raises:
        InputError: a file of another size, a raw id that the data set does not have, a hit count that is none.
    """
    label, hits = drive.files[number]
    classes = to_classes(read_voxels(label, "<u4", SHAPE), _CLASSES, label)
    counts = read_voxels(hits, "<f4", SHAPE)
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise InputError(hits, "a hit count is negative or not finite", RESTORE)
    return Frame(np.where(counts > 0, classes, np.uint8(UNKNOWN)), (counts > 0).astype(np.uint8))


TREE = TreeReader(("mask_lidar",), find_drives, check_drive, read_frame)
