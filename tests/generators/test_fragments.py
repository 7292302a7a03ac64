"""Fragments of vehicles: what is too small goes, and what joins two; what may be larger than it looks stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import NATIVE
from generators.fragments import without_fragments

GRID = GridSpec((16, 12, 4), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0)
CAR, ROAD = NATIVE.id("car"), NATIVE.id("road")
SMALLEST = (3.2, 1.2, 1.2)  # 4 x 2 x 2 voxels


def street() -> np.ndarray:
    volume = np.full((2, *GRID.shape), NATIVE.free, np.uint8)
    volume[:, :, :, 0] = ROAD
    return volume


def test_a_piece_goes_and_a_vehicle_stays() -> None:
    volume = street()
    volume[0, 3:7, 4:6, 1:3] = CAR
    expected = volume.copy()
    # In the second frame one is too short, one too narrow, one too low.
    for piece in (
        (slice(2, 5), slice(1, 3), slice(1, 3)),
        (slice(7, 13), 2, slice(1, 3)),
        (slice(7, 13), slice(6, 9), 1),
    ):
        volume[1, *piece] = CAR
    assert (volume[1] == CAR).sum() == 12 + 12 + 18
    np.testing.assert_array_equal(without_fragments(volume, GRID, "native", SMALLEST), expected)
    np.testing.assert_array_equal(without_fragments(volume, GRID, "native", (0.0, 0.0, 0.0)), volume)


def test_what_joins_two_vehicles_goes_and_their_rags_with_it() -> None:
    volume = street()
    volume[0, 2:6, 2:4, 1:3] = CAR
    volume[0, 2:6, 7:9, 1:3] = NATIVE.id("truck")
    expected = volume.copy()
    volume[0, 4, 4:7, 1] = CAR  # a thread from one to the other
    volume[0, 6, 9, 1] = CAR  # a rag at a corner
    np.testing.assert_array_equal(without_fragments(volume, GRID, "native", SMALLEST), expected)


def test_what_is_larger_than_any_vehicle_and_solid_goes() -> None:
    volume = street()
    expected = volume.copy()
    volume[1, 2:10, 2:10, 1:3] = CAR
    np.testing.assert_array_equal(without_fragments(volume, GRID, "native", SMALLEST), expected)


def test_a_rag_of_what_is_a_vehicle_stays() -> None:
    volume = street()
    volume[0, 2:6, 2:4, 1:3] = CAR
    volume[0, 6, 4, 1] = CAR
    np.testing.assert_array_equal(without_fragments(volume, GRID, "native", SMALLEST), volume)


@pytest.mark.parametrize("at", [(0, 5), (15, 5), (7, 0), (7, 11)])
def test_what_touches_the_side_may_go_on_there(at: tuple[int, int]) -> None:
    volume = street()
    volume[0, *at, 1] = CAR
    np.testing.assert_array_equal(without_fragments(volume, GRID, "native", SMALLEST), volume)


def test_what_touches_unknown_voxels_may_go_on_there() -> None:
    volume = street()
    volume[0, 7, 5, 1], volume[0, 8, 6, 3] = CAR, UNKNOWN
    np.testing.assert_array_equal(without_fragments(volume, GRID, "native", SMALLEST), volume)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.4, 0.7]))
def test_only_vehicles_become_free_and_doing_it_twice_is_doing_it_once(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    volume = street()
    volume[:, 1:-1, 1:-1][rng.random((2, 14, 10, 4)) < share] = CAR
    volume[rng.random(volume.shape) < 0.1] = NATIVE.id("pedestrian")
    once = without_fragments(volume, GRID, "native", SMALLEST)
    changed = once != volume
    assert (volume[changed] == CAR).all()
    assert (once[changed] == NATIVE.free).all()
    np.testing.assert_array_equal(without_fragments(once, GRID, "native", SMALLEST), once)
