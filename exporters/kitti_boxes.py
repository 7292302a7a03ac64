"""KITTI-style boxes: ``label_2`` and ``calib`` a frame, and the scans they belong to, in KITTI's object layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE, label_map, taxonomy
from exporters.box_occlusion import UNKNOWN_LEVEL, occlusion_levels
from exporters.boxes_from_instances import boxes_from_instances
from exporters.camera_boxes import NO_BOX, camera_boxes
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, held_out
from exporters.semantickitti import IMAGE, LIDAR_TO_CAMERA, calib_text, color_camera
from exporters.sensors import HDL_64E, scan

# KITTI's type by native class; what is not listed is no object of KITTI's.
TYPES = {
    "car": "Car",
    "other_vehicle": "Van",
    "truck": "Truck",
    "bus": "Misc",
    "trailer": "Misc",
    "construction_vehicle": "Misc",
    "pedestrian": "Pedestrian",
    "cyclist": "Cyclist",
    "motorcyclist": "Misc",
    "motorcycle": "Misc",
    "bicycle": "Misc",
}
# The line of a frame without objects: readers concatenate or parse what a file lists, and fail on an empty one.
_NOTHING = "DontCare -1 -1 -10 -1 -1 -1 -1 -1 -1 -1 -1000 -1000 -1000 -10\n"


class KittiBoxesTree:
    """Writes ``<out>/training/{label_2,calib,velodyne,image_2}/NNNNNN.*`` and the lists of ``<out>/ImageSets``.

    Frames are numbered through all scenes; the last 15 % of the scenes (rounded; at least one of two or
    more) are the validation split. They are the test split too, in ``<out>/testing`` and without labels: the tools
    that prepare the data set fail on a list without frames.

    Args:
        lengths: frames of each scene.
        options: scans, placeholder images, whose size OpenPCDet reads.
    """

    def __init__(self, lengths: Sequence[int], options: TreeOptions | None = None) -> None:
        self.options = options or TreeOptions()
        self.training = len(lengths) - held_out(len(lengths))
        self.ends = list(accumulate(lengths))  # number of the frame after each scene's last

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write the frames of one scene; its record says where its boxes come from."""
        first = self.ends[number] - scene.frames
        folders = {"label_2": True, "calib": True, "velodyne": self.options.scans, "image_2": self.options.images}
        for name in (name for name, wanted in folders.items() if wanted):
            (out / "training" / name).mkdir(parents=True, exist_ok=True)
        boxes = boxes_from_instances(scene) if scene.boxes is None else scene.boxes
        native, calib, mount = types_of(scene.taxonomy, TYPES), object_calib_text(), np.eye(4)
        mount[:3, 3] = HDL_64E.position
        eye = _color_camera_place(mount)
        for frame in range(scene.frames):
            name, rows = f"{first + frame:06d}", boxes.frame == frame
            to_camera = LIDAR_TO_CAMERA @ np.linalg.inv(scene.poses[frame] @ mount)
            places = boxes.center[rows], boxes.size[rows], boxes.yaw[rows]
            hidden = occlusion_levels(scene, frame, eye, *places)
            kinds = [native.get(int(label)) for label in boxes.label[rows]]
            lines = box_lines(kinds, *places, to_camera, hidden.tolist())
            (out / "training/label_2" / f"{name}.txt").write_text("".join(lines) or _NOTHING, encoding="ascii")
            (out / "training/calib" / f"{name}.txt").write_text(calib, encoding="ascii")
            if self.options.images:
                Image.new("RGB", IMAGE).save(out / "training/image_2" / f"{name}.png")
            if self.options.scans:
                points = scan(scene, frame, HDL_64E).points
                rows = np.full((len(points), 4), 0.3, "<f4")
                rows[:, :3] = points
                (out / "training/velodyne" / f"{name}.bin").write_bytes(rows.data)
        if number >= self.training:
            _repeat_without_labels(out, range(first, first + scene.frames))
        source = "boxes" if scene.boxes is not None else "nothing" if scene.instances is None else "instances"
        return {"folder": "training", "source": source}

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """Write the splits."""
        (out / "ImageSets").mkdir()
        border, total = self.ends[self.training - 1], self.ends[-1]
        validation = (border, total)
        splits = {"train": (0, border), "val": validation, "trainval": (0, total), "test": validation}
        for name, numbers in ((name, range(*ends)) for name, ends in splits.items()):
            text = "".join(f"{number:06d}\n" for number in numbers)
            (out / "ImageSets" / f"{name}.txt").write_text(text, encoding="ascii")
        more = " ..." if len(self.ends) > 8 else ""
        notes = [f"scene i ends before frame {', '.join(map(str, self.ends[:8]))}{more}"]
        if border == total:
            notes.append("one scene only: the lists of the validation and test splits are empty")
        sources = {record["source"] for record in records}
        if "instances" in sources:
            notes.append("boxes are the least upright ones around each instance's voxels")
        if "nothing" in sources:
            notes.append("scenes without boxes and instances list no objects: their corpus has none of these columns")
        return Finished(notes=tuple(notes))


