"""SemanticKITTI trees: voxels for scene completion, scans with labels, poses, calibration, times.

Every number here is that of the data set: grid, bit order, raw ids, file layout. ``docs/export.md``
says what is chosen where the data set leaves a choice.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.labels import frames_looked_at
from exporters.motion import moving_tracks
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, check_folder, chosen_numbers
from exporters.semantickitti_ids import REMISSION, configuration, raw_table
from exporters.semantickitti_voxels import LOWER, SHAPE, VOXEL_SIZE, carrier, voxel_files
from exporters.sensors import HDL_64E, Scan, scan

LABELS = "semantickitti"
# KITTI's frame is the LiDAR's: z counts from the sensor, 1.73 m above the road that ours counts from.
LIDAR_HEIGHT = HDL_64E.position[2]

# Sequences by what they add to a small root: one to train on, the one to validate on, then the others.
_ROOT = (0, 8, 1, 2, 3, 4, 5, 6, 7, 9, 10)
# A loader finds masks and scans by replacing these words anywhere in a path.
_REPLACED = ("label", "velodyne", "voxels")

# KITTI's rig, nominal: four rectified cameras of one focal length, 0.27 m ahead of the LiDAR and 0.08 m
# below it. The offsets along x (left grey, right grey, left colour, right colour) are metres.
_FOCAL, _CENTER = 718.856, (607.1928, 185.2157)
_CAMERA_X = (0.0, 0.54, -0.06, 0.48)
IMAGE = (1241, 376)
LIDAR_TO_CAMERA = np.array(
    [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, -0.08], [1.0, 0.0, 0.0, -0.27], [0.0, 0.0, 0.0, 1.0]]
)


class SemanticKittiTree:
    """Writes scenes as sequences below ``<out>/dataset/sequences``, one scene a sequence.

    More than 11 scenes go to ``<out>/part-000/dataset/sequences`` and so on, at most 11 (00 to 10) each,
    so that every part is a data set by itself.

    Args:
        lengths: frames of each scene.
        options: sequence numbers (all in one root then), scans, placeholder images.

    Raises:
        InputError: when the chosen numbers do not fit.
    """

    def __init__(self, lengths: Sequence[int], options: TreeOptions | None = None) -> None:
        self.options = options or TreeOptions()
        self.folders = sequence_folders(len(lengths), self.options.sequences)

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write one scene as one sequence; its record has how many points have each raw id."""
        folder = self.folders[number]
        content = write_sequence(scene, out / folder, scans=self.options.scans, images=self.options.images)
        # Where KITTI's odometry has them, and its loaders look: dataset/poses/00.txt.
        poses = (out / folder).parents[1] / "poses"
        poses.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / folder / "poses.txt", poses / f"{_number(folder):02d}.txt")
        return {"folder": folder, "content": sorted(content.items())}

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """A label configuration a root next to the tree, as the official API and many loaders take it."""
        content: Counter[int] = Counter()
        for record in records:
            content.update(dict(record["content"]))
        roots = self._roots()
        beside = {
            f"{root}.semantic-kitti.yaml" if root != "." else "semantic-kitti.yaml": configuration(numbers, content)
            for root, numbers in roots.items()
        }
        return Finished(tuple(sorted(roots)), beside, tuple(self._notes()))

    def _roots(self) -> dict[str, list[int]]:
        """Each root and the numbers of its sequences."""
        roots: dict[str, list[int]] = {}
        for folder in self.folders:
            roots.setdefault(folder.split("dataset/")[0].rstrip("/") or ".", []).append(_number(folder))
        return roots

    def _notes(self) -> list[str]:
        """Which sequences loaders will miss."""
        short = len(self.folders) % len(_ROOT)
        if not short or not all(_number(f) in _ROOT for f in self.folders):
            return []
        missing = sorted(set(_ROOT) - {_number(f) for f in self.folders[-short:]})
        return [
            f"{'the last part' if len(self.folders) > len(_ROOT) else 'the tree'} has {short} of 11 labelled "
            f"sequences: loaders that walk the fixed splits will miss {', '.join(f'{n:02d}' for n in missing)}"
        ]


def sequence_folders(scenes: int, sequences: Sequence[int] | None) -> list[str]:
    """The folder of each scene in order, relative to the tree.

    Raises:
        InputError: when ``sequences`` does not give each scene a number of its own from 0 to 99.
    """
    if sequences is not None:
        return [f"dataset/sequences/{n:02d}" for n in chosen_numbers(sequences, scenes, 99)]
    folders = []
    for part, first in enumerate(range(0, scenes, len(_ROOT))):
        root = f"part-{part:03d}/" if scenes > len(_ROOT) else ""
        count = min(len(_ROOT), scenes - first)
        folders += [f"{root}dataset/sequences/{n:02d}" for n in sorted(_ROOT[:count])]
    return folders


def kitti_grid(frame_rate: float) -> GridSpec:
    """The data set's grid in OUR ego frame: its z range, moved up by the height of the LiDAR."""
    return GridSpec(SHAPE, (VOXEL_SIZE,) * 3, (LOWER[0], LOWER[1], LOWER[2] + LIDAR_HEIGHT), frame_rate)


