"""RGB-D trees: what a rig of cameras sees of a scene, frame by frame, in nerfstudio's layout and more maps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dyncity.scene import OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.cameras import NUSCENES_CAMERAS, Camera, CameraImages, camera_images, point_map
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, scene_names

# nuScenes' rig at a quarter of its size: a voxel of 0.4 m is 3 pixels wide at 40 m.
RGBD_CAMERAS = tuple(replace(camera, focal=camera.focal / 4, width=400, height=225) for camera in NUSCENES_CAMERAS)
DEPTH_UNIT = 1e-3  # metres; 16 bits reach to 65.535 m
SKY = (198, 214, 230)
_SUN = np.array([-0.35, 0.45, 0.82])  # where light comes from, in the world
_DARKEST = 0.55
# nerfstudio's cameras look along -z with y up, ours along z with y down.
_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


class RgbdTree:
    """Writes ``<out>/scene-NNNN/transforms.json`` and ``<map>/<camera>/<frame>.png`` beside it.

    Args:
        lengths: frames of each scene.
        options: the numbers of the scenes, the cameras, whether point maps are written.

    Raises:
        InputError: when the chosen numbers do not fit.
    """

    def __init__(self, lengths: Sequence[int], options: TreeOptions | None = None) -> None:
        options = options or TreeOptions()
        self.names = scene_names(options, len(lengths))
        self.cameras = options.cameras or RGBD_CAMERAS
        self.points = options.points

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write all views of one scene."""
        folder, space = out / self.names[number], taxonomy(scene.taxonomy)
        head = {
            "camera_model": "OPENCV",
            "depth_unit_scale_factor": DEPTH_UNIT,
            "scene_id": scene.scene_id,
            "taxonomy": scene.taxonomy,
            "classes": list(space.classes),
        }
        rows = [self._view(folder, scene, frame, c) for frame in range(scene.frames) for c in self.cameras]
        views = ",\n".join(json.dumps(row) for row in rows)
        text = f'{json.dumps(head)[:-1]}, "frames": [\n{views}\n]}}\n'
        (folder / "transforms.json").write_text(text, encoding="ascii")
        return {"folder": self.names[number]}

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """Nothing is shared between scenes."""
        return Finished()

    def _view(self, folder: Path, scene: OccupancyScene, frame: int, camera: Camera) -> dict[str, Any]:
        """Write what one camera sees in one frame; its entry in ``transforms.json``."""
        images = camera_images(scene, frame, camera)
        maps = {
            "color": color_image(images, scene, frame, camera),
            "depth": depth_image(images.depth),
            "normal": np.rint((images.normals + 1) * 127.5).astype(np.uint8),
            "semantic": images.semantics,
        }
        if scene.instances is not None:
            maps["instance"] = images.instances
        name = f"{camera.name}/{frame:06d}"
        for kind, pixels in maps.items():
            (folder / kind / camera.name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{name}.png")
        paths = {f"{kind}_file_path": f"{kind}/{name}.png" for kind in maps if kind != "color"}
        if self.points:
            (folder / "points" / camera.name).mkdir(parents=True, exist_ok=True)
            points = point_map(camera, images.depth, scene.poses[frame]).astype("<f4")
            np.save(folder / "points" / f"{name}.npy", points, allow_pickle=False)
            paths["points_file_path"] = f"points/{name}.npy"
        return {
            "file_path": f"color/{name}.png",
            **paths,
            "transform_matrix": (scene.poses[frame] @ camera.to_ego() @ _TO_OPENGL).tolist(),
            **dict.fromkeys(("fl_x", "fl_y"), camera.focal),
            **{"cx": camera.width / 2, "cy": camera.height / 2, "w": camera.width, "h": camera.height},
            "camera": camera.name,
            "frame": frame,
            "time": int(scene.timestamps_us[frame] - scene.timestamps_us[0]) / 1e6,
            "ego_to_world": scene.poses[frame].tolist(),
        }


def depth_image(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """uint16 ``[h, w]`` in ``DEPTH_UNIT``; 0 where nothing is hit, or only what 16 bits do not reach."""
    units = np.rint(depth / DEPTH_UNIT)
    return np.where(units <= 65535, units, 0).astype(np.uint16)


def color_image(images: CameraImages, scene: OccupancyScene, frame: int, camera: Camera) -> NDArray[np.uint8]:
    """uint8 ``[h, w, 3]`` RGB: the colours of the classes, each face as bright as it is turned to the sun.

    Nothing else enters: the same face has the same colour in all cameras and frames.
    """
    space = taxonomy(scene.taxonomy)
    world = images.normals @ (scene.poses[frame][:3, :3] @ camera.rotation()).T.astype(np.float32)
    light = _DARKEST + (1 - _DARKEST) * np.maximum(world @ (_SUN / np.linalg.norm(_SUN)).astype(np.float32), 0)
    color = space.palette()[images.semantics] * light[..., None]
    color[~np.isfinite(images.depth)] = SKY
    return np.asarray(np.rint(color).astype(np.uint8))


TREE = TreeFormat(None, r"scene-\d{4,}", RgbdTree, ("sequences", "cameras", "points"))
