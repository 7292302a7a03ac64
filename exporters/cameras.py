"""Pinhole cameras: rigs, what they see of a scene, its depth, normals, classes and instances by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.bounded_files import LARGEST, are_numbers, read_request
from dyncity.errors import InputError
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.column_words import from_words
from exporters.fans import Fans, columns
from exporters.sensors import cast_scene, see_scene

# Nothing nearer stops a ray: a stray voxel at the lens would blind the camera.
NEAREST = 1.0


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera; its principal point is the centre of the image.

    Attributes:
        name: e.g. ``CAM_FRONT``.
        position: metres, in the ego frame.
        yaw: degrees that the optical axis is turned to the left of straight ahead.
        focal: pixels.
        width, height: pixels.
        pitch: degrees that the optical axis points below the horizon.
    """

    name: str
    position: tuple[float, float, float]
    yaw: float
    focal: float
    width: int = 1600
    height: int = 900
    pitch: float = 0.0

    def intrinsic(self) -> NDArray[np.float64]:
        """``[3, 3]`` camera matrix, pixels."""
        return np.array([[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1]])

    def rotation(self) -> NDArray[np.float64]:
        """``[3, 3]`` camera-to-ego; camera axes are x right, y down, z along the view."""
        cos, sin = np.cos(np.deg2rad(self.yaw)), np.sin(np.deg2rad(self.yaw))
        level = np.array([[sin, 0.0, cos], [-cos, 0.0, sin], [0.0, -1.0, 0.0]])
        if self.pitch == 0:
            return level
        cos, sin = np.cos(np.deg2rad(self.pitch)), np.sin(np.deg2rad(self.pitch))
        return level @ np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])

    def directions(self, stride: int) -> NDArray[np.float64]:
        """Rays ``[n, 3]`` in the ego frame through every ``stride``-th pixel, row by row; 1 long along the view."""
        u = np.arange(stride / 2, self.width, stride)
        v = np.arange(stride / 2, self.height, stride)
        across, down = np.meshgrid((u - self.width / 2) / self.focal, (v - self.height / 2) / self.focal)
        return np.stack([across, down, np.ones_like(across)], axis=-1).reshape(-1, 3) @ self.rotation().T

    def to_ego(self) -> NDArray[np.float64]:
        """``[4, 4]`` camera-to-ego."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.rotation(), self.position
        return pose

    def covers(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points ``[..., 3]`` in the ego frame fall into the image, whatever stands in between."""
        right, down, ahead = np.moveaxis((points - self.position) @ self.rotation(), -1, 0)
        within = np.abs(right) * self.focal < ahead * (self.width / 2)
        return within & (np.abs(down) * self.focal < ahead * (self.height / 2))

    def rows_columns(self, stride: int) -> tuple[int, int]:
        """The size of an image of every ``stride``-th pixel."""
        return len(np.arange(stride / 2, self.height, stride)), len(np.arange(stride / 2, self.width, stride))


