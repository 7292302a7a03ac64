"""What a tree loses of its scenes: occupied voxels outside its grid, classes that it has one name for, or none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.compiled import compiled

# Occupied voxels of each class by its name: inside the grid of a tree, outside.
Voxels = dict[str, list[int]]


def voxels_covered(scene: OccupancyScene, covers: GridSpec) -> Voxels:
    """The occupied voxels of all frames, inside and outside of what a tree covers by where their centres lie.

    Args:
        covers: the grid of the tree in the ego frame.
    """
    space, size = taxonomy(scene.taxonomy), np.diag([*scene.grid.voxel_size, 1.0])
    size[:3, 3] = np.array(scene.grid.origin) + np.array(scene.grid.voxel_size) / 2
    counts = np.zeros((2, 256), np.int64)
    for semantics, pose, grid_pose in zip(scene.semantics, scene.poses, scene.grid_poses(), strict=True):
        to_ego = np.linalg.inv(pose) @ grid_pose @ size
        _count(
            np.ascontiguousarray(semantics), space.free, to_ego, np.array(covers.origin), np.array(covers.upper), counts
        )
    outside, inside = counts.tolist()
    return {name: [inside[n], outside[n]] for n, name in enumerate(space.classes) if inside[n] or outside[n]}


@compiled
def _count(
    semantics: NDArray[np.uint8],
    free: int,
    to_ego: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Add to ``counts`` ``[2, 256]`` the occupied voxels ``[x, y, z]`` of each class: outside of a box, in it.

    Args:
        to_ego: ``[4, 4]`` from the index of a voxel to its centre, metres.
        lower, upper: corners of the box.
    """
    for i in range(semantics.shape[0]):
        for j in range(semantics.shape[1]):
            for k in range(semantics.shape[2]):
                label = semantics[i, j, k]
                if label in (free, UNKNOWN):
                    continue
                inside = True
                for a in range(3):
                    place = to_ego[a, 0] * i + to_ego[a, 1] * j + to_ego[a, 2] * k + to_ego[a, 3]
                    inside &= lower[a] <= place < upper[a]
                counts[int(inside), label] += 1


def told(scenes: Iterable[Voxels], labels: str, classes: NDArray[np.uint8]) -> list[tuple[str, str]]:
    """What was lost of scenes, as rows of a table: a heading, and shares of the occupied voxels.

    Args:
        scenes: of ``voxels_covered``.
        labels: the label space of the scenes.
        classes: uint8 ``[256]``: which of its class ids are one class to the tree, ``UNKNOWN`` for none.
    """
    voxels: Voxels = {}
    for scene in scenes:
        for name, (within, beyond) in scene.items():
            before = voxels.get(name, [0, 0])
            voxels[name] = [before[0] + within, before[1] + beyond]
    inside, outside = (sum(pair[n] for pair in voxels.values()) for n in (0, 1))
    if not inside + outside:
        return []
    groups: dict[int, list[str]] = {}
    for name in taxonomy(labels).classes:
        if name in voxels and voxels[name][0]:
            groups.setdefault(int(classes[taxonomy(labels).id(name)]), []).append(name)
    rows = [("outside its grid", f"{_share(outside, inside + outside)} of the occupied voxels")] if outside else []
    for target, names in groups.items():
        if target == UNKNOWN or len(names) > 1:
            heading = "no class" if target == UNKNOWN else "one class"
            share = _share(sum(voxels[name][0] for name in names), inside)
            rows.append((heading, f"{', '.join(names)}: {share} of those inside"))
    return rows


def _share(part: int, whole: int) -> str:
    """A share in per cent, to two digits where it is small."""
    return f"{100 * part / whole:.3g} %"
