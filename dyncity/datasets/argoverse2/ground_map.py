"""The ground of a log: how high it lies and what it is, from the height raster and the vector map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.argoverse2.tables import RESTORE, finite_numbers, read_json, read_raster
from dyncity.errors import InputError
from dyncity.taxonomy import NATIVE

ROAD, MARKING, CROSSWALK = NATIVE.id("road"), NATIVE.id("lane_marking"), NATIVE.id("crosswalk")
SIDEWALK, TERRAIN = NATIVE.id("sidewalk"), NATIVE.id("terrain")

FINER = 2  # classes are drawn in cells of half the height raster's edge (0.15 m)
SIDEWALK_WIDTH = 3.0  # metres beside the road; the map says nothing of what lies there
MARKING_VOXEL = 0.4  # metres; in larger voxels a painted line is not worth its voxel


@dataclass(frozen=True, slots=True)
class GroundMap:
    """Ground heights and classes over the city plane.

    Attributes:
        city: the code of the city, e.g. PIT.
        height: float32 ``[rows, columns]`` metres in the city frame, NaN where unknown.
        surface: uint8 ``[FINER * rows, FINER * columns]`` native class of the ground.
        image_from_city: float64 ``[2, 3]``: columns and rows of ``height`` from city x, y.
    """

    city: str
    height: NDArray[np.float32]
    surface: NDArray[np.uint8]
    image_from_city: NDArray[np.float64]

    def sample(self, xy: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Ground under city points ``[n, 2]``: heights ``[n]`` (NaN: unknown) and classes ``[n]``."""
        at = xy @ self.image_from_city[:, :2].T + self.image_from_city[:, 2]
        rows, columns = self.height.shape
        inside = (at >= 0).all(axis=1) & (at[:, 0] < columns) & (at[:, 1] < rows)
        at = np.where(inside[:, None], at, 0.0)
        column, row = at.astype(np.int64).T
        height = np.where(inside, self.height[row, column], np.float32(np.nan))
        column, row = (at * FINER).astype(np.int64).T
        return height, self.surface[row, column]


def read_ground_map(folder: Path, voxel: tuple[float, float, float]) -> GroundMap:
    """The ground of the log in ``folder``, lane markings drawn for voxels of that size.

    Raises:
        InputError: missing, ambiguous, malformed files; the message names the file.
    """
    height_path = _only(folder / "map", "*_ground_height_surface____*.npy")
    transform_path = _only(folder / "map", "*___img_Sim2_city.json")
    vector_path = _only(folder / "map", "log_map_archive_*.json")
    height = read_raster(height_path)
    image_from_city = _similarity(transform_path)
    finer = (height.shape[0] * FINER, height.shape[1] * FINER)
    to_cells = image_from_city * FINER
    vector = read_json(vector_path)

    road = np.zeros(finer, bool)
    for key, area in _entries(vector, "drivable_areas", vector_path):
        fill(road, _points(area, "area_boundary", key, vector_path) @ to_cells[:, :2].T + to_cells[:, 2])
    marking = np.zeros(finer, bool)
    # A voxel wide and a cell more: voxel centres then hit the line at every angle, without gaps.
    width = _cells(max(voxel[:2]), to_cells) + 1
    for key, lane in _entries(vector, "lane_segments", vector_path):
        left = _points(lane, "left_lane_boundary", key, vector_path)
        right = _points(lane, "right_lane_boundary", key, vector_path)
        fill(road, np.concatenate([left, right[::-1]]) @ to_cells[:, :2].T + to_cells[:, 2])
        for side, line in (("left", left), ("right", right)):
            kind = lane.get(f"{side}_lane_mark_type", "NONE")
            if not isinstance(kind, str):
                raise InputError(vector_path, f"{side}_lane_mark_type of {key} is {kind!r:.40}", RESTORE)
            if kind not in ("NONE", "UNKNOWN"):
                draw(marking, line @ to_cells[:, :2].T + to_cells[:, 2], width)
    crossing = np.zeros(finer, bool)
    for key, walk in _entries(vector, "pedestrian_crossings", vector_path):
        one, other = (_points(walk, edge, key, vector_path) for edge in ("edge1", "edge2"))
        same_way = np.linalg.norm(one[0] - other[0]) <= np.linalg.norm(one[0] - other[-1])
        outline = np.concatenate([one, other[::-1] if same_way else other])
        fill(crossing, outline @ to_cells[:, :2].T + to_cells[:, 2])

    surface = np.where(dilate(road, _cells(SIDEWALK_WIDTH, to_cells)), SIDEWALK, TERRAIN).astype(np.uint8)
    surface[road] = ROAD
    surface[road & crossing] = CROSSWALK
    if max(voxel[:2]) <= MARKING_VOXEL:
        surface[road & marking & ~crossing] = MARKING
    city = height_path.stem.rpartition("____")[2]
    return GroundMap(city, height, surface, image_from_city)


