"""Pictures from behind the ego, as who follows it sees the street: rays through the voxels, the ego drawn over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from exporters.cameras import Camera, camera_images
from exporters.pictures import CAR, INK, PATH
from exporters.rgbd import color_image

# Above what stands in most grids, so that walls beside a turn hide little; metres, degrees.
_POSITION, _PITCH = (-9.0, 0.0, 7.0), 24.0
_FOCAL = 0.75  # of the width: 67 degrees from side to side
_OVERSAMPLED = 2


def render_behind(scene: OccupancyScene, frame: int = 0, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """One frame from behind and above the ego, in the colours of the classes; the line is the ego's path from here on.

    Free and unknown voxels are not drawn. Nothing of the scene is drawn before the ego and its path.

    Args:
        scene: ego-centred or world-fixed.
        frame: number of the frame.
        size: (width, height) in pixels.

    Raises:
        InputError: the scene has no such frame.
    """
    if not 0 <= frame < scene.frames:
        raise InputError(f"scene {scene.scene_id}", f"has no frame {frame}", f"use 0 to {scene.frames - 1}")
    width, height = (_OVERSAMPLED * n for n in size)
    camera = Camera("BEHIND", _POSITION, 0.0, _FOCAL * width, width, height, _PITCH)
    canvas = Image.fromarray(color_image(camera_images(scene, frame, camera), scene, frame, camera))
    draw = ImageDraw.Draw(canvas)
    _draw_path(draw, camera, scene, frame)
    _draw_ego(draw, camera)
    return canvas.resize(size, Image.Resampling.LANCZOS)


def _pixels(camera: Camera, points: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Where points ``[n, 3]`` of the ego frame lie in the picture; those behind the camera are left out."""
    seen = (points - camera.position) @ camera.rotation()
    seen = seen[seen[:, 2] > 0.5]
    across, down = camera.focal * seen[:, 0] / seen[:, 2], camera.focal * seen[:, 1] / seen[:, 2]
    return [(float(u + camera.width / 2), float(v + camera.height / 2)) for u, v in zip(across, down, strict=True)]


def _draw_path(draw: ImageDraw.ImageDraw, camera: Camera, scene: OccupancyScene, frame: int) -> None:
    """The ego's way from this frame to the last, with a dark rim."""
    to_ego = np.linalg.inv(scene.poses[frame])
    ahead = (to_ego @ scene.poses[frame:])[:, :3, 3] + (0.0, 0.0, 0.1)
    line, width = _pixels(camera, ahead), max(2, camera.width // 220)
    if len(line) > 1 and np.abs(ahead - ahead[0]).max() > 1:
        draw.line(line, fill=INK, width=2 * width, joint="curve")
        draw.line(line, fill=PATH, width=width, joint="curve")


def _draw_ego(draw: ImageDraw.ImageDraw, camera: Camera) -> None:
    """The ego as a dark box with a white outline: from behind its back and its roof are seen."""
    length, width, height = CAR
    back, roof = -length / 2, height
    faces = (
        [(back, -width / 2, 0), (back, width / 2, 0), (back, width / 2, roof), (back, -width / 2, roof)],
        [(back, -width / 2, roof), (back, width / 2, roof), (-back, width / 2, roof), (-back, -width / 2, roof)],
    )
    for face, shade in zip(faces, (INK, (64, 68, 78)), strict=True):
        draw.polygon(_pixels(camera, np.array(face)), fill=shade, outline="white", width=max(1, camera.width // 400))
