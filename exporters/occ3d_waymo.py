"""Occ3D-Waymo trees: an npz a frame, and the info files with the poses and cameras that its readers take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.boxes_from_instances import boxes_from_instances
from exporters.camera_boxes import camera_boxes
from exporters.cameras import WAYMO_CAMERAS, Camera
from exporters.kitti_boxes import types_of
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, held_out
from exporters.npz import write_npz
from exporters.occ3d import occ3d_frames, occ3d_grid
from exporters.pickles import PickleStream
from exporters.sensors import WAYMO_TOP

LABELS = "occ3d-waymo"
# What free is on disk; readers make it 15.
FREE_ON_DISK = 23
# Waymo's type by native class; signs have voxels and no boxes.
_VEHICLES = ("car", "truck", "bus", "trailer", "construction_vehicle", "other_vehicle", "motorcycle", "motorcyclist")
TYPES = dict.fromkeys(_VEHICLES, "Car") | {"pedestrian": "Pedestrian", "cyclist": "Cyclist"}
# Type, track, centre, size (length, width, height) and yaw in the world; metres, radians.
WaymoBox = tuple[str, int, list[float], list[float], float]
# Which image each camera's is: front right comes before side left in KITTI's numbers, after it in ``cam_infos``.
_IMAGES = {2: 3, 3: 2}
_MOST = 1000  # scenes of a split, and frames of a scene: their numbers have three digits
_SPLITS = (("training", "train", "cam_infos.pkl"), ("validation", "val", "cam_infos_vali.pkl"))


class Occ3DWaymoTree:
    """Writes ``<out>/{training,validation}/SSS/FFF_04.npz`` and, at the end, the info files of each split.

    The last 15 % of the scenes (rounded; at least one of two or more) are the validation split; scenes
    are numbered from 000 in each split.

    Args:
        lengths: frames of each scene.
        options: the cameras.

    Raises:
        InputError: more scenes than numbers.
    """

    def __init__(self, lengths: Sequence[int], options: TreeOptions | None = None) -> None:
        scenes = len(lengths)
        if scenes - held_out(scenes) > _MOST:
            raise InputError("CORPUS", f"found {scenes} scenes, numbers have three digits", "export fewer scenes")
        self.cameras = (options or TreeOptions()).cameras or WAYMO_CAMERAS
        self.scenes, self.training = scenes, scenes - held_out(scenes)

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write the frames of one scene; its record has their poses and times, microseconds."""
        if scene.frames > _MOST:
            raise InputError(
                f"scene {scene.scene_id}", f"it has {scene.frames} frames, numbers have three digits", "cut it"
            )
        split, own = self._place(number)
        folder = f"{_SPLITS[split][0]}/{own:03d}"
        (out / folder).mkdir(parents=True)
        free, centres = taxonomy(LABELS).free, in_view(self.cameras)
        for frame, voxels in enumerate(occ3d_frames(scene, LABELS, WAYMO_TOP, self.cameras)):
            arrays = {
                "voxel_label": np.where(voxels.semantics == free, np.uint8(FREE_ON_DISK), voxels.semantics),
                "origin_voxel_state": voxels.mask_lidar,
                "final_voxel_state": voxels.mask_camera,
                "infov": centres | (voxels.mask_camera != 0),
            }
            write_npz(out / folder / f"{frame:03d}_04.npz", arrays)
        boxes = scene_boxes(scene)
        return {
            "folder": folder,
            "poses": scene.poses.tolist(),
            "times": scene.timestamps_us.tolist(),
            "boxes": [boxes.get(frame, []) for frame in range(scene.frames)],
        }

    def _place(self, number: int) -> tuple[int, int]:
        """The split of a scene and its number in it."""
        split = int(number >= self.training)
        return split, number - split * self.training

    def _info(
        self, pose: NDArray[np.float64], time: int, boxes: list[WaymoBox], split: int, number: int, frame: int
    ) -> dict[str, Any]:
        """One frame as the KITTI-style info files of Waymo have it; images and points are named, not written."""
        name = f"{split}{number:03d}{frame:03d}"
        front = self.cameras[0]
        infos = [camera_info(camera, pose) for camera in self.cameras]
        projections = {f"P{_IMAGES.get(k, k)}": info["intrinsics"] for k, info in enumerate(infos)}
        return {
            "sample_idx": int(name),
            "timestamp": time,
            "pose": pose,
            "image": {
                "image_idx": int(name),
                "image_path": f"training/image_0/{name}.png",
                "image_shape": np.array([front.height, front.width], np.int32),
            },
            "point_cloud": {"num_features": 6, "velodyne_path": f"training/velodyne/{name}.bin"},
            "calib": {
                **dict(sorted(projections.items())),
                "R0_rect": np.eye(4),
                "Tr_velo_to_cam": np.linalg.inv(front.to_ego()),
            },
            "annos": annotated(boxes, pose, front),
            "sweeps": [],
        }

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """Write ``waymo_infos_{train,val}.pkl`` and ``cam_infos{,_vali}.pkl``, scene by scene."""
        with ExitStack() as files:

            def begin(name: str) -> PickleStream:
                return PickleStream(files.enter_context(open(out / name, "xb")))

            infos = [begin(f"waymo_infos_{short}.pkl") for _, short, _ in _SPLITS]
            cam_infos = [begin(name) for *_, name in _SPLITS]
            for split, (folder, *_) in enumerate(_SPLITS):
                (out / folder).mkdir(exist_ok=True)
                infos[split].open_list()
                cam_infos[split].open_dict()
            for number, record in enumerate(records):
                split, own = self._place(number)
                poses = np.array(record["poses"])
                cameras = [[camera_info(camera, pose) for camera in self.cameras] for pose in poses]
                cam_infos[split].value(own)
                cam_infos[split].value(dict(enumerate(cameras)))
                for frame, pose in enumerate(poses):
                    time, boxes = record["times"][frame], record["boxes"][frame]
                    infos[split].value(self._info(pose.copy(), time, boxes, split, own, frame))
            for split in range(len(_SPLITS)):
                infos[split].close_list()
                cam_infos[split].close_dict()
                for stream in (infos[split], cam_infos[split]):
                    stream.stop()
        alone = ("one scene only: the validation split is empty",)
        return Finished(notes=() if self.scenes > 1 else alone)


