"""Occ3D trees: ``labels.npz`` a frame and ``annotations.json``, in the layout of Occ3D-nuScenes.

Grid and masks are those of Occ3D in all its editions; what is nuScenes' own (classes, cameras, names,
annotations) is in ``Occ3DNuScenesTree``. ``docs/export.md`` says what is chosen where Occ3D leaves a choice.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import label_map, taxonomy
from exporters.cameras import NUSCENES_CAMERAS, Camera, camera_seen
from exporters.column_words import from_words, to_words
from exporters.compiled import compiled
from exporters.labels import frames_on_grid
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, held_out, scene_names
from exporters.npz import write_npz
from exporters.nuscenes_infos import InfoFile, InfoFiles, frame_token, info_record, quaternion
from exporters.sensors import HDL_32E, Lidar, lidar_seen
from exporters.visibility import words_over_time

SHAPE = (200, 200, 16)
VOXEL_SIZE = 0.4
# The ego frame of nuScenes has its origin on the ground, as ours: no shift.
LOWER = (-40.0, -40.0, -1.0)

# What readers of annotations.json expect before the first and after the last frame of a scene.
_NO_FRAME = "EOF"
# Info files by the names that BEVDet and FlashOcc, the Occ3D challenge and PanoOcc, and OccWorld give them.
_INFOS = (
    InfoFile("bevdetv2-nuscenes_infos_{split}.pkl", bevdet=True),
    InfoFile("occ_infos_temporal_{split}.pkl"),
    InfoFile("nuscenes_infos_{split}_temporal_v3_scene.pkl", by_scene=True),
)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Occ3DFrame:
    """A frame of a scene in an Occ3D label space and grid, all uint8 ``[200, 200, 16]``.

    Attributes:
        semantics: class ids; free where unknown.
        mask_lidar: 1 where known and seen by the LiDAR from some pose of the scene.
        mask_camera: 1 where, besides, a camera sees it in that frame.
        instances: uint16 track numbers, where the scene has them.
    """

    semantics: NDArray[np.uint8]
    mask_lidar: NDArray[np.uint8]
    mask_camera: NDArray[np.uint8]
    instances: NDArray[np.uint16] | None


def occ3d_grid(frame_rate: float) -> GridSpec:
    """The grid of Occ3D in the ego frame."""
    return GridSpec(SHAPE, (VOXEL_SIZE,) * 3, LOWER, frame_rate)


def occ3d_frames(
    scene: OccupancyScene,
    labels: str,
    lidar: Lidar,
    cameras: Sequence[Camera],
    moving: NDArray[np.bool_] | None = None,
) -> Iterator[Occ3DFrame]:
    """The frames of a scene as Occ3D has them: with its own visibility masks where it has them, else cast ones.

    Args:
        moving: of ``moving_tracks``, if at hand.
    """
    mask_lidar, mask_camera = _masks(scene, lidar, cameras, moving)
    masked = dataclasses.replace(scene, boxes=None, mask_lidar=mask_lidar, mask_camera=mask_camera)
    table, free = label_map(scene.taxonomy, labels), taxonomy(labels).free
    for voxels in frames_on_grid(masked, occ3d_grid(scene.grid.frame_rate)):
        # Thin classes came first, while they had a name.
        semantics, lidar_seen, camera_seen = (np.empty(SHAPE, np.uint8) for _ in range(3))
        found = [voxels[name].reshape(-1) for name in ("semantics", "mask_lidar", "mask_camera")]
        _map(*found, table, free, *(out.reshape(-1) for out in (semantics, lidar_seen, camera_seen)))
        yield Occ3DFrame(semantics, lidar_seen, camera_seen, voxels.get("instances"))


def _masks(
    scene: OccupancyScene, lidar: Lidar, cameras: Sequence[Camera], moving: NDArray[np.bool_] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """``mask_lidar`` and ``mask_camera``, uint8 ``[t, x, y, z]`` on the scene's grid."""
    mask_lidar, mask_camera = scene.mask_lidar, scene.mask_camera
    if mask_lidar is not None and mask_camera is not None:
        return mask_lidar, mask_camera
    observed: list[NDArray[np.uint64]]
    if mask_lidar is None:
        turns = np.stack([lidar_seen(scene, frame, lidar) for frame in range(scene.frames)])
        observed = list(words_over_time(scene, turns, moving))
        mask_lidar = _octets(observed, scene)
    else:
        observed = [to_words(mask > 0) for mask in mask_lidar]
    if mask_camera is None:
        # Occ3D counts as visible only what the LiDAR observed as well.
        seen = (camera_seen(scene, frame, cameras) & words for frame, words in enumerate(observed))
        mask_camera = _octets(seen, scene)
    return mask_lidar, mask_camera


