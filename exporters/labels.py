"""A scene in another label space, or on another grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import ego_windows
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import Taxonomy, label_map, taxonomy

# Narrower than a coarse voxel: outvoted by whatever they stand next to, they would be gone. In all label spaces.
THIN = frozenset(
    {
        *("pole", "traffic_sign", "traffic-sign", "sign", "traffic_light", "traffic_cone", "construction_cone"),
        *("pedestrian", "person", "cyclist", "bicyclist", "bicycle", "motorcycle", "motorcyclist"),
        *("trunk", "tree_trunk"),
    }
)
_OUTSIDE = {"semantics": UNKNOWN, "instances": 0, "mask_lidar": 0, "mask_camera": 0}


def check_labels(labels: str) -> str:
    """The name of a label space, or InputError."""
    return taxonomy(labels).name


def to_labels(scene: OccupancyScene, labels: str) -> OccupancyScene:
    """The same scene in another label space: its voxels and the labels of its boxes.

    "native" is whatever space the scene is in: nothing leads back from a coarser one.

    Raises:
        InputError: an unknown label space, or no map leads there from the scene's.
    """
    space = taxonomy(labels)
    if labels in ("native", scene.taxonomy):
        return scene
    table = label_map(scene.taxonomy, labels)
    boxes = scene.boxes
    return replace(
        scene,
        semantics=table[scene.semantics],
        taxonomy=space.name,
        boxes=None if boxes is None else replace(boxes, label=table[boxes.label]),
    )


def to_grid(scene: OccupancyScene, grid: GridSpec) -> OccupancyScene:
    """The scene as ego-centred frames on another grid; what its own grid does not cover is 255.

    A voxel looks at the source voxels whose centres lie in it or, where there are none (a finer or an
    equal grid), at the one that holds its own centre. Where it looks at several, any occupied one
    makes it occupied, and any thin one (``THIN``) thin, so that poles and people survive next to walls and
    on roads; among equals the most frequent class wins, the lower id on a tie; without an occupied one it
    is free if more are free than unknown. Instances and masks are those of the first voxel of the winning
    class. The frame rate stays the scene's.

    A world-fixed scene (``anchor`` set) is first cut into ego windows at its own voxel size.
    """
    grid = replace(grid, frame_rate=scene.grid.frame_rate)
    if scene.anchor is not None:
        fine = tuple(min(s, t) for s, t in zip(scene.grid.voxel_size, grid.voxel_size, strict=True))
        counts = [max(1, round((u - o) / s)) for u, o, s in zip(grid.upper, grid.origin, fine, strict=True)]
        window = GridSpec((counts[0], counts[1], counts[2]), (fine[0], fine[1], fine[2]), grid.origin, 1.0)
        scene = ego_windows(scene, window if fine != grid.voxel_size else grid)
    if scene.grid == grid:
        return scene
    looked_at = [_looked_at(scene.grid, grid, axis) for axis in range(3)]
    names = [name for name in _OUTSIDE if getattr(scene, name) is not None]
    resampled: dict[str, Any] = {
        name: np.full((scene.frames, *grid.shape), _OUTSIDE[name], getattr(scene, name).dtype) for name in names
    }
    for t in range(scene.frames):
        target, source = _winners(scene.semantics[t], taxonomy(scene.taxonomy), looked_at, grid)
        for name in names:
            resampled[name][t].reshape(-1)[target] = getattr(scene, name)[t].reshape(-1)[source]
    return replace(scene, grid=grid, **resampled)


def _looked_at(source: GridSpec, target: GridSpec, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (target index, source index) along one axis: which source voxels a target voxel looks at."""

    def holding(grid: GridSpec, centers: NDArray[np.float64]) -> NDArray[np.int64]:
        # A centre on an edge belongs to the upper voxel whatever the rounding.
        return np.floor((centers - grid.origin[axis]) / grid.voxel_size[axis] + 1e-6).astype(np.int64)

    inner = np.arange(source.shape[axis])
    outer = holding(target, source.axis(axis))
    within = (outer >= 0) & (outer < target.shape[axis])
    inner, outer = inner[within], outer[within]
    alone = np.setdiff1d(np.arange(target.shape[axis]), outer)
    nearest = holding(source, target.axis(axis)[alone])
    covered = (nearest >= 0) & (nearest < source.shape[axis])
    return np.concatenate([outer, alone[covered]]), np.concatenate([inner, nearest[covered]])


def _winners(
    semantics: NDArray[np.uint8],
    space: Taxonomy,
    looked_at: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    grid: GridSpec,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat target voxels of one frame and, for each, the flat source voxel it takes its values from."""
    (tx, sx), (ty, sy), (tz, sz) = looked_at
    target = np.ravel_multi_index(np.ix_(tx, ty, tz), grid.shape).reshape(-1)
    source = np.ravel_multi_index(np.ix_(sx, sy, sz), semantics.shape).reshape(-1)
    if all(len(np.unique(t)) == len(t) for t in (tx, ty, tz)):  # each looks at one voxel: nothing to vote on
        return target, source
    labels = semantics.reshape(-1)[source]
    pick = np.full((2, grid.voxels), -1)
    count = np.zeros((2, grid.voxels), np.int64)
    for k, label in enumerate((UNKNOWN, space.free)):
        found = labels == label
        count[k] = np.bincount(target[found], minlength=grid.voxels)
        pick[k, target[found][::-1]] = source[found][::-1]  # backwards: the first one stays
    best = np.where(count[1] > count[0], pick[1], pick[0])

    occupied = np.flatnonzero((labels != UNKNOWN) & (labels != space.free))
    keys, first, votes = np.unique(target[occupied] * 256 + labels[occupied], return_index=True, return_counts=True)
    voxel = keys // 256
    thin = np.isin(keys % 256, [i for i, name in enumerate(space.classes) if name in THIN])
    # Within a voxel the winner comes last: thin, then most votes, then the lower id.
    order = np.lexsort((-keys, votes, thin, voxel))
    last = order[np.flatnonzero(np.diff(voxel[order], append=-1))]
    best[voxel[last]] = source[occupied[first[last]]]
    covered = np.flatnonzero(best >= 0)
    return covered, best[covered]