def fill(mask: NDArray[np.bool_], outline: NDArray[np.float64]) -> None:
    """Set the cells of ``mask`` whose centres lie in a polygon (even-odd), in place.

    Args:
        mask: ``[rows, columns]``.
        outline: ``[n, 2]`` column and row coordinates; cell (r, c) is centred at (c + 0.5, r + 0.5).
    """
    rows, columns = mask.shape
    low, high = np.floor(outline.min(axis=0)), np.ceil(outline.max(axis=0))
    top, bottom = int(np.clip(low[1], 0, rows)), int(np.clip(high[1], 0, rows))
    left, right = int(np.clip(low[0], 0, columns)), int(np.clip(high[0], 0, columns))
    if top >= bottom or left >= right:
        return
    # Each edge flips all cells to the right of it; what was flipped an odd number of times is inside.
    flips = np.zeros((bottom - top, right - left + 1), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        first, last = max(top, int(np.ceil(y0 - 0.5))), min(bottom, int(np.ceil(y1 - 0.5)))
        if first >= last:
            continue
        row = np.arange(first, last)
        x = x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0)
        column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
        flips[row - top, column - left] ^= True
    mask[top:bottom, left:right] |= np.logical_xor.accumulate(flips, axis=1)[:, :-1]


def draw(mask: NDArray[np.bool_], line: NDArray[np.float64], width: float) -> None:
    """Set the cells of ``mask`` within ``width / 2`` cells of a line ``[n, 2]``, in place."""
    for (x0, y0), (x1, y1) in zip(line[:-1], line[1:], strict=True):
        length = float(np.hypot(x1 - x0, y1 - y0))
        if length == 0:
            continue
        across = np.array([y0 - y1, x1 - x0]) / length * width / 2
        start, end = np.array([x0, y0]), np.array([x1, y1])
        fill(mask, np.array([start - across, end - across, end + across, start + across]))


def dilate(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """The cells within ``radius`` cells of a set cell, centre to centre."""
    grown = np.zeros_like(mask)
    reach = int(radius)
    padded = np.pad(mask, ((0, 0), (reach + 1, reach)))
    total = np.cumsum(padded, axis=1, dtype=np.int32)
    columns = mask.shape[1]
    for dy in range(-reach, reach + 1):
        half = int(np.sqrt(radius**2 - dy**2))
        ends = total[:, reach + 1 + half : reach + 1 + half + columns]
        wide = ends > total[:, reach - half : reach - half + columns]
        if dy >= 0:
            grown[dy:] |= wide[: len(wide) - dy]
        else:
            grown[:dy] |= wide[-dy:]
    return grown


def _cells(metres: float, to_cells: NDArray[np.float64]) -> float:
    return metres * float(np.linalg.norm(to_cells[:, 0]))


def _similarity(path: Path) -> NDArray[np.float64]:
    """``[2, 3]`` image from city: s (R p + t)."""
    values = read_json(path)
    rotation = finite_numbers(values.get("R"), 4, path, "R").reshape(2, 2)
    translation = finite_numbers(values.get("t"), 2, path, "t")
    scale = float(finite_numbers(values.get("s"), 1, path, "s")[0])
    if not 0.1 <= scale <= 100 or not np.allclose(rotation @ rotation.T, np.eye(2), atol=1e-3):
        raise InputError(path, "not a rotation and a scale of 0.1 to 100 cells a metre", RESTORE)
    return scale * np.column_stack([rotation, translation])


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise InputError(folder, f"{len(found)} files {pattern}, expected one", RESTORE)
    return found[0]


def _entries(vector: dict[str, Any], name: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The members of one layer of the map, each an object."""
    layer = vector.get(name)
    if not isinstance(layer, dict):
        raise InputError(path, f"{name} is missing or no object", RESTORE)
    for key, entry in layer.items():
        if not isinstance(entry, dict):
            raise InputError(path, f"{name}.{key} is {type(entry).__name__}", f"give an object; {RESTORE}")
    return list(layer.items())


def _points(entry: dict[str, Any], name: str, key: str, path: Path) -> NDArray[np.float64]:
    """A line of the map, city x, y ``[n, 2]`` metres, n >= 2."""
    line = entry.get(name)
    if not isinstance(line, list) or len(line) < 2 or not all(isinstance(p, dict) for p in line):
        raise InputError(path, f"{name} of {key} is no list of two or more points", RESTORE)
    flat = [(p.get("x"), p.get("y")) for p in line]
    points = finite_numbers(flat, 2 * len(line), path, f"{name} of {key}").reshape(-1, 2)
    if np.abs(points).max() > 1e7:
        raise InputError(path, f"{name} of {key} is {np.abs(points).max():.3g} m away", RESTORE)
    return points
