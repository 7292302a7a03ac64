"""How well scenes obey their layouts: intersection over union seen from above, class by class."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import LAYOUT_CLASSES
from dyncity.grid import GridSpec
from dyncity.layout import layout_of
from dyncity.scene import UNKNOWN, OccupancyScene


def layout_iou(scenes: Iterable[OccupancyScene], clip_grid: GridSpec) -> dict[str, float]:
    """IoU in percent of each class that some scene was asked for, over all scenes and frames.

    What was asked for lies on the grid of the clip, placed by the ego pose of frame t // 2; it is looked up at the
    columns of the ego-centred frames. Columns of which nothing is known, or that the clip's grid does not reach, do not
    count.

    Args:
        scenes: ego-centred, with ``conditions.layout``; those without are passed over.
        clip_grid: the grid of the layouts.
    """
    both = np.zeros(len(LAYOUT_CLASSES), np.int64)
    either = np.zeros(len(LAYOUT_CLASSES), np.int64)
    for scene in scenes:
        asked = scene.conditions.layout
        if asked is None:
            continue
        found = layout_of(scene.semantics, scene.taxonomy).maps
        wanted, reached = _in_frames(scene, asked.maps, clip_grid)
        counts = (reached & ~(scene.semantics == UNKNOWN).all(axis=-1)) & asked.given[:, None, None, None]
        both += (found & wanted & counts).sum(axis=(1, 2, 3))
        either += ((found | wanted) & counts).sum(axis=(1, 2, 3))
    return {n: 100 * float(b / e) for n, b, e in zip(LAYOUT_CLASSES, both, either, strict=True) if e}


def _in_frames(
    scene: OccupancyScene, maps: NDArray[np.bool_], clip_grid: GridSpec
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Maps ``[6, t, x, y]`` of the clip at the columns of the frames, and which columns it reaches ``[t, x, y]``."""
    x, y = np.meshgrid(scene.grid.axis(0), scene.grid.axis(1), indexing="ij")
    middle = (clip_grid.origin[2] + clip_grid.upper[2]) / 2
    columns = np.stack([x, y, np.zeros_like(x)], axis=-1)
    anchor = np.linalg.inv(scene.poses[scene.frames // 2])
    frames, reached = [], []
    for t, pose in enumerate(scene.grid_poses()):
        step = anchor @ pose
        points = columns @ step[:3, :3].T + step[:3, 3]
        points[..., 2] = middle
        index, inside = clip_grid.index(points)
        frames.append(maps[:, t, index[..., 0], index[..., 1]] & inside)
        reached.append(inside)
    return np.stack(frames, axis=1), np.stack(reached)
