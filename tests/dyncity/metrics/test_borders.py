"""What the agreement across the border of a hole sees, and what it does not count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dyncity.metrics.borders import border_agreement
from dyncity.scene import UNKNOWN

HOLE = np.zeros((2, 7, 7, 3), bool)
HOLE[:, 2:5, 2:5] = True


def pairs_one_by_one(volume: np.ndarray, hole: np.ndarray, free: int) -> float:
    """The definition, voxel by voxel."""
    same = pairs = 0
    for t, x, y, z in np.argwhere(hole):
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            if not (0 <= x + dx < hole.shape[1] and 0 <= y + dy < hole.shape[2]) or hole[t, x + dx, y + dy, z]:
                continue
            here, there = volume[t, x, y, z], volume[t, x + dx, y + dy, z]
            if UNKNOWN not in (here, there) and not here == there == free:
                pairs, same = pairs + 1, same + (here == there)
    return same / pairs if pairs else np.nan


@given(
    arrays(np.uint8, (1, 4, 4, 2), elements=st.sampled_from([0, 1, 7, UNKNOWN])),
    arrays(np.bool_, (1, 4, 4, 2)),
    st.sampled_from([0, 1]),
)
def test_it_is_the_share_of_pairs_across(volume: np.ndarray, hole: np.ndarray, free: int) -> None:
    np.testing.assert_equal(border_agreement(volume, hole, free), pairs_one_by_one(volume, hole, free))


def test_a_wall_that_goes_on_agrees_and_one_that_ends_does_not() -> None:
    wall = np.zeros(HOLE.shape, np.uint8)
    wall[:, :, 3] = 7
    assert border_agreement(wall, HOLE) == 1.0
    ended = np.where(HOLE, 0, wall).astype(np.uint8)
    assert border_agreement(ended, HOLE) == 0.0


def test_chance_is_low_and_no_border_is_no_number() -> None:
    rng = np.random.default_rng(0)
    ground = np.full(HOLE.shape, 1, np.uint8)
    noise = np.where(HOLE, rng.integers(0, 29, HOLE.shape), ground).astype(np.uint8)
    assert border_agreement(noise, HOLE) < 0.2
    for hole in (np.ones_like(HOLE), np.zeros_like(HOLE)):
        assert np.isnan(border_agreement(ground, hole))
    assert np.isnan(border_agreement(np.where(HOLE, UNKNOWN, ground).astype(np.uint8), HOLE))


@pytest.mark.parametrize("axis", [0, 3])
def test_neighbours_in_time_and_height_do_not_count(axis: int) -> None:
    half = np.zeros(HOLE.shape, bool)
    np.moveaxis(half, axis, 0)[0] = True
    assert np.isnan(border_agreement(np.full(HOLE.shape, 1, np.uint8), half))
