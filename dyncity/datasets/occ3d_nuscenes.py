"""Occ3D-nuScenes trees, read: labels and masks of each frame, poses and times from annotations.json.

``docs/import.md`` says what becomes of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.bounded_files import read_json
from dyncity.datasets.occ3d_frames import Occ3DFrameReader
from dyncity.datasets.tree import RESTORE, Drive, TreeReader, increasing, rigid
from dyncity.errors import InputError

_FRAMES = Occ3DFrameReader("semantics", "mask_lidar", "mask_camera", np.arange(18, dtype=np.int16))
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


def find_drives(source: Path) -> list[Drive]:
    """The scenes that lie in ``gts`` of a folder with ``annotations.json``, by number.

    Annotated scenes without a folder there are left out: parts of the data set are downloads of their own.

    Raises:
        InputError: no folder gts, damaged annotations, frames that do not match them.
    """
    if not (source / "gts").is_dir():
        raise InputError(source, "no folder gts in it", "give a folder with gts/ and annotations.json")
    scenes = _scenes(source / "annotations.json")
    found = [p.name for p in (source / "gts").iterdir() if p.is_dir() and not p.name.startswith(".")]
    names = sorted(found, key=lambda name: (len(name), name))  # scene-10000 follows scene-9999
    if not names:
        raise InputError(source / "gts", "no scene in it", "give a folder with scenes")
    return [_drive(source, name, scenes) for name in names]


def _scenes(path: Path) -> dict[str, Any]:
    """``scene_infos`` of the annotations: scene -> token -> frame."""
    annotations = read_json(path, RESTORE, 2**30)  # the published one has some hundred MB
    scenes = annotations.get("scene_infos") if isinstance(annotations, dict) else None
    if not isinstance(scenes, dict):
        raise InputError(path, "it has no mapping scene_infos", RESTORE)
    return scenes


def _drive(source: Path, name: str, scenes: dict[str, Any]) -> Drive:
    where, folder = f"{source / 'annotations.json'}, {name}", source / "gts" / name
    infos = scenes.get(name)
    if not isinstance(infos, dict) or not infos or not _NAME.fullmatch(name):
        raise InputError(where, f"no frames are annotated for {folder}", RESTORE)
    frames = sorted((*_frame(info, f"{where}, {token}"), token) for token, info in infos.items())
    tokens = [token for _, _, token in frames]
    found = {p.name for p in folder.iterdir() if p.is_dir()}
    for token in sorted(found ^ set(tokens)):
        if token in found:
            raise InputError(folder / token, f"it is not annotated: {len(tokens)} frames are", RESTORE)
        raise InputError(folder / token, f"it is missing: {len(tokens)} frames are annotated", RESTORE)
    return Drive(
        name=name,
        files=tuple((folder / token / "labels.npz",) for token in tokens),
        poses=rigid(np.array([_matrix(pose) for _, pose, _ in frames]), where),
        timestamps_us=increasing(np.array([time for time, _, _ in frames], np.int64), where),
    )


def _frame(info: Any, where: str) -> tuple[int, tuple[float, ...]]:
    """Time in microseconds and ego pose (x, y, z, then the unit quaternion w, x, y, z) of an annotated frame."""
    try:
        time = int(info["timestamp"])
        pose = [float(v) for key in ("translation", "rotation") for v in info["ego_pose"][key]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(where, f"no timestamp and ego_pose in it ({error!r})", RESTORE) from None
    unit = len(pose) == 7 and max(map(abs, pose[3:])) < 2 and abs(np.linalg.norm(pose[3:]) - 1) <= 1e-3
    if not unit or not np.isfinite(pose).all():
        raise InputError(where, "ego_pose is no finite translation and unit quaternion", RESTORE)
    if not 0 <= time < 2**62:
        raise InputError(where, f"timestamp is {time}", RESTORE)
    return time, tuple(pose)


def _matrix(pose: tuple[float, ...]) -> NDArray[np.float64]:
    """``[3, 4]`` of a translation and a quaternion w, x, y, z, normalised."""
    w, x, y, z = np.array(pose[3:]) / np.linalg.norm(pose[3:])
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.c_[rotation, pose[:3]]


TREE = TreeReader(("mask_lidar", "mask_camera"), find_drives, _FRAMES.check, _FRAMES.read)
