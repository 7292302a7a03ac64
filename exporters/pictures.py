"""Pictures of scenes: one frame, a scene over time. The same scene gives the same bytes."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import Taxonomy, taxonomy
from exporters.isometric import BACKGROUND, View, draw_voxels, fit_view

INK = (38, 40, 46)
PATH = (255, 176, 0)
CAR = (4.6, 1.9, 1.5)  # length, width, height of the ego marker, metres


def render_scene(scene: OccupancyScene, frame: int = 0, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """One frame seen from behind and above: forward is up and to the right.

    Free and unknown voxels are not drawn. The dark box with the arrow is the ego vehicle, the line its path.

    Args:
        scene: ego-centred or world-fixed (then the ego moves through the picture).
        frame: number of the frame.
        size: (width, height) in pixels.

    Raises:
        InputError: the scene has no such frame.
    """
    labels, solid, space = _frame(scene, frame)
    view = fit_view(scene.grid, size)
    canvas = Image.fromarray(draw_voxels(labels, solid, space.palette(), view))
    path, ego = _ego(scene, frame)
    draw = ImageDraw.Draw(canvas)
    _draw_path(draw, view.project(_voxels(scene.grid, path)), max(2, view.canvas[0] // 170))
    _draw_car(draw, scene.grid, view, ego)
    return _fitted(canvas, size)


def render_top(scene: OccupancyScene, frame: int = 0, size: tuple[int, int] = (480, 480)) -> Image.Image:
    """One frame from straight above: forward is up, left is left; higher surfaces are lighter.

    Raises:
        InputError: the scene has no such frame.
    """
    labels, solid, space = _frame(scene, frame)
    nx, ny, nz = labels.shape
    top = nz - 1 - solid[:, :, ::-1].argmax(axis=2)
    color = space.palette()[np.take_along_axis(labels, top[:, :, None], axis=2)[:, :, 0]].astype(np.float32)
    color *= (0.86 + 0.14 * top / max(nz - 1, 1))[:, :, None]
    color[~solid.any(axis=2)] = BACKGROUND
    # Forward is up and left is left: both axes of the array run against the screen's.
    image = Image.fromarray(color.astype(np.uint8)[::-1, ::-1])
    scale = max(1, int(2 * min(size[0] / ny, size[1] / nx)))
    image = image.resize((ny * scale, nx * scale), Image.Resampling.NEAREST)
    path, ego = _ego(scene, frame)
    length, width, _ = CAR
    outline = np.array([(1, 0), (0.4, 1), (-1, 1), (-1, -1), (0.4, -1)]) * (length / 2, width / 2)
    corners = ego[:3, :2] @ outline.T + ego[:3, 3:]

    def screen(points: NDArray[np.float64]) -> NDArray[np.float64]:
        at = _voxels(scene.grid, points)
        return np.stack([(ny - at[:, 1]) * scale, (nx - at[:, 0]) * scale], axis=1)

    draw = ImageDraw.Draw(image)
    _draw_path(draw, screen(path), max(2, image.width // 160))
    draw.polygon(_points(screen(corners.T)), fill=INK, outline="white", width=max(1, image.width // 300))
    return _fitted(image, size)


def save_gif(frames: list[Image.Image], path: Path, fps: float) -> None:
    """Write pictures of one size as a GIF that loops (whole or not at all)."""
    # One palette for all frames: colours do not flicker from frame to frame.
    width, height = frames[0].size
    sample = Image.new("RGB", (width, height * min(4, len(frames))))
    for slot, k in enumerate(np.linspace(0, len(frames) - 1, min(4, len(frames))).round().astype(int)):
        sample.paste(frames[k], (0, slot * height))
    palette = sample.quantize(255, method=Image.Quantize.MEDIANCUT)
    reduced = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    buffer = io.BytesIO()
    duration = max(20, round(100 / fps) * 10)
    reduced[0].save(buffer, "GIF", save_all=True, append_images=reduced[1:], duration=duration, loop=0, optimize=False)
    save_bytes(buffer.getvalue(), path)


def _frame(scene: OccupancyScene, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], Taxonomy]:
    """Labels ``[x, y, z]`` of a frame, which of them are drawn, and their label space."""
    if not 0 <= frame < scene.frames:
        raise InputError(f"scene {scene.scene_id}", f"has no frame {frame}", f"use 0 to {scene.frames - 1}")
    space = taxonomy(scene.taxonomy)
    labels = scene.semantics[frame]
    return labels, (labels != space.free) & (labels != UNKNOWN), space


def _ego(scene: OccupancyScene, frame: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The path ``[t, 3]`` and the ego pose ``[4, 4]`` of a frame, in the frame of its grid."""
    relative = np.linalg.inv(scene.grid_poses()[frame]) @ scene.poses
    path = relative[:, :3, 3] + (0.0, 0.0, 0.1)
    return path, relative[frame]


def _voxels(grid: GridSpec, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points ``[n, 3]`` in metres as ``[n, 3]`` in voxels."""
    return (points - grid.origin) / grid.voxel_size


def _points(pixels: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in pixels]


def _draw_path(draw: ImageDraw.ImageDraw, pixels: NDArray[np.float64], width: int) -> None:
    """The path as a line with a dark rim and a dot a frame."""
    line = _points(pixels)
    if np.abs(pixels - pixels[0]).max() < width:
        return
    draw.line(line, fill=INK, width=width + 2 * max(1, width // 3), joint="curve")
    draw.line(line, fill=PATH, width=width, joint="curve")
    for x, y in line:
        draw.circle((x, y), width, fill=PATH, outline=INK)


def _draw_car(draw: ImageDraw.ImageDraw, grid: GridSpec, view: View, ego: NDArray[np.float64]) -> None:
    """The ego vehicle as a dark box with a white outline and an arrow on its roof."""
    half = np.array(CAR) / 2
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (0, 2)], np.float64)
    corners = view.project(_voxels(grid, (signs * half) @ ego[:3, :3].T + ego[:3, 3]))
    camera = ego[:3, :3].T @ (view.towards_camera * grid.voxel_size)
    width = max(1, view.canvas[0] // 500)
    order = {0: (0, 1, 3, 2), 1: (4, 5, 7, 6), 2: (0, 1, 5, 4), 3: (2, 3, 7, 6), 4: (1, 3, 7, 5)}
    normals = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, 1))
    for face, normal in enumerate(normals):
        if np.dot(camera, normal) > 0:
            shade = (64, 68, 78) if normal[2] else INK
            draw.polygon(_points(corners[list(order[face])]), fill=shade, outline="white", width=width)
    arrow = np.array([(0.8, 0, 2), (-0.1, 0.7, 2), (-0.1, 0.25, 2), (-0.8, 0.25, 2)])
    arrow = np.concatenate([arrow, arrow[:0:-1] * (1, -1, 1)])
    roof = view.project(_voxels(grid, (arrow * half) @ ego[:3, :3].T + ego[:3, 3]))
    draw.polygon(_points(roof), fill="white")


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image scaled to fit, centred on a background of ``size``."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    result = Image.new("RGB", size, BACKGROUND)
    scaled = image.resize(inner, Image.Resampling.LANCZOS)
    result.paste(scaled, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return result


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG (whole or not at all)."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    save_bytes(buffer.getvalue(), path)


def save_bytes(content: bytes, path: Path) -> None:
    """The whole file or none: written under a temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