def scene_boxes(scene: OccupancyScene) -> dict[int, list[WaymoBox]]:
    """The boxes of each frame that are objects of Waymo's, estimated from instances where the scene has no boxes."""
    boxes = boxes_from_instances(scene) if scene.boxes is None else scene.boxes
    kinds = types_of(scene.taxonomy, TYPES)
    found: dict[int, list[WaymoBox]] = {}
    for n, label in enumerate(boxes.label.tolist()):
        if (kind := kinds.get(label)) is not None:
            box = (kind, int(boxes.track[n]), boxes.center[n].tolist(), boxes.size[n].tolist(), float(boxes.yaw[n]))
            found.setdefault(int(boxes.frame[n]), []).append(box)
    return found


def annotated(boxes: list[WaymoBox], pose: NDArray[np.float64], front: Camera) -> dict[str, NDArray[Any]]:
    """``annos`` of one frame as info files of Waymo have them, by KITTI's conventions in the front camera's frame.

    ``dimensions`` are length, height, width, as MMDetection3D's boxes of cameras have them. Nobody counted points.

    Args:
        boxes: in the world.
        pose: ``[4, 4]`` ego-to-world.
        front: the camera.
    """
    projection = np.c_[front.intrinsic(), np.zeros(3)]
    to_camera = np.asarray(np.linalg.inv(pose @ front.to_ego()), np.float64)
    n = len(boxes)
    center = np.array([center for _, _, center, _, _ in boxes]).reshape(n, 3)
    size = np.array([size for *_, size, _ in boxes]).reshape(n, 3)
    yaw = np.array([yaw for *_, yaw in boxes])
    found = camera_boxes(center, size, yaw, to_camera, projection, (front.width, front.height))
    return {
        "name": np.array([kind for kind, *_ in boxes], "<U10"),
        "truncated": found.truncated,
        "occluded": np.zeros(n, np.int64),
        "alpha": found.alpha,
        "bbox": found.image,
        "dimensions": np.ascontiguousarray(size[:, [0, 2, 1]]),
        "location": found.bottom,
        "rotation_y": found.rotation,
        "index": np.arange(n, dtype=np.int32),
        "group_ids": np.array([track for _, track, *_ in boxes], np.int32),
        "camera_id": np.zeros(n, np.int64),
        "difficulty": np.zeros(n, np.int32),
        "num_points_in_gt": np.full(n, -1, np.int32),
    }


@lru_cache(maxsize=1)
def in_view(cameras: tuple[Camera, ...]) -> NDArray[np.bool_]:
    """Bool ``[200, 200, 16]``: voxels whose centre falls into some image, whatever stands in between. Not writable."""
    centers = occ3d_grid(10.0).centers()
    covered = np.logical_or.reduce([camera.covers(centers) for camera in cameras])
    covered.setflags(write=False)
    return covered


def camera_info(camera: Any, pose: NDArray[np.float64]) -> dict[str, Any]:
    """A camera in one frame: 4x4 ``intrinsics``, ``sensor2ego`` (x right, y down, z ahead), ``ego2global``."""
    intrinsics = np.eye(4)
    intrinsics[:3, :3] = camera.intrinsic()
    return {"intrinsics": intrinsics, "sensor2ego": camera.to_ego(), "ego2global": pose.copy()}


TREE = TreeFormat(
    LABELS,
    r"training|validation|waymo_infos_(train|val)\.pkl|cam_infos(_vali)?\.pkl",
    Occ3DWaymoTree,
    ("cameras",),
    covers=occ3d_grid(10.0),
)
