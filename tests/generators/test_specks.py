"""Specks of what stands: crumbs go, walls and what may go on beyond the side stay, paving heals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.scene import UNKNOWN
from dyncity.taxonomy import NATIVE
from generators.specks import without_specks

CAR, ROAD, SIDEWALK, BUILDING = (NATIVE.id(name) for name in ("car", "road", "sidewalk", "building"))
POLE, VEGETATION = NATIVE.id("pole"), NATIVE.id("vegetation")


def street() -> np.ndarray:
    volume = np.full((3, 12, 10, 4), NATIVE.free, np.uint8)
    volume[..., 0] = ROAD
    volume[:, 2:10, 7, 1:4] = BUILDING
    return volume


def test_crumbs_of_walls_and_crowns_go_and_small_things_stay() -> None:
    volume = street()
    volume[:, 5, 3, 1:3] = POLE
    expected = volume.copy()
    volume[:, 4, 4, 2], volume[:, 8, 3, 1:3] = BUILDING, VEGETATION
    np.testing.assert_array_equal(without_specks(volume, "native", 3), expected)
    np.testing.assert_array_equal(without_specks(volume, "native", 0), volume)


def test_a_spot_of_another_paving_becomes_what_is_around_it() -> None:
    volume = street()
    volume[:, 1:11, 1:4, 0] = SIDEWALK
    expected = volume.copy()
    volume[:, 5, 2, 0] = ROAD
    volume[:, 5, 6, 0] = SIDEWALK
    np.testing.assert_array_equal(without_specks(volume, "native", 3), expected)


def test_ground_in_the_midst_of_nothing_goes_and_beside_a_wall_it_stays() -> None:
    volume = np.full((3, 12, 10, 4), NATIVE.free, np.uint8)
    volume[:, 2:10, 7, 1:4] = BUILDING
    volume[:, 6, 6, 0] = SIDEWALK
    expected = volume.copy()
    volume[:, 3:8:2, 2:5:2, 0] = SIDEWALK  # dots in an empty yard
    np.testing.assert_array_equal(without_specks(volume, "native", 3), expected)


def test_who_passes_over_a_speck_stays() -> None:
    volume = street()
    volume[:, 4, 4, 1] = BUILDING
    volume[1, 4, 4, 1] = CAR
    cleaned = without_specks(volume, "native", 3)
    assert cleaned[:, 4, 4, 1].tolist() == [NATIVE.free, CAR, NATIVE.free]


@pytest.mark.parametrize("at", [(0, 4, 2), (11, 4, 2), (6, 0, 2), (6, 9, 2)])
def test_what_touches_the_side_may_go_on_there(at: tuple[int, int, int]) -> None:
    volume = street()
    volume[:, *at] = BUILDING
    np.testing.assert_array_equal(without_specks(volume, "native", 3), volume)


def test_what_touches_unknown_voxels_may_go_on_there() -> None:
    volume = street()
    volume[:, 4, 4, 2], volume[:, 5, 5, 3] = BUILDING, UNKNOWN
    np.testing.assert_array_equal(without_specks(volume, "native", 3), volume)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.2, 0.6]))
def test_movers_and_what_is_in_no_small_piece_are_untouched(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    volume = street()
    noise = rng.random(volume.shape[1:]) < share
    volume[:, noise] = rng.choice([CAR, POLE, VEGETATION, BUILDING, NATIVE.free], noise.sum())
    cleaned = without_specks(volume, "native", 4)
    changed = cleaned != volume
    assert np.isin(volume[changed], [VEGETATION, BUILDING, ROAD]).all()
    assert np.isin(cleaned[changed], [NATIVE.free, ROAD]).all()
