"""Boxes as a camera has them: where, which way, and the part of the image that they cover, by KITTI's conventions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_BOX = (-1.0, -1.0, -1.0, -1.0)
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_NEAREST = 0.1  # metres; corners nearer than that, or behind the camera, have no place in its image


@dataclass(frozen=True, slots=True, eq=False)
class CameraBoxes:
    """Boxes in the frame of a camera (x right, y down, z ahead), float64.

    Attributes:
        bottom: ``[n, 3]`` the middle of the bottom face, metres.
        rotation: ``[n]`` heading about y, radians: 0 along x, positive clockwise seen from above.
        alpha: ``[n]`` the same, seen along the ray to the box.
        truncated: ``[n]`` the share of its image box that is outside of the image; 1 where it is not in it.
        image: ``[n, 4]`` left, top, right, bottom, pixels; ``NO_BOX`` where it is not in the image.
    """

    bottom: NDArray[np.float64]
    rotation: NDArray[np.float64]
    alpha: NDArray[np.float64]
    truncated: NDArray[np.float64]
    image: NDArray[np.float64]


def camera_boxes(
    center: NDArray[np.floating],
    size: NDArray[np.floating],
    yaw: NDArray[np.floating],
    to_camera: NDArray[np.float64],
    projection: NDArray[np.floating],
    image: tuple[int, int],
) -> CameraBoxes:
    """Upright boxes of the world as a camera has them.

    Args:
        center, size, yaw: ``[n, 3]`` metres, ``[n, 3]`` length, width, height, ``[n]`` radians, in the world.
        to_camera: ``[4, 4]`` world to camera.
        projection: ``[3, 4]`` camera to pixels.
        image: width and height, pixels.
    """
    center, size, yaw = (np.asarray(array, np.float64) for array in (center, size, yaw))
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    along, across, up = np.moveaxis(_CORNERS * size[:, None], -1, 0)
    corners = np.stack([cos * along - sin * across, sin * along + cos * across, up], axis=-1) + center[:, None]
    bottom = _turned(center - size * [0, 0, 0.5], to_camera) + to_camera[:3, 3]
    ahead = _turned(np.concatenate([cos, sin, np.zeros_like(cos)], axis=1), to_camera)
    rotation = np.arctan2(-ahead[:, 2], ahead[:, 0])
    alpha = np.angle(np.exp(1j * (rotation - np.arctan2(bottom[:, 0], bottom[:, 2]))))
    truncated, boxes = np.ones(len(center)), np.tile(NO_BOX, (len(center), 1))
    in_camera = corners @ to_camera[:3, :3].T + to_camera[:3, 3]
    for n in np.flatnonzero((in_camera[:, :, 2] >= _NEAREST).all(axis=1)):
        truncated[n], boxes[n] = _image_box(in_camera[n], projection, image)
    return CameraBoxes(bottom, rotation, alpha, truncated, boxes)


def _turned(vectors: NDArray[np.float64], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[n, 3]`` by the rotation of ``[4, 4]``."""
    return np.ascontiguousarray((transform[:3, :3] @ vectors[:, :, None])[:, :, 0])


def _image_box(
    corners: NDArray[np.float64], projection: NDArray[np.floating], image: tuple[int, int]
) -> tuple[float, tuple[float, ...]]:
    """Truncated share and 2D box (left, top, right, bottom) of corners ``[8, 3]`` ahead of the camera, in its frame."""
    homogeneous = np.ones((8, 4))
    homogeneous[:, :3] = corners
    u, v, w = projection @ homogeneous.T
    left, right, top, bottom = (u / w).min(), (u / w).max(), (v / w).min(), (v / w).max()
    clipped = (max(left, 0.0), max(top, 0.0), min(right, image[0] - 1.0), min(bottom, image[1] - 1.0))
    area = max(clipped[2] - clipped[0], 0.0) * max(clipped[3] - clipped[1], 0.0)
    if area <= 0:
        return 1.0, NO_BOX
    return 1 - float(area / ((right - left) * (bottom - top))), tuple(map(float, clipped))
