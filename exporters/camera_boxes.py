"""Boxes as a camera has them: where, which way, and the part of the image that they cover, by KITTI's conventions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_BOX = (-1.0, -1.0, -1.0, -1.0)
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_NEAREST = 0.1  # metres; corners nearer than that, or behind the camera, have no place in its image


@dataclass(frozen=True, slots=True)
class CameraBox:
    """A box in the frame of a camera (x right, y down, z ahead).

    Attributes:
        bottom: ``[3]`` the middle of the bottom face, metres.
        rotation: heading about y, radians: 0 along x, positive clockwise seen from above.
        alpha: the same, seen along the ray to the box.
        truncated: the share of its image box that is outside of the image; 1 where it is not in it.
        image: left, top, right, bottom, pixels; ``NO_BOX`` where it is not in the image.
    """

    bottom: NDArray[np.float64]
    rotation: float
    alpha: float
    truncated: float
    image: tuple[float, ...]


def camera_box(
    center: NDArray[np.floating],
    size: NDArray[np.floating],
    yaw: float,
    to_camera: NDArray[np.float64],
    projection: NDArray[np.floating],
    image: tuple[int, int],
) -> CameraBox:
    """An upright box of the world as a camera has it.

    Args:
        center, size, yaw: metres (length, width, height), radians, in the world.
        to_camera: ``[4, 4]`` world to camera.
        projection: ``[3, 4]`` camera to pixels.
        image: width and height, pixels.
    """
    cos, sin = np.cos(yaw), np.sin(yaw)
    along, across, up = (_CORNERS * size).T
    corners = np.stack([cos * along - sin * across, sin * along + cos * across, up], axis=1) + center
    bottom = to_camera[:3, :3] @ (center - np.array([0, 0, size[2] / 2])) + to_camera[:3, 3]
    ahead = to_camera[:3, :3] @ np.array([cos, sin, 0.0])
    rotation = float(np.arctan2(-ahead[2], ahead[0]))
    alpha = float(np.angle(np.exp(1j * (rotation - np.arctan2(bottom[0], bottom[2])))))
    truncated, box = _image_box(corners @ to_camera[:3, :3].T + to_camera[:3, 3], projection, image)
    return CameraBox(bottom, rotation, alpha, truncated, box)


def _image_box(
    corners: NDArray[np.float64], projection: NDArray[np.floating], image: tuple[int, int]
) -> tuple[float, tuple[float, ...]]:
    """Truncated share and 2D box (left, top, right, bottom) of corners ``[8, 3]`` in the camera's frame."""
    if (corners[:, 2] < _NEAREST).any():
        return 1.0, NO_BOX
    homogeneous = np.ones((8, 4))
    homogeneous[:, :3] = corners
    u, v, w = projection @ homogeneous.T
    left, right, top, bottom = (u / w).min(), (u / w).max(), (v / w).min(), (v / w).max()
    clipped = (max(left, 0.0), max(top, 0.0), min(right, image[0] - 1.0), min(bottom, image[1] - 1.0))
    area = max(clipped[2] - clipped[0], 0.0) * max(clipped[3] - clipped[1], 0.0)
    if area <= 0:
        return 1.0, NO_BOX
    return 1 - float(area / ((right - left) * (bottom - top))), tuple(map(float, clipped))