# The six cameras of nuScenes' car, positions and angles rounded: five of 65 degrees, a wide one behind.
NUSCENES_CAMERAS = (
    Camera("CAM_FRONT", (1.70, 0.0, 1.51), 0.0, 1266.0),
    Camera("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), -55.0, 1260.0),
    Camera("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), 55.0, 1260.0),
    Camera("CAM_BACK", (0.03, 0.0, 1.58), 180.0, 809.0),
    Camera("CAM_BACK_LEFT", (1.04, 0.48, 1.56), 110.0, 1256.0),
    Camera("CAM_BACK_RIGHT", (1.04, -0.48, 1.56), -110.0, 1256.0),
)
# Waymo's five cameras in the order of its frames, positions and angles rounded: none looks back.
WAYMO_CAMERAS = (
    Camera("FRONT", (1.54, -0.02, 2.12), 0.0, 2060.0, 1920, 1280),
    Camera("FRONT_LEFT", (1.49, 0.10, 2.12), 45.0, 2060.0, 1920, 1280),
    Camera("SIDE_LEFT", (1.43, 0.12, 2.12), 90.0, 2060.0, 1920, 886),
    Camera("FRONT_RIGHT", (1.49, -0.15, 2.12), -45.0, 2060.0, 1920, 1280),
    Camera("SIDE_RIGHT", (1.43, -0.16, 2.12), -90.0, 2060.0, 1920, 886),
)

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "position": list,
    "yaw": (int, float),
    "focal": (int, float),
    "width": int,
    "height": int,
    "pitch": (int, float),
}


def read_cameras(path: Path) -> tuple[Camera, ...]:
    """Cameras from a JSON file: a list of objects with the fields of ``Camera``.

    Raises:
        InputError: not readable, not such a list, a field that is unknown, missing or of another kind.
    """
    rows = read_request(Path(path), "give a JSON file, a list of cameras")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(path, "it is no list of cameras", "give [{name, position, yaw, focal}, ...]")
    cameras = tuple(_camera(path, number, row) for number, row in enumerate(rows))
    names = [camera.name for camera in cameras]
    if len(set(names)) != len(names):
        raise InputError(path, "a name is given twice", "name cameras apart")
    return cameras


def _camera(path: Path, number: int, row: dict[str, Any]) -> Camera:
    where = f"{path}, camera {number}"
    for key, value in row.items():
        if key not in _FIELDS:
            raise InputError(where, f"unknown field {key!r}", f"use {', '.join(_FIELDS)}")
        plain = are_numbers(value, 3) if key == "position" else key == "name" or are_numbers([value], 1)
        if not isinstance(value, _FIELDS[key]) or not plain:
            fix = f"give numbers of at most {LARGEST:g}, three numbers for position, and a name in quotes"
            raise InputError(where, f"{key} is {value!r}", fix)
    missing = [key for key in ("name", "position", "yaw", "focal") if key not in row]
    if missing:
        raise InputError(where, f"it has no {missing[0]}", "give name, position [x, y, z], yaw and focal")
    camera = Camera(**(row | {"position": tuple(map(float, row["position"]))}))
    if camera.focal <= 0 or not (0 < camera.width <= 8192 and 0 < camera.height <= 8192):
        raise InputError(where, "an image without extent", "give focal above 0, width and height up to 8192")
    if not camera.name.replace("_", "").replace("-", "").isalnum():
        raise InputError(where, f"found name {camera.name!r}", "use letters, digits, '-' and '_'")
    return camera


@dataclass(frozen=True, slots=True, eq=False)
class CameraImages:
    """What a camera sees in one frame, an image of every ``stride``-th pixel.

    Attributes:
        depth: float32 ``[h, w]`` metres along the optical axis; infinite where nothing is hit.
        semantics: uint8 ``[h, w]`` class ids of the scene; its free id where nothing is hit.
        instances: uint16 ``[h, w]`` track numbers, 0 for none.
        normals: float32 ``[h, w, 3]`` unit normals of the faces that are hit, towards the camera, in its axes (x right,
            y down, z along the view); 0 where nothing is hit.
        seen: bool ``[x, y, z]`` voxels of the scene's grid that were passed or hit, unknown ones left out.
    """

    depth: NDArray[np.float32]
    semantics: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    normals: NDArray[np.float32]
    seen: NDArray[np.bool_]


def camera_images(
    scene: OccupancyScene, frame: int, camera: Camera, stride: int = 1, device: str | None = None
) -> CameraImages:
    """Cast every ``stride``-th pixel of a camera through one frame of a scene, on ``device`` (``cast_rays``)."""
    pose = np.linalg.inv(scene.grid_poses()[frame]) @ scene.poses[frame]
    directions = camera.directions(stride)
    hits = cast_scene(
        scene, frame, pose, np.asarray(camera.position), directions, NEAREST, np.inf, device, _fans((camera,), stride)
    )
    depth = np.full(len(directions), np.inf, np.float32)
    semantics = np.full(len(directions), taxonomy(scene.taxonomy).free, np.uint8)
    instances = np.zeros(len(directions), np.uint16)
    normals = np.zeros((len(directions), 3), np.float32)
    normals[hits.ray] = -hits.inward @ (pose[:3, :3] @ camera.rotation())
    # Directions are 1 long along the view, so the share of the distance that goes that way is 1 / length.
    depth[hits.ray] = hits.distance / np.linalg.norm(directions[hits.ray], axis=1)
    voxel = tuple(hits.voxel.T)
    semantics[hits.ray] = scene.semantics[frame][voxel]
    if scene.instances is not None:
        instances[hits.ray] = scene.instances[frame][voxel]
    shape = camera.rows_columns(stride)
    return CameraImages(
        depth=depth.reshape(shape),
        semantics=semantics.reshape(shape),
        instances=instances.reshape(shape),
        normals=normals.reshape(*shape, 3),
        seen=hits.seen & (scene.semantics[frame] != UNKNOWN),
    )


def point_map(
    camera: Camera, depth: NDArray[np.floating], pose: NDArray[np.float64], stride: int = 1
) -> NDArray[np.float64]:
    """Where what each pixel shows lies: ``[h, w, 3]`` metres, NaN where nothing is hit.

    Args:
        camera, stride: of the image.
        depth: ``[h, w]`` metres along the optical axis (``CameraImages.depth``).
        pose: ``[4, 4]`` ego to the frame of the points: with ``scene.poses[frame]`` that is the world, in which the
            maps of all cameras and frames agree.
    """
    known = np.where(np.isfinite(depth), depth, np.nan).astype(np.float64)
    # Directions are 1 long along the view, as depths are measured.
    points = camera.position + camera.directions(stride).reshape(*depth.shape, 3) * known[..., None]
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def camera_mask(
    scene: OccupancyScene,
    frame: int,
    cameras: Sequence[Camera] = NUSCENES_CAMERAS,
    stride: int = 10,
    device: str | None = None,
) -> NDArray[np.bool_]:
    """What some camera sees in one frame: bool ``[x, y, z]`` on the scene's grid, unknown voxels left out.

    Rays are cast on ``device`` (``cast_rays``).
    """
    return from_words(camera_seen(scene, frame, cameras, stride, device), scene.grid.shape[2])


def camera_seen(
    scene: OccupancyScene,
    frame: int,
    cameras: Sequence[Camera] = NUSCENES_CAMERAS,
    stride: int = 10,
    device: str | None = None,
) -> NDArray[np.uint64]:
    """``to_words(camera_mask(...))``."""
    pose = np.linalg.inv(scene.grid_poses()[frame]) @ scene.poses[frame]
    # One cast for all cameras: rays that see the same voxels share the work.
    fans, origins = _fans(cameras, stride), np.array([camera.position for camera in cameras])
    if fans is None:
        origins = np.repeat(origins, [np.prod(camera.rows_columns(stride)) for camera in cameras], axis=0)
    rays = _rig_directions(tuple(cameras), stride)
    return see_scene(scene, frame, pose, origins, rays, NEAREST, np.inf, device, fans)


def _fans(cameras: Sequence[Camera], stride: int) -> Fans | None:
    """The columns of their pixels, where all are level: those of a camera that looks down meet below it."""
    level = all(camera.pitch == 0 for camera in cameras)
    return columns(*(camera.rows_columns(stride) for camera in cameras)) if level else None


@lru_cache(maxsize=4)
def _rig_directions(cameras: tuple[Camera, ...], stride: int) -> NDArray[np.float64]:
    """Directions ``[n, 3]`` of the rays of a rig, camera by camera, the same in every frame; not to be written to."""
    directions = np.concatenate([camera.directions(stride) for camera in cameras])
    directions.setflags(write=False)
    return directions