def _color_camera_place(mount: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[3]`` of the left colour camera in the ego frame, metres; ``mount`` is the LiDAR's pose there."""
    projection = color_camera()
    in_camera = np.linalg.solve(projection[:, :3], -projection[:, 3])
    return np.asarray((mount @ np.linalg.inv(LIDAR_TO_CAMERA) @ [*in_camera, 1.0])[:3])


def _repeat_without_labels(out: Path, frames: range) -> None:
    """Copy frames from ``training`` to ``testing``, all but their labels."""
    for folder in sorted(path for path in (out / "training").iterdir() if path.name != "label_2"):
        (out / "testing" / folder.name).mkdir(parents=True, exist_ok=True)
        for number in frames:
            (path,) = folder.glob(f"{number:06d}.*")
            shutil.copyfile(path, out / "testing" / folder.name / path.name)


def types_of(labels: str, types: Mapping[str, str]) -> dict[int, str]:
    """Types by class id of a taxonomy, from types by native class; in other spaces by what maps there."""
    if labels == "native":
        return {NATIVE.id(name): kind for name, kind in types.items()}
    table = label_map("native", labels)
    found: dict[int, str] = {}
    for name, kind in types.items():
        target = int(table[NATIVE.id(name)])
        if target != UNKNOWN and target != taxonomy(labels).free:
            found.setdefault(target, kind)
    return found


def box_lines(
    kinds: Sequence[str | None],
    center: NDArray[np.floating],
    size: NDArray[np.floating],
    yaw: NDArray[np.floating],
    to_camera: NDArray[np.float64],
    hidden: Sequence[int],
) -> list[str]:
    """Lines of ``label_2``: type, truncated, occluded, alpha, 2D box, height width length, x y z, rotation_y.

    x y z is the middle of the bottom face, in the camera's frame. A box that is not in the image of the
    left colour camera has a 2D box of -1, truncation 1 and an unknown occlusion.

    Args:
        kinds: KITTI's type of each box; None: no object of KITTI's, so no line.
        center, size, yaw: ``[n, 3]``, ``[n, 3]``, ``[n]`` in the world: metres (length, width, height), radians.
        to_camera: ``[4, 4]`` world to camera 0.
        hidden: KITTI's levels of occlusion (``occlusion_levels``).
    """
    lines, boxes = [], camera_boxes(center, size, yaw, to_camera, color_camera(), IMAGE)
    images, bottoms = boxes.image.tolist(), boxes.bottom.tolist()
    for n, kind in enumerate(kinds):
        if kind is not None:
            length, width, height = (float(value) for value in size[n])
            numbers = [boxes.alpha[n], *images[n], height, width, length, *bottoms[n], boxes.rotation[n]]
            level = UNKNOWN_LEVEL if tuple(images[n]) == NO_BOX else hidden[n]
            texts = " ".join(f"{value + 0.0:.4f}" for value in numbers)
            lines.append(f"{kind} {boxes.truncated[n]:.2f} {level} {texts}\n")
    return lines


def object_calib_text() -> str:
    """``calib`` of the object benchmark: P0 to P3, the rectification (none), LiDAR and IMU to camera."""
    lines = calib_text().splitlines()
    to_camera = lines[-1].removeprefix("Tr: ")
    identity = " ".join(f"{value:.12e}" for value in np.eye(3).reshape(-1))
    imu = " ".join(f"{value:.12e}" for value in np.eye(4)[:3].reshape(-1))
    rest = [f"R0_rect: {identity}", f"Tr_velo_to_cam: {to_camera}", f"Tr_imu_to_velo: {imu}"]
    return "\n".join([*lines[:-1], *rest]) + "\n"


TREE = TreeFormat("semantickitti", "training|testing|ImageSets", KittiBoxesTree, ("scans", "images"))
