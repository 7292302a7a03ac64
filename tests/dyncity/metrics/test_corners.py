from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dyncity.metrics.corners import corners
from dyncity.metrics.fid_bev import frechet_distance
from dyncity.metrics.likeness import Portrait, likeness_by_class, portrait_of
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE

SIDEWALK = NATIVE.id("sidewalk")
GROUND = [NATIVE.id(name) for name in ("road", "parking", "terrain")]


def test_a_rectangle_has_four_corners_and_a_jog_four_more() -> None:
    voxels = np.full((12, 9, 3), UNKNOWN, np.uint8)
    voxels[2:10, 2:6, 0] = 1
    voxels[4, 3, 2] = 2  # over it
    np.testing.assert_array_equal(corners(voxels, 4), [0, 4, 4, 0])
    voxels[5:7, 6, 0] = 1
    assert corners(voxels, 4)[1] == 8
    voxels[:2, :2, 0] = 1  # touches at a corner alone; the corner there was one before, and the others are at the sides
    assert corners(voxels, 4)[1] == 8 + 1


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_turning_a_frame_changes_no_count(seed: int, quarters: int) -> None:
    voxels = np.random.default_rng(seed).integers(0, 3, (7, 5, 2), dtype=np.uint8)
    np.testing.assert_array_equal(corners(np.rot90(voxels, quarters), 3), corners(voxels, 3))


def test_jagged_kerbs_stand_out_where_fid_hardly_moves(
    truth: Portrait, other: Portrait, other_real: list[OccupancyScene]
) -> None:
    rng = np.random.default_rng(0)
    jagged = []
    for scene in other_real:
        semantics = scene.semantics.copy()
        for way in (semantics, semantics[:, :, ::-1], semantics.swapaxes(1, 2)):
            side = (way == SIDEWALK).any(axis=3)
            edge = side[:, :, :-1] & ~side[:, :, 1:] & (rng.random((1, side.shape[1], 1)) < 0.3)
            beside = way[:, :, 1:][edge]
            way[:, :, 1:][edge] = np.where(np.isin(beside, GROUND), SIDEWALK, beside)
        jagged.append(replace(scene, semantics=semantics))
    some = portrait_of(jagged)
    as_real = likeness_by_class(other, truth, other)["corners / real"]["sidewalk"]
    assert 1 / 1.3 < as_real < 1.3
    assert likeness_by_class(some, truth, other)["corners / real"]["sidewalk"] > 1.3 * as_real
    chance = frechet_distance(other.features, truth.features)
    assert frechet_distance(some.features, truth.features) < 1.1 * chance
