"""Info files of frames, as code built on nuScenes takes them: poses, sensors, boxes and where labels lie. No images.

Keys are those that the data set classes of the Occ3D challenge and PanoOcc, of FlashOcc and BEVDet, of OccWorld and of
OpenOccupancy touch. Frames follow each other through the file: loaders sort all of them by time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import OccupancyScene
from exporters.cameras import Camera
from exporters.native_tree import SceneRecord
from exporters.nuscenes_agents import STEPS, agent_ways
from exporters.nuscenes_boxes import LIDAR_TO_EGO, box_columns, box_record, ego_boxes, lidar_boxes
from exporters.pickles import PickleStream
from exporters.sensors import HDL_32E

METADATA = {"version": "v1.0-trainval"}
_LIDAR_QUATERNION = [float(np.sqrt(0.5)), 0.0, 0.0, -float(np.sqrt(0.5))]
_PAUSE = 1_000_000  # microseconds between scenes
_TURN = 2.0  # metres to the side that make a command a turn


@dataclass(frozen=True, slots=True)
class InfoFile:
    """One kind of info file.

    Attributes:
        name: of its files, ``{split}`` where train or val stands.
        by_scene: a dict of scenes, each a list of frames, with the ways of agents; else a list of all frames.
        bevdet: boxes as MMDetection3D has them from 1.0 on, and BEVDet's ``ann_infos``; else as before.
    """

    name: str
    by_scene: bool = False
    bevdet: bool = False


class InfoFiles:
    """The info files of a tree, a scene at a time: on disk while they grow, without a place of their own yet.

    Args:
        training: how many scenes are the training split; those after them are the validation split.
        kinds: which files.
        cameras: the rig.
        labels: frames have paths to labels of Occ3D.
    """

    def __init__(self, training: int, kinds: Sequence[InfoFile], cameras: Sequence[Camera], labels: bool) -> None:
        self._training, self._cameras, self._done, self._end = training, tuple(cameras), 0, -_PAUSE
        self._kinds, self._labels = tuple(kinds), labels
        self._files: dict[str, BinaryIO] = {}
        self._streams: list[list[PickleStream]] = []  # of each kind: of train, val
        for kind in kinds:
            # They are closed by whoever takes them; the system removes them then, or when the process ends.
            files = {kind.name.format(split=split): TemporaryFile() for split in ("train", "val")}  # noqa: SIM115
            self._streams.append([PickleStream(file) for file in files.values()])
            self._files.update(files)
            for stream in self._streams[-1]:
                stream.open_dict()
                stream.value("infos")
                stream.open_dict() if kind.by_scene else stream.open_list()

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        """The next scene: its name, its record with ``info_record`` in it."""
        poses, times = np.array(record["poses"]), np.array(record["times"])
        # Loaders sort the frames of all scenes by time: a scene begins after the one before it has ended.
        times += max(0, self._end + _PAUSE - int(times[0]))
        self._end = int(times[-1])
        infos = frame_infos(name, record["scene_token"], record["tokens"], times.tolist(), poses, self._cameras)
        boxes = [box_columns(rows) for rows in record["boxes"]]
        split = int(self._done >= self._training)
        for kind, row in zip(self._kinds, self._streams, strict=True):
            stream = row[split]
            if kind.by_scene:
                stream.value(name)
                stream.open_list()
            for frame, (info, pose) in enumerate(zip(infos, poses, strict=True)):
                more: dict[str, Any] = lidar_boxes(boxes[frame], pose, older=not kind.bevdet)
                if kind.bevdet:
                    more["ann_infos"] = ego_boxes(boxes[frame], pose)
                if kind.by_scene:
                    more |= agent_ways(boxes[frame : frame + STEPS + 1], pose)
                if self._labels:
                    folder = f"gts/{name}/{info['token']}"
                    more |= {"occ_path": folder, "occ_gt_path": f"{folder}/labels.npz"}
                stream.value(info | more)
            if kind.by_scene:
                stream.close_list()
        self._done += 1

    def finished(self) -> dict[str, BinaryIO]:
        """The files by name, complete, to be read from their start."""
        for kind, row in zip(self._kinds, self._streams, strict=True):
            for stream in row:
                stream.close_dict() if kind.by_scene else stream.close_list()
                stream.value("metadata")
                stream.value(METADATA)
                stream.close_dict()
                stream.stop()
        for file in self._files.values():
            file.seek(0)
        return self._files


def info_record(scene: OccupancyScene) -> SceneRecord:
    """What the infos of a scene are made of at the end of a tree, as JSON values."""
    return {
        "scene_token": frame_token(scene.scene_id, -1),
        "tokens": [frame_token(scene.scene_id, frame) for frame in range(scene.frames)],
        "times": scene.timestamps_us.tolist(),
        "poses": scene.poses.tolist(),
        "boxes": box_record(scene),
    }


def frame_infos(
    name: str,
    scene_token: str,
    tokens: Sequence[str],
    times: Sequence[int],
    poses: NDArray[np.float64],
    cameras: Sequence[Camera],
) -> list[dict[str, Any]]:
    """The infos of one scene, without boxes and labels.

    Args:
        name, scene_token: of the scene.
        tokens: of its frames; LiDAR and sample share theirs.
        times: of its frames, microseconds.
        poses: ``[t, 4, 4]`` ego-to-world.
        cameras: the rig.
    """
    chain = ["", *tokens, ""]
    steps, commands = ego_steps(poses)
    turned = [quaternion(camera.rotation()).tolist() for camera in cameras]
    infos = []
    for frame, token in enumerate(tokens):
        place, turn = poses[frame, :3, 3].tolist(), quaternion(poses[frame, :3, :3]).tolist()
        ego = {"ego2global_translation": place, "ego2global_rotation": turn}
        infos.append(
            {
                "token": token,
                "timestamp": times[frame],
                "scene_name": name,
                "scene_token": scene_token,
                "frame_idx": frame,
                "prev": chain[frame],
                "next": chain[frame + 2],
                "lidar_path": f"samples/LIDAR_TOP/{name}__LIDAR_TOP__{times[frame]}.pcd.bin",
                "lidar_token": token,
                "lidarseg": f"lidarseg/v1.0-trainval/{token}_lidarseg.bin",
                "sweeps": [],
                "lidar2ego_translation": list(HDL_32E.position),
                "lidar2ego_rotation": list(_LIDAR_QUATERNION),
                **ego,
                "can_bus": np.array([*place, *turn, *[0.0] * 11]),
                "cams": {
                    camera.name: _camera(camera, name, times[frame], ego, rotation)
                    for camera, rotation in zip(cameras, turned, strict=True)
                },
                "gt_ego_fut_trajs": steps[frame],
                "pose_mode": commands[frame],
            }
        )
    return infos


def _camera(camera: Camera, scene: str, time: int, ego: dict[str, Any], rotation: list[float]) -> dict[str, Any]:
    """One camera of one frame."""
    to_lidar = LIDAR_TO_EGO.T
    return {
        "data_path": f"imgs/{camera.name}/{scene}__{camera.name}__{time}.jpg",
        "type": camera.name,
        "timestamp": time,
        "cam_intrinsic": camera.intrinsic(),
        "sensor2ego_translation": list(camera.position),
        "sensor2ego_rotation": list(rotation),
        "sensor2lidar_translation": to_lidar @ (np.array(camera.position) - HDL_32E.position),
        "sensor2lidar_rotation": to_lidar @ camera.rotation(),
        **ego,
    }


def ego_steps(poses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How the ego goes on from each frame, in that frame's LiDAR frame (x right, y ahead), as VAD prepares it.

    Returns:
        ``[t, 6, 2]`` metres of each of the next steps, 0 after the last frame; ``[t, 3]`` one-hot: right, left,
        straight on, by whether the place after six steps (or the last one) lies 2 m to a side.
    """
    frames = len(poses)
    steps, commands = np.zeros((frames, STEPS, 2)), np.zeros((frames, 3))
    for frame in range(frames):
        ahead = np.minimum(np.arange(frame, frame + STEPS + 1), frames - 1)
        places = (poses[ahead, :3, 3] - poses[frame, :3, 3]) @ poses[frame, :3, :3] @ LIDAR_TO_EGO
        steps[frame] = np.diff(places[:, :2], axis=0)
        aside = places[-1, 0]
        commands[frame, 0 if aside >= _TURN else 1 if aside <= -_TURN else 2] = 1
    return steps, commands


def frame_token(scene_id: str, frame: int) -> str:
    """32 hex digits that name a frame: the same scene gives the same tokens in every export."""
    return hashlib.sha256(f"{scene_id}/{frame}".encode()).hexdigest()[:32]


def quaternion(rotation: NDArray[np.floating]) -> NDArray[np.float64]:
    """``[3, 3]`` rotation -> unit quaternion ``[4]`` (w, x, y, z) with w >= 0.

    The largest eigenvector of Bar-Itzhack's symmetric matrix: exact for rotations, the nearest one for
    matrices that are a rotation up to rounding.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.asarray(rotation, np.float64)
    matrix = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    vector = np.linalg.eigh(matrix)[1][:, -1]
    first = np.argmax(np.abs(vector) > 1e-9)  # of half turns, whose w is 0, the same one of both signs
    return vector * np.sign(vector[first])
