"""Jogs in edges are taken out, and everything that is meant stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.conditions import LAYOUT_CLASSES, Conditions
from dyncity.grid import GridSpec
from dyncity.layout import layout_of
from dyncity.models.conditioning import NO_ROUTE
from dyncity.presets import preset
from dyncity.taxonomy import NATIVE
from generators.base import SceneSpec
from generators.mending import mended
from generators.procedural.city import ProceduralCity
from generators.straight_edges import straight_edges

GRID = preset("tiny").grid  # voxels of 0.8 m
FREE, ROAD, PARKING, SIDEWALK, TERRAIN, BUILDING, POLE, CAR = (
    NATIVE.id(name) for name in ("free", "road", "parking", "sidewalk", "terrain", "building", "pole", "car")
)


def street() -> np.ndarray:
    """``[2, 24, 10, 6]``: along x a road, a sidewalk, a lawn, a wall, and nothing behind it."""
    volume = np.full((2, 24, 10, 6), FREE, np.uint8)
    volume[:, :, :3, 1] = ROAD
    volume[:, :, 3:5, 1] = SIDEWALK
    volume[:, :, 5:7, 1] = TERRAIN
    volume[:, :, 7, 1:5] = BUILDING
    return volume


def straightened(volume: np.ndarray, longest: float = 4.8) -> np.ndarray:
    return straight_edges(volume, GRID, "native", longest)


@pytest.mark.parametrize("turn", [lambda v: v, lambda v: v.swapaxes(1, 2), lambda v: v[:, ::-1, ::-1]])
@pytest.mark.parametrize("length", [1, 3, 6])
def test_kerbs_and_walls_that_step_aside_and_back_are_straight(length: int, turn) -> None:
    jagged, run = street(), slice(9, 9 + length)
    jagged[:, run, 3, 1] = ROAD  # the kerb, outwards
    jagged[:, run, 6] = jagged[:, run, 7]  # the wall, inwards
    jagged[:, run, 7] = FREE
    np.testing.assert_array_equal(straightened(turn(jagged)), turn(street()))
    np.testing.assert_array_equal(straightened(turn(street())), turn(street()))
    np.testing.assert_array_equal(straightened(turn(jagged), 0.8 * length - 0.1), turn(jagged))


def test_a_wall_steps_back_as_high_as_it_is_beside() -> None:
    jagged = street()
    jagged[:, 10:12, 8, 1:3] = BUILDING  # a lower part of it, behind
    jagged[:, 10:12, 7] = FREE
    jagged[:, 10:12, 7, 1] = TERRAIN
    np.testing.assert_array_equal(straightened(jagged), street())


def test_jogs_within_jogs_go_from_the_shortest_on() -> None:
    jagged = street()
    jagged[:, 6:12, 3, 1] = ROAD
    jagged[:, 8:10, 3, 1] = SIDEWALK
    np.testing.assert_array_equal(straightened(jagged), street())


@pytest.mark.parametrize("what", ["a corner", "an alley", "a slant", "a bay", "two columns deep", "longer than sides"])
def test_what_is_meant_stays(what: str) -> None:
    volume = street()
    if what == "a corner":
        volume[:, 12:, 3, 1] = ROAD
    elif what == "an alley":
        volume[:, 10:12, 3:, 1:] = FREE
        volume[:, 10:12, 3:, 1] = ROAD
    elif what == "a slant":
        for x in range(24):
            volume[:, x, 2 : 3 + x // 6, 1] = ROAD
    elif what == "two columns deep":
        volume[:, 10:12, 3:5, 1] = ROAD
    elif what == "a bay":
        volume[:, 8:16, 1:3, 1] = PARKING
    else:
        volume[:, 1:23, 3, 1] = ROAD
    np.testing.assert_array_equal(straightened(volume, 30.0), volume)


def test_what_stands_on_the_ground_stays_but_not_in_a_wall() -> None:
    jagged = street()
    jagged[:, 9:12, 3, 1] = ROAD
    jagged[:, 10, 3, 2:5] = POLE
    jagged[:, 16:18, 8] = jagged[:, 16:18, 7]
    jagged[:, 16:18, 7] = FREE
    jagged[:, 16:18, 7, 1] = TERRAIN
    jagged[:, 16, 7, 2:4] = POLE
    wanted = street()
    wanted[:, 10, 3, 2:5] = POLE
    np.testing.assert_array_equal(straightened(jagged), wanted)


def test_nobody_is_walled_in() -> None:
    jagged = street()
    jagged[:, 16:18, 8] = jagged[:, 16:18, 7]
    jagged[:, 16:18, 7] = FREE
    jagged[:, 16:18, 7, 1] = TERRAIN
    jagged[1, 16, 7, 2] = CAR
    mended = straightened(jagged)
    np.testing.assert_array_equal(mended[:, 16, 7], jagged[:, 16, 7])
    np.testing.assert_array_equal(mended[:, 17], street()[:, 17])


@pytest.mark.parametrize("asked", [None, "road", "sidewalk", "building", "vegetation"])
def test_decoded_clips_are_straightened_unless_a_layout_says_where_streets_are(asked: str | None) -> None:
    config = preset("tiny")
    straight = np.full((config.clip.frames, *config.clip_grid.shape), FREE, np.uint8)
    straight[:, :, :40, 1], straight[:, :, 40:, 1] = ROAD, SIDEWALK
    jagged = straight.copy()
    jagged[:, 30:40, 40, 1] = ROAD
    told = np.array([name == asked for name in LAYOUT_CLASSES])
    layout = replace(layout_of(jagged, "native"), given=told) if asked else None
    made = mended(jagged, Conditions(layout=layout), NO_ROUTE, 0, config)
    np.testing.assert_array_equal(made, straight if asked in (None, "vegetation") else jagged)


def test_the_procedural_city_is_nearly_unchanged() -> None:
    config = preset("tiny")
    scenes = ProceduralCity(config, "world").generate([SceneSpec(i, 0) for i in range(12)])
    changed = sum((straight_edges(s.semantics, s.grid, "native", 19.2) != s.semantics)[0].any(-1).sum() for s in scenes)
    assert changed < 0.001 * sum((s.semantics[0] != FREE).any(-1).sum() for s in scenes)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.4, 0.8, 2.4, 8.0]))
def test_movers_stay_and_all_frames_change_alike(seed: int, longest: float) -> None:
    rng = np.random.default_rng(seed)
    still = np.full((12, 9, 3), FREE, np.uint8)
    still[..., 0] = rng.choice([FREE, ROAD, ROAD, SIDEWALK, BUILDING], size=(12, 9))
    still[..., 1] = rng.choice([FREE, POLE, BUILDING], size=(12, 9))
    volume = np.stack([still, still])
    volume[1, rng.integers(12), rng.integers(9), 1:] = CAR
    mended = straight_edges(volume, GridSpec((12, 9, 3), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0), "native", longest)
    changed = mended != volume
    np.testing.assert_array_equal((mended == CAR), (volume == CAR))
    assert (changed[0] == changed[1])[volume[1] != CAR].all()
    assert longest >= 0.8 or not changed.any()
