"""UniOcc trees: labels, camera mask, forward and backward voxel flow, cameras and boxes in an npz a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import Boxes, OccupancyScene
from dyncity.taxonomy import NATIVE
from exporters.boxes_from_instances import boxes_from_instances
from exporters.cameras import NUSCENES_CAMERAS
from exporters.compiled import compiled
from exporters.motion import moving_tracks, track_poses
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, scene_names
from exporters.npz import write_npz
from exporters.occ3d import SHAPE, VOXEL_SIZE, Occ3DFrame, occ3d_frames, occ3d_grid
from exporters.pickles import PickleStream
from exporters.sensors import HDL_32E

FREE = 10
# Flow is that of the lower corner of a voxel, and this is the corner of voxel 0, metres in the ego frame, where the
# data set's code (OccFrameToEgoFrame) has it: 1.2 m below its place, which matters only as far as the ego pitches.
_CORNER = (-40.0, -40.0, -2.2)
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
        paths = track_poses(scene)
        moving = None if scene.instances is None else moving_tracks(scene, paths)
        boxes = boxes_from_instances(scene) if scene.boxes is None else scene.boxes
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
        for frame, voxels in enumerate(occ3d_frames(scene, "native", HDL_32E, self.cameras, moving)):
            write_npz(
                out / name / f"{frame}.npz",
                {
                    "occ_label": table[voxels.semantics],
                    "occ_mask_camera": voxels.mask_camera,
                    "occ_flow_forward": voxel_flow(scene, voxels, paths, frame, frame + 1),
                    "occ_flow_backward": voxel_flow(scene, voxels, paths, frame, frame - 1),
                    "ego_to_world_transformation": scene.poses[frame],
                    "cameras": cameras,
                    "annotations": box_annotations(scene, boxes, frame, table),
                },
            )
        return {"folder": name}

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """Write ``scene_infos.pkl``, scene by scene."""
        with open(out / "scene_infos.pkl", "xb") as file:
            infos = PickleStream(file)
            infos.open_list()
            for name, frames in zip(self.names, self.lengths, strict=True):
                paths = [f"{name}/{frame}.npz" for frame in range(frames)]
                infos.value({"scene_name": name, "occ_in_scene_paths": paths})
            infos.close_list()
            infos.stop()
        return Finished()


def class_table() -> NDArray[np.uint8]:
    """uint8 ``[256]``: native class ids to those of UniOcc."""
    table = np.zeros(256, np.uint8)
    for number, names in _CLASSES.items():
        table[[NATIVE.id(name) for name in names.split()]] = number
    return table


def voxel_flow(
    scene: OccupancyScene, voxels: Occ3DFrame, paths: dict[int, NDArray[np.float64]], frame: int, other: int
) -> NDArray[np.float32]:
    """float32 ``[x, y, z, 3]``: how far, in voxels, each occupied voxel is elsewhere in another frame's grid.

    As the data set's ``uniocc_flow_gen.py`` has it.

    What has no track stands still in the world. Zero where free or unknown, where there is no such
    frame, and for tracks that it does not have.
    """
    flow = np.zeros((*SHAPE, 3), np.float32)
    if not 0 <= other < scene.frames:
        return flow

    world_to_other = np.linalg.inv(scene.poses[other])
    tracks = np.zeros(SHAPE, np.uint16) if voxels.instances is None else voxels.instances
    found = np.unique(tracks[tracks > 0])
    nowhere = np.full((scene.frames, 4, 4), np.nan)
    ends = np.array([paths.get(track, nowhere)[[frame, other]] for track in found.tolist()]).reshape(-1, 2, 4, 4)
    known = np.isfinite(ends).all(axis=(1, 2, 3))
    # What stands comes first; a track that the other frame does not have stays where it is in the grid.
    steps = np.tile(np.eye(4), (1 + len(found), 1, 1))
    steps[0] = world_to_other @ scene.poses[frame]
    steps[1:][known] = world_to_other @ ends[known, 1] @ np.linalg.inv(ends[known, 0]) @ scene.poses[frame]
    number = np.zeros(65536, np.int64)  # of each track, which step is its own
    number[found] = np.arange(1, len(steps))
    occupied = voxels.semantics != NATIVE.free
    _fill_flow(occupied, tracks, number, steps, np.array(_CORNER), VOXEL_SIZE, flow)
    return flow


@compiled
def _fill_flow(
    occupied: NDArray[np.bool_],
    tracks: NDArray[np.uint16],
    number: NDArray[np.int64],
    steps: NDArray[np.float64],
    corner: NDArray[np.float64],
    size: float,
    flow: NDArray[np.float32],
) -> None:
    """Fill ``flow`` ``[x, y, z, 3]`` where occupied: how many voxels the step (4x4) of its track moves a corner."""
    nx, ny, nz = occupied.shape
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                if occupied[i, j, k]:
                    step = steps[number[tracks[i, j, k]]]
                    x, y, z = i * size + corner[0], j * size + corner[1], k * size + corner[2]
                    flow[i, j, k, 0] = (step[0, 0] * x + step[0, 1] * y + step[0, 2] * z + step[0, 3] - x) / size
                    flow[i, j, k, 1] = (step[1, 0] * x + step[1, 1] * y + step[1, 2] * z + step[1, 3] - y) / size
                    flow[i, j, k, 2] = (step[2, 0] * x + step[2, 1] * y + step[2, 2] * z + step[2, 3] - z) / size


def box_annotations(scene: OccupancyScene, boxes: Boxes, frame: int, table: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """The boxes of one frame, as ``annotations`` has them."""
    rows, world_to_ego = [], np.linalg.inv(scene.poses[frame])
    for n in np.flatnonzero(boxes.frame == frame).tolist():
        cos, sin = np.cos(float(boxes.yaw[n])), np.sin(float(boxes.yaw[n]))
        world = np.eye(4)
        world[:2, :2] = [[cos, -sin], [sin, cos]]
        world[:3, 3] = boxes.center[n]
        rows.append(
            {
                "token": f"{scene.scene_id}/{int(boxes.track[n])}",
                "agent_to_ego": world_to_ego @ world,
                "agent_to_world": world,
                "size": [float(value) for value in boxes.size[n]],
                "category_id": int(table[boxes.label[n]]),
            }
        )
    return rows


TREE = TreeFormat(
    "native",
    r"scene-\d{4,}|scene_infos\.pkl",
    UniOccTree,
    ("sequences", "cameras"),
    covers=occ3d_grid(10.0),
    classes=lambda labels: class_table(),
)
