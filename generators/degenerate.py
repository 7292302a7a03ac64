"""Is a sampled scene a scene at all? A degenerate one is of one class, or has no surface to drive on.

Applied to what networks draw (``generators.base``), never to recordings. ``docs/generation.md`` says what recorded and
simulated scenes hold.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE, label_map, taxonomy

DRIVABLE = ("road", "lane_marking", "crosswalk", "parking")
LEAST_DRIVABLE = 0.01  # of the columns that anything is known of


def degenerate(scene: OccupancyScene) -> str | None:
    """Why a scene is degenerate, or None.

    It is where all known voxels of all frames are of one class, or where fewer than one in a hundred columns
    ``[t, x, y]`` with a known voxel hold a drivable one.
    """
    known = scene.semantics != UNKNOWN
    if not known.any():
        return "no voxel is known"
    first = scene.semantics[known][0]
    if (scene.semantics[known] == first).all():
        return f"every known voxel is {taxonomy(scene.taxonomy).classes[first]}"
    share = float(drivable_ids(scene.taxonomy)[scene.semantics].any(-1).sum() / known.any(-1).sum())
    if share < LEAST_DRIVABLE:
        return f"{share:.2%} of its columns are drivable, at least {LEAST_DRIVABLE:.0%} should be"
    return None


@cache
def drivable_ids(labels: str) -> NDArray[np.bool_]:
    """bool ``[256]``: ids of a label space that ``DRIVABLE`` native classes map to."""
    table = np.zeros(UNKNOWN + 1, bool)
    table[label_map("native", labels)[[NATIVE.id(name) for name in DRIVABLE]]] = True
    table[UNKNOWN] = False
    return table
