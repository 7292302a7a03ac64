"""Voxels drawn in parallel projection: exact tiling of pixels, no holes, no GPU.

The three grid axes map to whole pixels, so a voxel's picture is one fixed set of pixel offsets and the
pictures of neighbours tile the screen. Voxels are written far to near; what is written last is what is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec

# The camera stands behind on the right, high up: forward is up and to the right on the screen.
AZIMUTH = np.deg2rad(33.0)
ELEVATION = np.deg2rad(52.0)
SUPERSAMPLING = 2.0

BACKGROUND = (246, 246, 243)
_FACES = (1.0, 0.80, 0.62)  # brightness of the top, of the face towards -y and of the one towards -x
_SHADOW = 0.66
_OUTLINE, _JOINT = 0.62, 0.90


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Where a grid lies on a canvas.

    Attributes:
        axes: int64 ``[3, 2]`` pixels (right, down) that one voxel spans along x, y, z.
        start: int64 ``[2]`` pixel of the lower corner of voxel (0, 0, 0).
        canvas: (width, height) of the canvas in pixels.
    """

    axes: NDArray[np.int64]
    start: NDArray[np.int64]
    canvas: tuple[int, int]

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """``[..., 3]`` in voxels (corner of voxel 0 is 0) -> ``[..., 2]`` pixels on the canvas."""
        return np.asarray(points, np.float64) @ self.axes + self.start

    @property
    def towards_camera(self) -> NDArray[np.float64]:
        """``[3]`` the direction, in voxels, that leads from the grid to the camera."""
        return np.cross(self.axes[:, 0], self.axes[:, 1]).astype(np.float64) * -1.0


def fit_view(grid: GridSpec, size: tuple[int, int]) -> View:
    """The view of a grid whose canvas, scaled down, fills a picture of ``size`` (width, height) pixels."""
    (sx, sy, sz), (sin, cos) = grid.voxel_size, (np.sin(AZIMUTH), np.cos(AZIMUTH))
    up, rise = np.sin(ELEVATION), np.cos(ELEVATION)
    # The screen is y down; lengths are relative to a voxel's edge along x.
    axes = np.array([(sin, -cos * up), (-cos * sy / sx, -sin * up * sy / sx), (0.0, -rise * sz / sx)], np.float64)
    extent = np.abs(axes).T @ np.array(grid.shape)
    scale = SUPERSAMPLING * min(size[0] / extent[0], size[1] / extent[1])
    whole = np.round(axes * scale).astype(np.int64)
    whole = np.where((whole == 0) & (axes != 0), np.sign(axes).astype(np.int64), whole)
    width, height = np.abs(whole).T @ np.array(grid.shape)
    start = np.array([-whole[1, 0] * grid.shape[1], height])
    return View(whole, start, (int(width), int(height)))


