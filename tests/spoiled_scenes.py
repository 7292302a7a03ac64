"""Real scenes spoilt in the ways that generated ones go wrong; what measures of quality must notice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dyncity.scene import OccupancyScene
from dyncity.taxonomy import taxonomy


def noisy(scene: OccupancyScene, share: float = 0.05, seed: int = 0) -> OccupancyScene:
    """A share of the voxels replaced by random classes."""
    rng = np.random.default_rng(seed)
    hit = rng.random(scene.semantics.shape) < share
    semantics = scene.semantics.copy()
    semantics[hit] = rng.integers(0, len(taxonomy(scene.taxonomy)), hit.sum())
    return replace(scene, semantics=semantics)


def shuffled(scene: OccupancyScene) -> OccupancyScene:
    """Frames in an order in which no neighbours stay neighbours; poses and times as they were."""
    order = np.concatenate([np.arange(1, scene.frames, 2), np.arange(0, scene.frames, 2)])
    return replace(scene, semantics=scene.semantics[order])


def spliced(scene: OccupancyScene, other: OccupancyScene) -> OccupancyScene:
    """The first half of one clip, then the second half of another; poses of the first."""
    half = scene.frames // 2
    return replace(scene, semantics=np.concatenate([scene.semantics[:half], other.semantics[half:]]))
