"""Gaps in walls are closed where nobody could pass, and everything else stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.grid import GridSpec
from dyncity.presets import preset
from dyncity.taxonomy import NATIVE
from generators.base import SceneSpec
from generators.procedural.city import ProceduralCity
from generators.whole_walls import whole_sidewalks, whole_walls

GRID = preset("tiny").grid  # voxels of 0.8 m
WIDEST = 1.6  # two columns
FREE, ROAD, PARKING, SIDEWALK, TERRAIN, BUILDING, CAR = (
    NATIVE.id(name) for name in ("free", "road", "parking", "sidewalk", "terrain", "building", "car")
)


def wall(gap: slice, height: int = 5) -> np.ndarray:
    """``[2, 16, 9, 8]``: a wall along x at y = 4, as high on its right side as asked, with a gap."""
    volume = np.full((2, 16, 9, 8), FREE, np.uint8)
    volume[:, :, 4, :5] = BUILDING
    volume[:, gap.stop :, 4, height:] = FREE
    volume[:, gap, 4] = FREE
    return volume


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("height", [2, 5])
def test_a_gap_in_a_wall_is_closed_as_high_as_both_sides_are(height: int, turned: bool) -> None:
    torn, whole = wall(slice(7, 9), height), wall(slice(9, 9), height)
    whole[:, 7:9, 4, height:] = FREE
    if turned:
        torn, whole = torn.swapaxes(1, 2), whole.swapaxes(1, 2)
    np.testing.assert_array_equal(whole_walls(torn, GRID, "native", WIDEST), whole)
    np.testing.assert_array_equal(whole_walls(whole, GRID, "native", WIDEST), whole)
    np.testing.assert_array_equal(whole_walls(torn, GRID, "native", 0.0), torn)


def test_a_slanting_gap_is_closed() -> None:
    torn = np.full((1, 12, 12, 8), FREE, np.uint8)
    for k in range(12):
        torn[:, k, k, :4] = BUILDING
    whole = torn.copy()
    torn[:, 5, 5] = FREE
    np.testing.assert_array_equal(whole_walls(torn, GRID, "native", WIDEST), whole)
    np.testing.assert_array_equal(whole_walls(torn[:, ::-1], GRID, "native", WIDEST), whole[:, ::-1])


@pytest.mark.parametrize("what", ["too wide", "paved", "a car in one frame"])
def test_where_somebody_may_pass_it_stays_open(what: str) -> None:
    torn = wall(slice(6, 9) if what == "too wide" else slice(7, 9))
    if what == "paved":
        torn[:, 7:9, 4, 1] = PARKING
    if what == "a car in one frame":
        torn[1, 7:9, 4, 1] = CAR
    np.testing.assert_array_equal(whole_walls(torn, GRID, "native", WIDEST), torn)


def test_within_one_piece_gaps_are_closed_over_lawns_alone() -> None:
    """Over nothing they are inside corners as often."""
    house = np.full((1, 12, 12, 8), FREE, np.uint8)
    house[:, 2:9, 2:9, :4] = BUILDING
    house[:, 3:8, 3:8] = FREE
    torn = house.copy()
    torn[:, 4, 2] = FREE
    np.testing.assert_array_equal(whole_walls(torn, GRID, "native", WIDEST), torn)
    torn[:, 4, 2, 0] = TERRAIN
    np.testing.assert_array_equal(whole_walls(torn, GRID, "native", WIDEST), house)


@pytest.mark.parametrize("between", [TERRAIN, PARKING])
def test_a_sidewalk_is_closed_across_lots_and_lawns_alone(between: int) -> None:
    torn = np.full((2, 16, 9, 8), FREE, np.uint8)
    torn[..., 1] = ROAD
    torn[:, :, :4, 1] = between
    torn[:, :, 4, 1] = SIDEWALK
    whole = torn.copy()
    torn[:, 7:9, 4, 1] = between
    torn[1, 7, 4, 2] = CAR  # on it: what is beneath is paved all the same
    whole[1, 7, 4, 2] = CAR
    np.testing.assert_array_equal(whole_sidewalks(torn, GRID, "native", WIDEST), whole)
    torn[:, 7:9, 4, 1] = ROAD
    np.testing.assert_array_equal(whole_sidewalks(torn, GRID, "native", WIDEST), torn)


def test_green_beside_one_sidewalk_stays() -> None:
    volume = np.full((1, 16, 9, 8), FREE, np.uint8)
    volume[..., 1] = SIDEWALK
    volume[:, 3:12, 4, 1] = TERRAIN
    np.testing.assert_array_equal(whole_sidewalks(volume, GRID, "native", WIDEST), volume)


@pytest.mark.parametrize("whole", [whole_walls, whole_sidewalks])
def test_the_procedural_city_is_nearly_unchanged(whole: Callable[..., np.ndarray]) -> None:
    config = preset("tiny")
    scenes = ProceduralCity(config, "world").generate([SceneSpec(i, 0) for i in range(12)])
    changed = sum((whole(s.semantics, s.grid, "native", WIDEST) != s.semantics)[0].sum() for s in scenes)
    assert changed < 0.005 * sum((s.semantics[0] != FREE).sum() for s in scenes)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.4, 0.8, 1.6, 3.2]))
def test_only_what_is_free_or_terrain_becomes_building(seed: int, widest: float) -> None:
    rng = np.random.default_rng(seed)
    still = rng.choice([FREE, FREE, TERRAIN, PARKING, BUILDING], size=(10, 9, 4)).astype(np.uint8)
    volume = np.stack([still, still])
    volume[1, rng.integers(10), rng.integers(9)] = CAR
    mended = whole_walls(volume, GridSpec((10, 9, 4), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0), "native", widest)
    changed = mended != volume
    assert (mended[changed] == BUILDING).all()
    assert np.isin(volume[changed], [FREE, TERRAIN]).all()
    assert (changed[0] == changed[1]).all()
    assert widest >= 0.8 or not changed.any()
