"""A scene in another label space, or on another grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import ego_windows
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import Taxonomy, label_map, taxonomy
from exporters.compiled import compiled

# Narrower than a coarse voxel: outvoted by whatever they stand next to, they would be gone. In all label spaces.
THIN = frozenset(
    {
        *("pole", "traffic_sign", "traffic-sign", "sign", "traffic_light", "traffic_cone", "construction_cone"),
        *("pedestrian", "person", "cyclist", "bicyclist", "bicycle", "motorcycle", "motorcyclist"),
        *("trunk", "tree_trunk"),
    }
)
# Along x, y and z.
LookedAt = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
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
    scene = _windows(scene, grid)
    if scene.grid == grid:
        return scene
    names = [name for name in _OUTSIDE if getattr(scene, name) is not None]
    resampled: dict[str, Any] = {
        name: np.empty((scene.frames, *grid.shape), getattr(scene, name).dtype) for name in names
    }
    for t, frame in enumerate(frames_on_grid(scene, grid)):
        for name in names:
            resampled[name][t] = frame[name]
    return replace(scene, grid=grid, **resampled)


def frames_on_grid(scene: OccupancyScene, grid: GridSpec) -> Iterator[dict[str, NDArray[Any]]]:
    """The voxels of each frame as ``to_grid`` has them, by name; a frame at a time takes less memory."""
    for arrays, looked_at in frames_looked_at(scene, grid):
        yield {name: _repeated(array, looked_at, _OUTSIDE[name]) for name, array in arrays.items()}


def frames_looked_at(scene: OccupancyScene, grid: GridSpec) -> Iterator[tuple[dict[str, NDArray[Any]], LookedAt]]:
    """The same, not yet repeated where the grid is finer: arrays by name, and which of their voxels are looked at.

    Along each axis that is the number of the voxel that each one of ``grid`` takes its values from; -1: of none.
    """
    scene = _windows(scene, grid)
    names = [name for name in _OUTSIDE if getattr(scene, name) is not None]
    spans = [_looked_at(scene.grid, grid, axis) for axis in range(3)]
    same = tuple(np.arange(n) for n in grid.shape)
    # Where each looks at one voxel there is nothing to vote on.
    alone = [np.where(end > first, first, -1) for first, end in spans]
    voted = any((first + 1 < end).any() for first, end in spans)
    for t in range(scene.frames):
        arrays = {name: np.ascontiguousarray(getattr(scene, name)[t]) for name in names}
        if not voted:
            yield arrays, (alone[0], alone[1], alone[2])
            continue
        winners = _winners(arrays["semantics"], taxonomy(scene.taxonomy), spans)
        yield (
            {
                name: np.where(winners >= 0, array.reshape(-1)[winners], array.dtype.type(_OUTSIDE[name]))
                for name, array in arrays.items()
            },
            (same[0], same[1], same[2]),
        )


def _windows(scene: OccupancyScene, grid: GridSpec) -> OccupancyScene:
    """A world-fixed scene as ego windows of ``grid``'s range at its own voxel size; any other as it is."""
    if scene.anchor is None:
        return scene
    fine = tuple(min(s, t) for s, t in zip(scene.grid.voxel_size, grid.voxel_size, strict=True))
    counts = [max(1, round((u - o) / s)) for u, o, s in zip(grid.upper, grid.origin, fine, strict=True)]
    window = GridSpec((counts[0], counts[1], counts[2]), (fine[0], fine[1], fine[2]), grid.origin, 1.0)
    return ego_windows(scene, window if fine != grid.voxel_size else grid)


def _looked_at(source: GridSpec, target: GridSpec, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Along one axis the first source voxel that each target voxel looks at, and the one after the last."""

    def holding(grid: GridSpec, centers: NDArray[np.float64]) -> NDArray[np.int64]:
        # A centre on an edge belongs to the upper voxel whatever the rounding.
        return np.floor((centers - grid.origin[axis]) / grid.voxel_size[axis] + 1e-6).astype(np.int64)

    outer = holding(target, source.axis(axis))
    steps = np.arange(target.shape[axis])
    first, end = np.searchsorted(outer, steps, "left"), np.searchsorted(outer, steps, "right")
    nearest = holding(source, target.axis(axis))
    alone = first == end
    covered = alone & (nearest >= 0) & (nearest < source.shape[axis])
    return np.where(alone, nearest, first), np.where(alone, nearest + covered, end)


def _repeated(array: NDArray[Any], looked_at: LookedAt, outside: int) -> NDArray[Any]:
    """One frame ``[x, y, z]`` where every target voxel looks at one source voxel, or at none: ``outside``."""
    if all(np.array_equal(along, np.arange(n)) for along, n in zip(looked_at, array.shape, strict=True)):
        return array
    covered = [np.flatnonzero(along >= 0) for along in looked_at]
    for axis in (2, 1, 0):  # along z first: the other two then copy whole rows
        array = array.take(looked_at[axis][covered[axis]], axis)
    shape = tuple(map(len, looked_at))
    if array.shape == shape:
        return array
    frame = np.full(shape, outside, array.dtype)
    # What is covered lies in one piece.
    frame[tuple(slice(c[0], c[-1] + 1) if len(c) else slice(0) for c in covered)] = array
    return frame


def _winners(
    semantics: NDArray[np.uint8], space: Taxonomy, looked_at: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> NDArray[np.int64]:
    """int64 ``[x, y, z]`` of the target: the flat source voxel that each takes its values from; -1 for none."""
    thin = np.isin(np.arange(256), [i for i, name in enumerate(space.classes) if name in THIN])
    first, end = (tuple(np.ascontiguousarray(axis[n]) for axis in looked_at) for n in (0, 1))
    winners = np.full(tuple(map(len, first)), -1)
    _vote(np.ascontiguousarray(semantics), first, end, space.free, thin, winners)
    return winners


@compiled
def _vote(
    semantics: NDArray[np.uint8],
    first: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    end: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    free: int,
    thin: NDArray[np.bool_],
    winners: NDArray[np.int64],
) -> None:
    """Fill ``winners``: for each target voxel the first source voxel of the class that wins among those it looks at."""
    ny, nz = semantics.shape[1], semantics.shape[2]
    votes, where = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for i, j, k in np.ndindex(winners.shape):
        best = -1
        for x in range(first[0][i], end[0][i]):
            for y in range(first[1][j], end[1][j]):
                for z in range(first[2][k], end[2][k]):
                    label = int(semantics[x, y, z])
                    if votes[label] == 0:
                        where[label] = (x * ny + y) * nz + z
                    votes[label] += 1
                    if best < 0 or (label != best and _beats(label, best, votes, free, thin)):
                        best = label
        if best >= 0:
            winners[i, j, k] = where[best]
        for x in range(first[0][i], end[0][i]):
            for y in range(first[1][j], end[1][j]):
                for z in range(first[2][k], end[2][k]):
                    votes[semantics[x, y, z]] = 0  # for the next voxel


@numba.njit(error_model="numpy")
def _beats(label: int, other: int, votes: NDArray[np.int64], free: int, thin: NDArray[np.bool_]) -> bool:
    """Whether a class wins over another one: occupied, thin, more frequent, the lower id; on a tie not free."""
    occupied, rival = label != free and label != UNKNOWN, other != free and other != UNKNOWN
    if occupied != rival:
        return occupied
    if not occupied:
        return votes[label] > votes[other] if label == free else votes[label] >= votes[other]
    if thin[label] != thin[other]:
        return thin[label]
    return votes[label] > votes[other] or (votes[label] == votes[other] and label < other)
