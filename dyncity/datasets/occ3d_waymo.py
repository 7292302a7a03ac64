"""Occ3D-Waymo trees, read: labels and masks of each frame, poses and times from the info files.

``docs/import.md`` says what becomes of them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.occ3d_frames import Occ3DFrameReader
from dyncity.datasets.plain_pickle import load_plain_pickle
from dyncity.datasets.tree import RESTORE, Drive, TreeReader, increasing, rigid
from dyncity.datasets.tree_files import NO_CLASS
from dyncity.errors import InputError

# On disk classes are 0 to 14 and free is 23; ours is 15.
_CLASSES = np.array([*range(15), *[NO_CLASS] * 8, 15], np.int16)
_FRAMES = Occ3DFrameReader("voxel_label", "origin_voxel_state", "final_voxel_state", _CLASSES)
_SPLITS = (("training", "waymo_infos_train.pkl"), ("validation", "waymo_infos_val.pkl"))

# Frame number -> (time in microseconds, ego pose [4, 4]).
_Infos = dict[int, tuple[int, NDArray[np.float64]]]


def find_drives(source: Path) -> list[Drive]:
    """The scenes that lie in ``training`` and ``validation`` of a folder with their info files.

    Scenes of the info files without a folder there are left out: the data set comes in parts.

    Raises:
        InputError: no scenes, missing or damaged info files, frames that do not match them.
    """
    drives = []
    for split, infos in _SPLITS:
        folders = sorted(source.glob(f"{split}/[0-9][0-9][0-9]"))
        scenes = _scenes(source / infos) if folders else {}
        drives += [_drive(f, f"{split}-{f.name}", scenes.get(int(f.name), {}), source / infos) for f in folders]
    if not drives:
        raise InputError(source, "no scenes in it", "give a folder with training/ or validation/ and info files")
    return drives


def _scenes(path: Path) -> dict[int, _Infos]:
    """The frames of an info file by scene; ``image_idx`` is split, three digits of scene, three of frame."""
    infos = load_plain_pickle(path)
    if not isinstance(infos, list):
        raise InputError(path, f"it holds {type(infos).__name__}", f"give a list of frames; {RESTORE}")
    scenes: dict[int, _Infos] = {}
    for position, info in enumerate(infos):
        try:
            number, time = int(info["image"]["image_idx"]), int(info["timestamp"])
            pose = np.asarray(info["pose"])
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise InputError(path, f"frame {position} has no index, time and pose ({error!r})", RESTORE) from None
        scene, frame = number % 1_000_000 // 1000, number % 1000
        where = f"{path}, scene {scene:03d}, frame {frame:03d}"
        if pose.shape != (4, 4) or pose.dtype.kind not in "fiu" or not np.isfinite(pose).all() or not 0 <= time < 2**62:
            raise InputError(where, "its pose is no finite 4x4 matrix, or its time is out of range", RESTORE)
        if frame in scenes.setdefault(scene, {}):
            raise InputError(where, "it is there twice", RESTORE)
        scenes[scene][frame] = time, pose.astype(np.float64)
    return scenes


def _drive(folder: Path, name: str, infos: _Infos, path: Path) -> Drive:
    found = [match for match in (re.fullmatch(r"(\d{3})_04\.npz", p.name) for p in folder.iterdir()) if match]
    numbers = {int(match[1]) for match in found}
    for number in sorted(numbers ^ set(infos)):
        file = folder / f"{number:03d}_04.npz"
        if number in numbers:
            raise InputError(file, f"{path} does not have it: {len(infos)} frames of this scene", RESTORE)
        raise InputError(file, f"it is missing: {path} has {len(infos)} frames of this scene", RESTORE)
    if not infos:
        raise InputError(folder, "no frame NNN_04.npz in it", RESTORE)
    frames, where = sorted(infos), f"{path}, scene {folder.name}"
    return Drive(
        name=name,
        files=tuple((folder / f"{number:03d}_04.npz",) for number in frames),
        poses=rigid(np.stack([infos[number][1] for number in frames]), where),
        timestamps_us=increasing(np.array([infos[number][0] for number in frames], np.int64), where),
    )


TREE = TreeReader(("mask_lidar", "mask_camera"), find_drives, _FRAMES.check, _FRAMES.read)
