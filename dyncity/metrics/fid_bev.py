"""FID_bev: the Frechet distance of random features of patches seen from above. No pretrained network.

A patch is 16x16 columns of one frame, each column the class of its topmost occupied voxel, one-hot. Its features are
128 random projections (normal weights, fixed seed) through a ReLU: linear projections alone would only see the
class shares at each place; with the ReLU the second moments of neighbouring columns count. The distance of two sets
of scenes is that of two normal distributions fitted to their features (Heusel et al. 2017).

It depends on the number of scenes: compare sets of one size, and divide by real against real of that size
(``fid_ratio``). It is blind to time; ``docs/metrics.md`` lists what else fools it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dyncity.errors import InputError
from dyncity.metrics.top_view import top_view
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy

PATCH = 16  # columns
FEATURES = 128
_SEED = 20_251
_AT_ONCE = 512  # patches


def patch_features(scenes: Iterable[OccupancyScene]) -> NDArray[np.float64]:
    """``[n, 128]`` features of all whole patches of all frames whose columns are all known.

    Raises:
        InputError: no such patch, or scenes of several taxonomies.
    """
    patches: list[NDArray[np.uint8]] = []
    labels = None
    for scene in scenes:
        labels = labels or scene.taxonomy
        if scene.taxonomy != labels:
            raise InputError(
                f"scene {scene.scene_id}", f"has {scene.taxonomy} labels, others {labels}", "map them first"
            )
        patches.append(known_patches(scene))
    if labels is None or not sum(map(len, patches)):
        raise InputError(
            "scenes", "hold no wholly known patch", f"give windows of at least {PATCH}x{PATCH} known columns"
        )
    return features_of(np.concatenate(patches), len(taxonomy(labels)))


def known_patches(scene: OccupancyScene) -> NDArray[np.uint8]:
    """``[n, 256]`` class ids seen from above of all whole patches of all frames whose columns are all known."""
    view = top_view(scene)
    t, x, y = view.shape
    nx, ny = x // PATCH, y // PATCH
    cut = view[:, : nx * PATCH, : ny * PATCH].reshape(t, nx, PATCH, ny, PATCH)
    patches = cut.transpose(0, 1, 3, 2, 4).reshape(-1, PATCH * PATCH)
    return patches[(patches != UNKNOWN).all(axis=1)]


def features_of(patches: NDArray[np.integer | np.bool_], classes: int) -> NDArray[np.float64]:
    """``[n, 128]`` features of patches ``[n, 256]`` of ids below ``classes``."""
    shape = (PATCH * PATCH, classes, FEATURES)
    weights = np.random.default_rng(_SEED).standard_normal(shape, dtype=np.float32) / PATCH
    features = np.empty((len(patches), FEATURES))
    for first in range(0, len(patches), _AT_ONCE):
        some = patches[first : first + _AT_ONCE]
        one_hot = np.zeros((len(some), PATCH * PATCH, classes), np.float32)
        np.put_along_axis(one_hot, some[..., None].astype(np.int64), 1.0, axis=2)
        projected = one_hot.reshape(len(some), -1) @ weights.reshape(-1, FEATURES)
        features[first : first + _AT_ONCE] = np.maximum(projected, 0)
    return features


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Squared Frechet distance of the normal distributions fitted to features ``[n, d]`` and ``[m, d]``."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    cov_a, cov_b = np.cov(a, rowvar=False, bias=True), np.cov(b, rowvar=False, bias=True)
    # tr (A B)^1/2 by the eigenvalues of the symmetric A^1/2 B A^1/2.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return max(0.0, float(distance))


def fid_bev(a: Iterable[OccupancyScene], b: Iterable[OccupancyScene]) -> float:
    """The distance of two sets of scenes; 0 for equal ones."""
    return frechet_distance(patch_features(a), patch_features(b))


def fid_ratio(
    samples: Sequence[OccupancyScene], real: Sequence[OccupancyScene], other_real: Sequence[OccupancyScene]
) -> float:
    """FID_bev of samples against real scenes, divided by that of other real scenes: 1 is as good as real.

    Raises:
        InputError: sets of different sizes, which cannot be compared.
    """
    if not len(samples) == len(real) == len(other_real):
        sizes = f"{len(samples)} samples, {len(real)} and {len(other_real)} real scenes"
        raise InputError("fid_ratio", sizes, "give as many of each")
    reference = patch_features(real)
    own = frechet_distance(patch_features(other_real), reference)
    return frechet_distance(patch_features(samples), reference) / own
