"""How well scenes obey their layouts: intersection over union seen from above, class by class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import columns_in
from dyncity.conditions import LAYOUT_CLASSES, Layout, turned
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.layout import layout_of
from dyncity.scene import UNKNOWN, OccupancyScene


class LayoutCounts:
    """Columns of some scenes by class: asked for and found, asked for, found.

    What was asked for is looked up at the columns of the scenes' frames. Columns of which nothing is known, or that the
    grid of the layout does not reach, do not count.

    Args:
        grid: of layouts that do not say theirs, placed by the ego pose of frame t // 2.
    """

    def __init__(self, grid: GridSpec | None = None) -> None:
        self._grid = grid
        self._both, self._wanted, self._found = np.zeros((3, len(LAYOUT_CLASSES)), np.int64)

    def add(self, scene: OccupancyScene) -> None:
        """Count the columns of a scene; one without a layout adds nothing.

        Raises:
            InputError: nothing says where its layout lies.
        """
        asked = scene.conditions.layout
        if asked is None:
            return
        if asked.grid is None:
            if self._grid is None:
                fix = "give Layout a grid and an anchor"
                raise InputError(f"scene {scene.scene_id}", "its layout does not say where it lies", fix)
            asked = replace(asked, grid=self._grid, anchor=scene.frames // 2)
        found = layout_of(scene.semantics, scene.taxonomy).maps
        wanted, reached = _in_frames(scene, asked)
        counts = (reached & ~(scene.semantics == UNKNOWN).all(axis=-1)) & asked.given[:, None, None, None]
        self._both += (found & wanted & counts).sum(axis=(1, 2, 3))
        self._wanted += (wanted & counts).sum(axis=(1, 2, 3))
        self._found += (found & counts).sum(axis=(1, 2, 3))

    def iou(self) -> dict[str, float]:
        """Intersection over union in percent of each class that is asked for, or found where it was to be nowhere."""
        return _shares(self._both, self._wanted + self._found - self._both)

    def obeyed(self) -> dict[str, float]:
        """The share in percent of the columns that were asked to hold a class and do."""
        return _shares(self._both, self._wanted)


def layout_iou(scenes: Iterable[OccupancyScene], clip_grid: GridSpec | None = None) -> dict[str, float]:
    """IoU in percent of each class that some scene was asked for, over all scenes and frames (``LayoutCounts``).

    Args:
        scenes: with ``conditions.layout``; those without are passed over.
        clip_grid: the grid of layouts that do not say theirs, placed by the ego pose of frame t // 2.
    """
    counts = LayoutCounts(clip_grid)
    for scene in scenes:
        counts.add(scene)
    return counts.iou()


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> dict[str, float]:
    """Percent by class, where there is anything to divide by."""
    return {n: 100 * float(a / b) for n, a, b in zip(LAYOUT_CLASSES, part, whole, strict=True) if b}


def _in_frames(scene: OccupancyScene, asked: Layout) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Maps ``[6, t, x, y]`` of a layout at the columns of the frames, and which columns it reaches ``[t, x, y]``."""
    assert asked.grid is not None
    frames, reached = [], []
    for t, pose in enumerate(scene.grid_poses()):
        if asked.anchor is None:
            placed = scene.poses[t]
        else:
            placed = turned(scene.poses[asked.anchor], scene.conditions.grid_yaw)
        index, inside = columns_in(scene.grid, asked.grid, np.linalg.inv(placed) @ pose)
        frames.append(asked.maps[:, t, index[..., 0], index[..., 1]] & inside)
        reached.append(inside)
    return np.stack(frames, axis=1), np.stack(reached)