def write_sequence(scene: OccupancyScene, folder: Path, *, scans: bool = True, images: bool = False) -> Counter[int]:
    """Write one scene as one sequence folder; frame i is number i in all files.

    Returns:
        How many points (without scans: occupied voxels) have each raw id.
    """
    raw = raw_table(scene.taxonomy)
    moving = moving_tracks(scene)
    grid = kitti_grid(scene.grid.frame_rate)
    turns = [scan(scene, frame, HDL_64E, inset=VOXEL_SIZE / 2, onto=grid) for frame in range(scene.frames)]
    carried = carrier(scene, [turn.seen for turn in turns], raw, moving)
    for name in ("voxels", *(("velodyne", "labels") if scans else ()), *(("image_2",) if images else ())):
        (folder / name).mkdir(parents=True)
    content: Counter[int] = Counter()
    for frame, (turn, (voxels, looked_at)) in enumerate(zip(turns, frames_looked_at(carried, grid), strict=True)):
        files = voxel_files(voxels["instances"], voxels["mask_lidar"], looked_at, turn.points)
        stem = folder / "voxels" / f"{frame:06d}"
        stem.with_suffix(".label").write_bytes(files.label.astype("<u2", copy=False).data)
        for ending, bits in zip((".bin", ".invalid", ".occluded"), files.bits, strict=True):
            stem.with_suffix(ending).write_bytes(bits.data)
        semantic = _write_scan(scene, frame, turn, raw, moving, folder) if scans else files.label[files.label > 0]
        content.update(dict(enumerate(np.bincount(semantic.reshape(-1)).tolist())))
        if images:
            Image.new("RGB", IMAGE).save(folder / "image_2" / f"{frame:06d}.png")
    (folder / "calib.txt").write_text(calib_text(), encoding="ascii")
    (folder / "poses.txt").write_text(poses_text(scene.poses), encoding="ascii")
    seconds = (scene.timestamps_us - scene.timestamps_us[0]) / 1e6
    (folder / "times.txt").write_text("".join(f"{s:.6e}\n" for s in seconds), encoding="ascii")
    return content


def color_camera() -> NDArray[np.float64]:
    """``[3, 4]`` projection of the left colour camera (``P2``), from camera 0's frame to pixels."""
    return _projection(_CAMERA_X[2])


def _projection(x: float) -> NDArray[np.float64]:
    """``[3, 4]`` of a rectified camera ``x`` metres to the right of camera 0."""
    return np.array([[_FOCAL, 0.0, _CENTER[0], -_FOCAL * x], [0.0, _FOCAL, _CENTER[1], 0.0], [0.0, 0.0, 1.0, 0.0]])


def calib_text() -> str:
    """``P0`` to ``P3`` (3x4 projections of the rectified cameras) and ``Tr`` (LiDAR to camera 0)."""
    lines = [f"P{number}: {_numbers(_projection(x))}" for number, x in enumerate(_CAMERA_X)]
    lines.append(f"Tr: {_numbers(LIDAR_TO_CAMERA[:3])}")
    return "\n".join(lines) + "\n"


def poses_text(poses: NDArray[np.float64]) -> str:
    """Ego poses ``[t, 4, 4]`` -> a line a frame: camera 0's pose, 3x4, in the frame of the first camera."""
    ego_from_lidar = np.eye(4)
    ego_from_lidar[2, 3] = LIDAR_HEIGHT
    world_from_lidar = poses @ ego_from_lidar
    lidar = np.linalg.inv(world_from_lidar[0]) @ world_from_lidar
    lidar[0] = np.eye(4)
    camera = LIDAR_TO_CAMERA @ lidar @ np.linalg.inv(LIDAR_TO_CAMERA)
    return "".join(f"{_numbers(pose[:3])}\n" for pose in camera)


def _write_scan(
    scene: OccupancyScene,
    frame: int,
    turn: Scan,
    raw: NDArray[np.uint16],
    moving: NDArray[np.bool_],
    folder: Path,
) -> NDArray[np.uint16]:
    """``velodyne/NNNNNN.bin`` (x, y, z, remission), ``labels/NNNNNN.label`` (instance, semantic); the latter."""
    points, tracks = turn.points, scene.instances
    semantic, instance = scene.semantics[frame][tuple(turn.voxel.T)], np.zeros(len(points), np.uint16)
    if tracks is not None:
        instance = tracks[frame][tuple(turn.voxel.T)]
    semantic = raw[moving[instance].view(np.uint8), semantic]
    rows, labels = np.empty((len(points), 4), "<f4"), np.empty((len(points), 2), "<u2")
    rows[:, :3], rows[:, 3] = points, REMISSION[semantic]
    labels[:, 0], labels[:, 1] = semantic, instance
    name = f"{frame:06d}"
    (folder / "velodyne" / f"{name}.bin").write_bytes(rows.data)
    (folder / "labels" / f"{name}.label").write_bytes(labels.data)
    return semantic


def _number(folder: str) -> int:
    """The sequence number of a sequence folder."""
    return int(folder.rsplit("/", 1)[1])


def _numbers(matrix: NDArray[np.floating]) -> str:
    """The entries in row order as KITTI writes them; adding 0 turns -0 into 0."""
    return " ".join(f"{value + 0.0:.12e}" for value in np.asarray(matrix, np.float64).reshape(-1))


TREE = TreeFormat(
    LABELS,
    r"dataset|part-\d{3,}",
    SemanticKittiTree,
    ("sequences", "scans", "images"),
    partial(check_folder, replaced=_REPLACED),
    covers=kitti_grid(10.0),
)
