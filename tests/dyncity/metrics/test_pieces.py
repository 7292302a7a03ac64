from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dyncity.metrics.likeness import Portrait, likeness_by_class, portrait_of
from dyncity.metrics.pieces import pieces
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE

BUILDING, FREE = NATIVE.id("building"), NATIVE.free


def test_columns_that_touch_are_one_piece_at_whatever_height() -> None:
    voxels = np.full((6, 6, 3), UNKNOWN, np.uint8)
    voxels[0, 0, 0] = voxels[1, 1, 2] = 2  # a corner, at other heights
    voxels[1, 1, 0] = 1  # under it
    voxels[4, 4, 0] = voxels[4, 4, 1] = 2
    np.testing.assert_array_equal(pieces(voxels, 4), [0, 1, 2, 0])


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_turning_a_frame_changes_no_count(seed: int, quarters: int) -> None:
    voxels = np.random.default_rng(seed).integers(0, 3, (7, 5, 2), dtype=np.uint8)
    np.testing.assert_array_equal(pieces(np.rot90(voxels, quarters), 3), pieces(voxels, 3))


def test_torn_walls_stand_out_where_shares_do_not(
    truth: Portrait, other: Portrait, real: list[OccupancyScene], other_real: list[OccupancyScene]
) -> None:
    torn = []
    for scene in other_real:
        semantics = scene.semantics.copy()
        semantics[:, ::4][semantics[:, ::4] == BUILDING] = FREE
        torn.append(replace(scene, semantics=semantics))
    found = likeness_by_class(portrait_of(torn), truth, other)
    assert found["pieces / real"]["building"] > 2
    whole, as_whole = (
        np.mean([pieces(s.semantics[s.frames // 2], len(NATIVE))[BUILDING] for s in scenes])
        for scenes in (real, other_real)
    )
    assert whole / 1.5 < as_whole < 1.5 * whole