def _octets(frames: Iterable[NDArray[np.uint64]], scene: OccupancyScene) -> NDArray[np.uint8]:
    """Words of the frames of a scene as uint8 ``[t, x, y, z]``."""
    masks = np.empty(scene.semantics.shape, np.bool_)
    for frame, words in enumerate(frames):
        masks[frame] = from_words(words, scene.grid.shape[2])
    return masks.view(np.uint8)


@compiled
def _map(
    found: NDArray[np.uint8],
    lidar: NDArray[np.uint8],
    camera: NDArray[np.uint8],
    table: NDArray[np.uint8],
    free: int,
    semantics: NDArray[np.uint8],
    lidar_seen: NDArray[np.uint8],
    camera_seen: NDArray[np.uint8],
) -> None:
    """Fill the last three ``[n]`` from the classes and masks of a scene: free and unseen where unknown."""
    for n in range(len(found)):
        label = table[found[n]]
        known = label != UNKNOWN
        semantics[n] = label if known else free
        lidar_seen[n] = known and lidar[n] > 0
        camera_seen[n] = known and camera[n] > 0


class Occ3DNuScenesTree:
    """Writes ``<out>/gts/scene-NNNN/<token>/labels.npz`` and, at the end, ``<out>/annotations.json``.

    Scenes are numbered from 1 in the order they come. The last 15 % (rounded; at least one of two or
    more) are the validation split.

    Args:
        lengths: frames of each scene.
        options: the numbers of the scenes, the cameras.

    Raises:
        InputError: when the chosen numbers do not fit.
    """

    labels = "occ3d-nuscenes"

    def __init__(self, lengths: Sequence[int], options: TreeOptions | None = None) -> None:
        options = options or TreeOptions()
        self.cameras = options.cameras or NUSCENES_CAMERAS
        self.names = scene_names(options, len(lengths))

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write the frames of one scene; its record has their annotations."""
        name = self.names[number]
        tokens = [frame_token(scene.scene_id, frame) for frame in range(scene.frames)]
        chain = [_NO_FRAME, *tokens, _NO_FRAME]
        infos: dict[str, Any] = {}
        places = [transform_json(camera.rotation(), np.array(camera.position)) for camera in self.cameras]
        for frame, voxels in enumerate(occ3d_frames(scene, self.labels, HDL_32E, self.cameras)):
            token = tokens[frame]
            path = f"gts/{name}/{token}/labels.npz"
            (out / path).parent.mkdir(parents=True)
            arrays = {name: getattr(voxels, name) for name in ("semantics", "mask_lidar", "mask_camera")}
            write_npz(out / path, arrays)
            pose, time = scene.poses[frame], str(scene.timestamps_us[frame])
            ego = transform_json(pose[:3, :3], pose[:3, 3])
            infos[token] = {
                "timestamp": time,
                "camera_sensor": {
                    camera.name: {
                        "img_path": f"imgs/{camera.name}/{name}__{camera.name}__{time}.jpg",
                        "intrinsic": camera.intrinsic().tolist(),
                        "extrinsic": place,
                        "ego_pose": ego,
                    }
                    for camera, place in zip(self.cameras, places, strict=True)
                },
                "ego_pose": ego,
                "gt_path": path,
                "prev": chain[frame],
                "next": chain[frame + 2],
            }
        return {"folder": f"gts/{name}", "infos": infos, **info_record(scene)}

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """Write ``annotations.json`` and the info files, scene by scene: they can be larger than memory."""
        first_held_out = len(self.names) - held_out(len(self.names))
        annotations = {
            "train_split": self.names[:first_held_out],
            "val_split": self.names[first_held_out:],
            "scene_infos": {},
        }
        infos = InfoFiles(first_held_out, _INFOS, self.cameras, labels=True)
        with open(out / "annotations.json", "w", encoding="ascii") as file:
            file.write(json.dumps(annotations).removesuffix("}}"))
            for name, record in zip(self.names, records, strict=False):
                comma = ", " if name != self.names[0] else ""
                file.write(f"{comma}{json.dumps(name)}: {json.dumps(record['infos'])}")
                infos.add(name, record)
            file.write("}}\n")
        alone = ("one scene only: the validation split is empty",)
        return Finished(beside=infos.finished(), notes=() if len(self.names) > 1 else alone)


def transform_json(rotation: NDArray[np.floating], translation: NDArray[np.floating]) -> dict[str, list[float]]:
    """``{"translation": [x, y, z], "rotation": [w, x, y, z]}``."""
    return {
        "translation": [float(value) + 0.0 for value in translation],
        "rotation": [float(value) + 0.0 for value in quaternion(rotation)],
    }


TREE = TreeFormat(
    "occ3d-nuscenes",
    r"gts|annotations\.json",
    Occ3DNuScenesTree,
    ("sequences", "cameras"),
    covers=occ3d_grid(10.0),
)
