"""Regions of a scene, to be generated anew: a JSON file of boxes, polygons from above, classes, and a time span.

    {"boxes": [{"x": [4, 14], "y": [-3, 3], "z": [0, 3], "yaw": 0.2}],
     "polygons": [{"points": [[0, 0], [10, 0], [10, 5]], "z": [0, 4]}],
     "classes": ["car"], "frames": [2, 8]}

Metres and radians in the ego's frame of the first frame (x forward, y left). A box turns by ``yaw`` about its centre;
``z`` may be left out: all heights. A region is the union of its boxes and polygons, everything where it has none, of
those voxels only whose class is listed, in frames first to last - 1.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.bounded_files import LARGEST, are_numbers, read_request
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import taxonomy

_KEYS = ("boxes", "polygons", "classes", "frames")
_EVERY_HEIGHT = (-np.inf, np.inf)
_MAX_TEXT = 4096


@dataclass(frozen=True)
class Prism:
    """A polygon from above ``[n, 2]`` between two heights, metres."""

    points: NDArray[np.float64]
    heights: tuple[float, float]


@dataclass(frozen=True)
class Region:
    """A part of a scene.

    Attributes:
        prisms: their union; everywhere where there is none.
        classes: only voxels of these classes; all where empty.
        frames: (first, end) of the frames; all where None.
        where: the file that it was read from, for messages.
    """

    prisms: tuple[Prism, ...] = ()
    classes: tuple[str, ...] = ()
    frames: tuple[int, int] | None = None
    where: str = field(default="region", repr=False, compare=False)  # its bytes do not depend on it

    def to_json(self) -> str:
        """The region as ``read_region`` reads it, boxes as polygons; beyond 4 KiB its digest: it goes with scenes."""
        polygons = [
            {"points": prism.points.tolist()} | ({} if prism.heights == _EVERY_HEIGHT else {"z": list(prism.heights)})
            for prism in self.prisms
        ]
        values = {"polygons": polygons, "classes": list(self.classes), "frames": self.frames and list(self.frames)}
        text = json.dumps({key: value for key, value in values.items() if value})
        return text if len(text) <= _MAX_TEXT else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def mask(self, scene: OccupancyScene) -> NDArray[np.bool_]:
        """bool ``[t, x, y, z]``: the voxels of a scene whose centres lie in the region.

        Raises:
            InputError: a class that the label space of the scene has not, or frames that the scene has not.
        """
        classes = taxonomy(scene.taxonomy).classes
        for name in self.classes:
            if name not in classes:
                raise InputError(f"{self.where}, classes", f"found {name!r}", f"use some of {', '.join(classes)}")
        first, end = self.frames or (0, scene.frames)
        if not 0 <= first < end <= scene.frames:
            fix = f"give two numbers from 0 to {scene.frames}, the frames of scene {scene.scene_id}"
            raise InputError(f"{self.where}, frames", f"found {[first, end]}", fix)
        return self.mask_of_part(scene, 0)

    def mask_of_part(self, part: OccupancyScene, start: int) -> NDArray[np.bool_]:
        """The same of a part of a scene, which begins with its frame ``start`` and keeps its world."""
        space = taxonomy(part.taxonomy)
        first, end = self.frames or (start, start + part.frames)
        mask = np.zeros(part.semantics.shape, bool)
        for t, pose in enumerate(part.grid_poses()):
            if first <= start + t < end:
                mask[t] = self._inside(part, pose)
        if self.classes:
            mask &= np.isin(part.semantics, [space.id(name) for name in self.classes])
        return mask

    def _inside(self, scene: OccupancyScene, pose: NDArray[np.float64]) -> NDArray[np.bool_]:
        if not self.prisms:
            return np.ones(scene.grid.shape, bool)
        world = scene.grid.centers() @ pose[:3, :3].T + pose[:3, 3]
        inside = np.zeros(scene.grid.shape, bool)
        for prism in self.prisms:
            low, high = prism.heights
            inside |= _in_polygon(world[..., :2], prism.points) & (world[..., 2] >= low) & (world[..., 2] < high)
        return inside


def read_region(path: Path) -> Region:
    """A region from its file.

    Raises:
        InputError: no such file, not JSON, an unknown key, or a value of another form; the message names it.
    """
    values = read_request(path, "give a JSON file of a region")
    if not isinstance(values, dict) or not values:
        raise InputError(path, "it says nothing", f"give some of {', '.join(_KEYS)}")
    for key in values:
        if key not in _KEYS:
            raise InputError(path, f"unknown key {key!r}", f"use some of {', '.join(_KEYS)}")
    prisms = [_box(path, n, box) for n, box in enumerate(_list(path, "boxes", values))]
    prisms += [_polygon(path, n, polygon) for n, polygon in enumerate(_list(path, "polygons", values))]
    classes = _list(path, "classes", values)
    if not all(isinstance(name, str) for name in classes):
        raise InputError(path, f"classes is {classes}", "give names of classes")
    frames = values.get("frames")
    if frames is not None and not (
        isinstance(frames, list) and len(frames) == 2 and all(type(f) is int for f in frames)
    ):
        raise InputError(
            path, f"frames is {frames}", "give two whole numbers, the first frame and the one after the last"
        )
    return Region(tuple(prisms), tuple(classes), None if frames is None else (frames[0], frames[1]), str(path))


def _list(path: Path, key: str, values: dict[str, Any]) -> list[Any]:
    found = values.get(key, [])
    if not isinstance(found, list):
        raise InputError(path, f"{key} is {found!r}", "give a list")
    return found


def _numbers(path: Path, key: str, value: object, count: int) -> list[float]:
    if not are_numbers(value, count):
        raise InputError(
            path, f"{key} is {str(value)[:80]}", f"give {count} finite numbers, metres, at most {LARGEST:g}"
        )
    assert isinstance(value, list)
    return [float(v) for v in value]


def _span(path: Path, key: str, value: object) -> tuple[float, float]:
    low, high = _numbers(path, key, value, 2)
    if low >= high:
        raise InputError(path, f"{key} is {value!r}", "give the lower bound first")
    return low, high


def _box(path: Path, number: int, box: object) -> Prism:
    name = f"boxes[{number}]"
    if not isinstance(box, dict) or not {"x", "y"} <= box.keys() or not box.keys() <= {"x", "y", "z", "yaw"}:
        raise InputError(path, f"{name} is {box!r}", "give x, y and, if wanted, z and yaw")
    x, y = (_span(path, f"{name}.{axis}", box[axis]) for axis in "xy")
    heights = _span(path, f"{name}.z", box["z"]) if "z" in box else _EVERY_HEIGHT
    yaw = box.get("yaw", 0.0)
    if not are_numbers([yaw], 1):
        raise InputError(path, f"{name}.yaw is {str(yaw)[:80]}", "give one finite number, radians")
    center = np.array([sum(x) / 2, sum(y) / 2])
    corners = np.array([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]) - center
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    return Prism(corners @ turn.T + center, heights)


def _polygon(path: Path, number: int, polygon: object) -> Prism:
    name = f"polygons[{number}]"
    if not isinstance(polygon, dict) or "points" not in polygon or not polygon.keys() <= {"points", "z"}:
        raise InputError(path, f"{name} is {polygon!r}", "give points and, if wanted, z")
    points = polygon["points"]
    if not isinstance(points, list) or len(points) < 3:
        raise InputError(path, f"{name}.points is {points!r}", "give at least three points")
    corners = np.array([_numbers(path, f"{name}.points[{k}]", point, 2) for k, point in enumerate(points)])
    return Prism(corners, _span(path, f"{name}.z", polygon["z"]) if "z" in polygon else _EVERY_HEIGHT)


def _in_polygon(points: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points ``[..., 2]`` lie in a polygon ``[n, 2]``: those with an odd number of edges to their right."""
    inside = np.zeros(points.shape[:-1], bool)
    x, y = points[..., 0], points[..., 1]
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crossing = (y0 <= y) != (y1 <= y)
        inside ^= crossing & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside
