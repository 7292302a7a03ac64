"""UniOcc trees: labels, camera mask, forward and backward voxel flow, cameras and boxes in an npz a frame."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import NATIVE
from exporters.cameras import NUSCENES_CAMERAS
from exporters.motion import track_poses
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, scene_names
from exporters.occ3d import LOWER, SHAPE, VOXEL_SIZE, Occ3DFrames, occ3d_frames
from exporters.pickles import object_array, portable_pickle
from exporters.sensors import HDL_32E

FREE = 10
# Class ids of UniOcc by native class; what is not listed is 0, a general object.
_CLASSES = {
    1: "car truck bus trailer construction_vehicle other_vehicle",
    2: "bicycle cyclist",
    3: "motorcycle motorcyclist",
    4: "pedestrian",
    5: "traffic_cone",
    6: "vegetation trunk",
    7: "road lane_marking crosswalk parking",
    8: "sidewalk terrain",
    9: "building",
    FREE: "free",
}


class UniOccTree:
    """Writes ``<out>/scene-NNNN/<frame>.npz`` and, at the end, ``<out>/scene_infos.pkl``.

    Args:
        lengths: frames of each scene.
        options: the numbers of the scenes, the cameras.

    Raises:
        InputError: when the chosen numbers do not fit.
    """

    def __init__(self, lengths: Sequence[int], options: TreeOptions | None = None) -> None:
        options = options or TreeOptions()
        self.lengths = tuple(lengths)
        self.names = scene_names(options, len(lengths))
        self.cameras = options.cameras or NUSCENES_CAMERAS

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write the frames of one scene."""
        name = self.names[number]
        (out / name).mkdir()
        frames = occ3d_frames(scene, "native", HDL_32E, self.cameras)
        paths = track_poses(scene)
        table = class_table()
        cameras = [
            {
                "name": camera.name,
                "filename": f"imgs/{camera.name}/{name}__{camera.name}.jpg",
                "intrinsics": camera.intrinsic(),
                "extrinsics": camera.to_ego(),
            }
            for camera in self.cameras
        ]
        for frame in range(scene.frames):
            write_npz(
                out / name / f"{frame}.npz",
                {
                    "occ_label": table[frames.semantics[frame]],
                    "occ_mask_camera": frames.mask_camera[frame],
                    "occ_flow_forward": voxel_flow(scene, frames, paths, frame, frame + 1),
                    "occ_flow_backward": voxel_flow(scene, frames, paths, frame, frame - 1),
                    "ego_to_world_transformation": scene.poses[frame],
                    "cameras": cameras,
                    "annotations": box_annotations(scene, frame, table),
                },
            )
        return {"folder": name}

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """Write ``scene_infos.pkl``."""
        infos = [
            {"scene_name": name, "occ_in_scene_paths": [f"{name}/{frame}.npz" for frame in range(frames)]}
            for name, frames in zip(self.names, self.lengths, strict=True)
        ]
        (out / "scene_infos.pkl").write_bytes(portable_pickle(infos))
        return Finished()


def class_table() -> NDArray[np.uint8]:
    """uint8 ``[256]``: native class ids to those of UniOcc."""
    table = np.zeros(256, np.uint8)
    for number, names in _CLASSES.items():
        table[[NATIVE.id(name) for name in names.split()]] = number
    return table


def voxel_flow(
    scene: OccupancyScene, frames: Occ3DFrames, paths: dict[int, NDArray[np.float64]], frame: int, other: int
) -> NDArray[np.float32]:
    """float32 ``[x, y, z, 3]``: how far, in voxels, each occupied voxel is elsewhere in another frame's grid.

    What has no track stands still in the world. Zero where free or unknown, where there is no such
    frame, and for tracks that it does not have.
    """
    flow = np.zeros((*SHAPE, 3), np.float32)
    if not 0 <= other < scene.frames:
        return flow
    occupied = np.flatnonzero(frames.semantics[frame].reshape(-1) != NATIVE.free)
    grid = GridSpec(SHAPE, (VOXEL_SIZE,) * 3, LOWER, scene.grid.frame_rate)
    index = np.stack(np.unravel_index(occupied, SHAPE), axis=1)
    points = (index + 0.5) * VOXEL_SIZE + grid.origin
    world_to_other = np.linalg.inv(scene.poses[other])

    def moved(step: NDArray[np.float64], which: NDArray[np.bool_] | slice) -> NDArray[np.float64]:
        to_other = world_to_other @ step @ scene.poses[frame]
        return points[which] @ to_other[:3, :3].T + to_other[:3, 3] - points[which]

    metres = moved(np.eye(4), slice(None))
    if frames.instances is not None:
        tracks = frames.instances[frame].reshape(-1)[occupied]
        for track in np.unique(tracks[tracks > 0]).tolist():
            which = tracks == track
            path = paths.get(track, np.full((scene.frames, 4, 4), np.nan))[[frame, other]]
            known = np.isfinite(path).all()
            metres[which] = moved(path[1] @ np.linalg.inv(path[0]), which) if known else 0.0
    flow.reshape(-1, 3)[occupied] = metres / VOXEL_SIZE
    return flow


def box_annotations(scene: OccupancyScene, frame: int, table: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """The boxes of one frame; none where the scene has none."""
    boxes, rows = scene.boxes, []
    if boxes is None:
        return []
    for n in np.flatnonzero(boxes.frame == frame).tolist():
        cos, sin = np.cos(float(boxes.yaw[n])), np.sin(float(boxes.yaw[n]))
        world = np.eye(4)
        world[:2, :2] = [[cos, -sin], [sin, cos]]
        world[:3, 3] = boxes.center[n]
        rows.append(
            {
                "token": f"{scene.scene_id}/{int(boxes.track[n])}",
                "agent_to_ego": np.linalg.inv(scene.poses[frame]) @ world,
                "agent_to_world": world,
                "size": [float(value) for value in boxes.size[n]],
                "category_id": int(table[boxes.label[n]]),
            }
        )
    return rows


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """A compressed npz; lists become arrays of objects, as the readers of this format expect them."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            # Stamped with 1980-01-01, as numpy does: the same arrays give the same bytes.
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                if isinstance(value, list):
                    file.write(object_array(value))
                else:
                    np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)


TREE = TreeFormat("native", r"scene-\d{4,}|scene_infos\.pkl", UniOccTree, ("sequences", "cameras"))
