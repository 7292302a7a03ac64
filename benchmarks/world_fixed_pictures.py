"""The pictures of ``world_fixed.py``: curves with a band over the seeds, and reconstructions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dyncity.scene import OccupancyScene
from exporters.pictures import render_scene, render_top

INK, GRID, BACKGROUND = (38, 40, 46), (222, 222, 218), (255, 255, 255)
COLORS = {"world": (32, 98, 196), "ego": (214, 96, 20), "ego-wide": (150, 60, 150), "published": (44, 140, 70)}
PANEL, MARGIN, GAP = (620, 430), (76, 60), 34  # pixels: a panel; left and bottom of its axes; above and beside
TILE = (360, 300)

# A place on a curve: step, seconds, value in percent.
Place = tuple[int, float, float]


def draw_curves(curves: dict[str, list[list[Place]]], ceiling: float, unit: str, title: str, path: Path) -> None:
    """Write a PNG: the value over steps and over seconds, a line a variant, a band from least to most seed.

    Args:
        curves: by variant, a run a seed; every run of a variant has the same steps.
        ceiling: a value that no variant can be expected to pass, drawn dashed.
        unit: of the seconds.
        title: a line at the top.
        path: the PNG.
    """
    width, height = PANEL
    image = Image.new("RGB", (2 * width, height + 70), BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((16, 10), title, fill=INK, font=ImageFont.load_default(19))
    values = [place[2] for runs in curves.values() for run in runs for place in run]
    low, high = 10 * np.floor(min(values) / 10), min(100.0, 10 * np.ceil(max([*values, ceiling]) / 10))
    for number, label in enumerate(("optimiser steps", unit)):
        farthest = max(np.mean([run[-1][number] for run in runs]) for runs in curves.values())
        corner = (number * width, 40)
        panel = _Panel(draw, corner, (0.0, float(farthest)), (float(low), float(max(high, low + 10))))
        panel.axes(label, "IoU, %" if number == 0 else "")
        panel.dashed(ceiling)
        for name, runs in curves.items():
            places = np.array(runs)  # [seeds, places, 3]
            across, along = places[:, :, 2], places[:, :, number].mean(axis=0)
            image = panel.band(image, along, across.min(axis=0), across.max(axis=0), COLORS[name])
            draw = panel.draw
            panel.line(along, across.mean(axis=0), COLORS[name])
    _legend(draw, [*((name, COLORS[name]) for name in curves), ("ceiling", (120, 120, 120))], height + 42)
    image.save(path)


class _Panel:
    """Axes at a place of a picture.

    Args:
        draw: of the whole picture.
        corner: upper left pixel.
        x, y: least and most value along each axis.
    """

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        corner: tuple[int, int],
        x: tuple[float, float],
        y: tuple[float, float],
    ) -> None:
        self.draw, self.x, self.y = draw, x, y
        self.left, self.right = corner[0] + MARGIN[0], corner[0] + PANEL[0] - GAP
        self.top, self.bottom = corner[1] + GAP, corner[1] + PANEL[1] - MARGIN[1]

    def pixels(self, x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
        across = self.left + (np.asarray(x) - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left)
        up = self.bottom - (np.asarray(y) - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)
        return [(float(a), float(b)) for a, b in np.broadcast(across, up)]

    def axes(self, x_label: str, y_label: str) -> None:
        """Round ticks with grid lines, and what the axes mean."""
        font = ImageFont.load_default(14)
        for value in _ticks(*self.y):
            ((_, at),) = self.pixels(np.array([self.x[0]]), np.array([value]))
            self.draw.line((self.left, at, self.right, at), fill=GRID)
            self.draw.text((self.left - 8, at), f"{value:g}", fill=INK, font=font, anchor="rm")
        for value in _ticks(*self.x):
            ((at, _),) = self.pixels(np.array([value]), np.array([self.y[0]]))
            self.draw.line((at, self.bottom, at, self.bottom + 5), fill=INK)
            self.draw.text((at, self.bottom + 9), f"{value:g}", fill=INK, font=font, anchor="mt")
        self.draw.line((self.left, self.top, self.left, self.bottom, self.right, self.bottom), fill=INK)
        middle = (self.left + self.right) // 2
        self.draw.text((middle, self.bottom + 34), x_label, fill=INK, font=font, anchor="mt")
        self.draw.text((self.left, self.top - 8), y_label, fill=INK, font=font, anchor="lb")

    def dashed(self, y: float) -> None:
        ((_, at),) = self.pixels(np.array([self.x[0]]), np.array([y]))
        for start in range(self.left, self.right, 10):
            self.draw.line((start, at, min(start + 5, self.right), at), fill=(120, 120, 120), width=2)

    def band(
        self, image: Image.Image, x: np.ndarray, low: np.ndarray, high: np.ndarray, color: tuple[int, int, int]
    ) -> Image.Image:
        """The picture with the area between two lines tinted."""
        mask = Image.new("L", image.size)
        outline = self.pixels(x, low) + self.pixels(x, high)[::-1]
        ImageDraw.Draw(mask).polygon(outline, fill=56)
        image = Image.composite(Image.new("RGB", image.size, color), image, mask)
        self.draw = ImageDraw.Draw(image)
        return image

    def line(self, x: np.ndarray, y: np.ndarray, color: tuple[int, int, int]) -> None:
        places = self.pixels(x, y)
        self.draw.line(places, fill=color, width=3, joint="curve")
        for place in places:
            self.draw.circle(place, 4, fill=color)


def _ticks(low: float, high: float) -> np.ndarray:
    """Four to ten round values from low to high."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
    return np.arange(np.ceil(low / step), np.floor(high / step + 1e-9) + 1) * step


def _legend(draw: ImageDraw.ImageDraw, entries: Sequence[tuple[str, tuple[int, int, int]]], y: int) -> None:
    x, font = MARGIN[0], ImageFont.load_default(15)
    for name, color in entries:
        draw.line((x, y + 9, x + 26, y + 9), fill=color, width=4)
        draw.text((x + 34, y), name, fill=INK, font=font)
        x += 70 + int(draw.textlength(name, font=font))
    draw.text((x, y), "line: mean over seeds; band: least to most", fill=(110, 110, 110), font=font)


def draw_side_by_side(rows: list[dict[str, OccupancyScene]], path: Path) -> None:
    """Write a PNG: for each clip a row from above and one from behind, a column a scene, by its name.

    The last frame is shown: farthest from the one that a world-fixed grid is placed by.
    """
    names, (width, height), header = list(rows[0]), TILE, 30
    sheet = Image.new("RGB", (len(names) * width, header + 2 * len(rows) * height), (246, 246, 243))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for column, name in enumerate(names):
        draw.text((column * width + 12, 6), name, fill=INK, font=font)
        for number, scenes in enumerate(rows):
            scene, top = scenes[name], header + 2 * number * height
            sheet.paste(render_top(scene, scene.frames - 1, TILE), (column * width, top))
            sheet.paste(render_scene(scene, scene.frames - 1, TILE), (column * width, top + height))
    sheet.save(path)