def _footprint(axes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pixel offsets (right, down) of a voxel at the start, and the face (0 top, 1 -y, 2 -x) of each."""
    ex, ey, ez = axes
    low = np.minimum(axes, 0).sum(axis=0)
    high = np.maximum(axes, 0).sum(axis=0)
    right, down = (a.ravel() for a in np.mgrid[low[0] - 1 : high[0] + 1, low[1] - 1 : high[1] + 1])
    # The odd fractions keep pixel centres off every edge, so that faces share no pixel and leave no gap.
    centres = np.stack([right + 0.5003, down + 0.5007], axis=1)
    face = np.full(len(right), -1)
    for number, (corner, u, v) in enumerate(((ez, ex, ey), (0 * ez, ex, ez), (0 * ez, ey, ez))):
        inside = np.linalg.solve(np.array([u, v], np.float64).T, (centres - corner).T).T
        face[((inside >= 0) & (inside < 1)).all(axis=1)] = number
    drawn = face >= 0
    return right[drawn], down[drawn], face[drawn]


def _shadows(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the sun, high on the left and a little behind, does not reach the top of a voxel."""
    shadow = np.zeros_like(solid)
    for z in range(solid.shape[2] - 2, -1, -1):
        above = solid[:, :, z + 1] | shadow[:, :, z + 1]
        back = z % 2
        shadow[back:, :-1, z] = above[: len(above) - back, 1:]
    return shadow


def _brightness(solid: NDArray[np.bool_], at: tuple[NDArray[np.int64], ...]) -> NDArray[np.float32]:
    """``[n, 3]`` brightness of the top, -y and -x faces of the voxels ``at``."""
    x, y, z = at
    light = np.tile(np.array(_FACES, np.float32), (len(x), 1))
    light[:, 0] *= np.where(_shadows(solid)[at], _SHADOW, 1.0)
    # Corners gather less light: darken a top by its higher neighbours, a side by the floor at its foot.
    padded = np.pad(solid, ((1, 1), (1, 1), (1, 1)))
    crowd = np.zeros(len(x), np.float32)
    for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        crowd += padded[x + 1 + dx, y + 1 + dy, z + 2]
    light[:, 0] *= 1.0 - 0.045 * np.minimum(crowd, 5)
    light[:, 1] *= 1.0 - 0.14 * padded[x + 1, y, z]
    light[:, 2] *= 1.0 - 0.14 * padded[x, y + 1, z]
    return light


def visible_faces(solid: NDArray[np.bool_], view: View) -> tuple[NDArray[np.int32], tuple[NDArray[np.int64], ...]]:
    """Which face of which voxel each pixel shows.

    Args:
        solid: bool ``[x, y, z]`` which voxels are drawn.
        view: from ``fit_view`` for a grid of that shape.

    Returns:
        int32 ``[height, width]``, 0 for the background, else 1 + 3 * voxel + face (0 top, 1 -y, 2 -x),
        and the x, y, z indices ``[n]`` of the voxels, far to near.
    """
    width, height = view.canvas
    hidden = solid.copy()  # behind voxels on all three sides that face the camera
    hidden[:, :, :-1] &= solid[:, :, 1:]
    hidden[:, 1:, :] &= solid[:, :-1, :]
    hidden[1:, :, :] &= solid[:-1, :, :]
    hidden[:, :, -1] = hidden[:, 0, :] = hidden[0, :, :] = False
    # x and y descending, z ascending is far to near: a voxel hides only voxels that come before it.
    x, y, z = np.nonzero((solid & ~hidden)[::-1, ::-1])
    x, y = solid.shape[0] - 1 - x, solid.shape[1] - 1 - y
    right, down, face = _footprint(view.axes)
    corner = np.stack([x, y, z], axis=1) @ view.axes + view.start
    pixels = (corner[:, 1] * width + corner[:, 0])[:, None] + (down * width + right)
    number = 1 + 3 * np.arange(len(x), dtype=np.int32)[:, None] + face.astype(np.int32)
    seen = np.zeros(width * height, np.int32)
    seen[pixels.ravel()] = number.ravel()
    return seen.reshape(height, width), (x, y, z)


def draw_voxels(
    labels: NDArray[np.uint8], solid: NDArray[np.bool_], palette: NDArray[np.uint8], view: View
) -> NDArray[np.uint8]:
    """A picture of one grid.

    Args:
        labels: uint8 ``[x, y, z]`` class ids.
        solid: bool ``[x, y, z]`` which voxels are drawn.
        palette: uint8 ``[256, 3]`` RGB by id.
        view: from ``fit_view`` for the grid of ``labels``.

    Returns:
        uint8 ``[height, width, 3]`` RGB of the size of ``view.canvas``.
    """
    seen, at = visible_faces(solid, view)
    color = palette[labels[at]][:, None, :] * _brightness(solid, at)[:, :, None]
    table = np.concatenate([np.array([BACKGROUND], np.float32), color.reshape(-1, 3).astype(np.float32)])
    return (table[seen] * _edges(seen, np.stack(at, axis=1))[:, :, None]).astype(np.uint8)


def _edges(seen: NDArray[np.int32], voxels: NDArray[np.int64]) -> NDArray[np.float32]:
    """``[height, width]`` darkening: strong where a voxel stands before far ones, faint at every joint."""
    layer = np.concatenate([[-(10**6)], voxels @ (-1, -1, 1)]).astype(np.int32)  # nearness to the camera
    depth = layer[(seen + 2) // 3]
    factor = np.ones(seen.shape, np.float32)
    for axis in (0, 1):
        here = (slice(None), slice(1, None)) if axis else (slice(1, None), slice(None))
        back = (slice(None), slice(None, -1)) if axis else (slice(None, -1), slice(None))
        joint = seen[here] != seen[back]
        jump = depth[here] - depth[back]
        np.minimum(factor[here], np.where(jump > 2, _OUTLINE, np.where(joint, _JOINT, 1.0)), out=factor[here])
        np.minimum(factor[back], np.where(jump < -2, _OUTLINE, 1.0), out=factor[back])
    factor[seen == 0] = 1.0
    return factor
