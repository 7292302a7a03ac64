"""Nothing floats: movers, poles, trunks and signs reach the ground, crumbs of poles go, what stands stays the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.presets import preset
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.city import ProceduralCity
from generators.upright import upright
from generators.whole_trees import whole_trees

GRID = preset("tiny").grid  # voxels of 0.8 m
FREE, ROAD, BUILDING, POLE, TRUNK = (NATIVE.id(n) for n in ("free", "road", "building", "pole", "trunk"))
SIGN, LIGHT, CAR, PEDESTRIAN = (NATIVE.id(n) for n in ("traffic_sign", "traffic_light", "car", "pedestrian"))
VEGETATION = NATIVE.id("vegetation")


def column(*above: int, frames: int = 3) -> np.ndarray:
    """``[t, 4, 4, 8]``: road, and one column on it, given from the ground up."""
    volume = np.full((frames, 4, 4, 8), FREE, np.uint8)
    volume[..., 1] = ROAD
    volume[:, 2, 1, 2 : 2 + len(above)] = above
    return volume


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((FREE, PEDESTRIAN), (PEDESTRIAN, PEDESTRIAN)),
        ((PEDESTRIAN,), (PEDESTRIAN, PEDESTRIAN)),  # nobody is 0.8 m tall
        ((FREE, FREE, CAR, CAR), (CAR, CAR, CAR, CAR)),
        ((CAR, FREE, CAR), (CAR, CAR, CAR)),
        ((FREE, TRUNK, VEGETATION), (TRUNK, TRUNK, VEGETATION)),
        ((POLE, POLE, FREE, POLE, POLE), (POLE, POLE, POLE, POLE, POLE)),
        ((FREE, FREE, SIGN), (POLE, POLE, SIGN)),
        ((FREE, POLE, FREE, LIGHT), (POLE, POLE, POLE, LIGHT)),
        ((FREE, FREE, FREE, POLE), ()),  # a crumb
        ((FREE, FREE, VEGETATION), (FREE, FREE, VEGETATION)),  # crowns hang over
        ((FREE, FREE, FREE, BUILDING), (FREE, FREE, FREE, BUILDING)),
        ((BUILDING, FREE, PEDESTRIAN), (BUILDING, PEDESTRIAN, PEDESTRIAN)),
    ],
)
def test_a_column(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(upright(column(*before), GRID, "native"), column(*after))
    np.testing.assert_array_equal(upright(column(*after), GRID, "native"), column(*after))


def test_who_is_under_a_roof_does_not_grow_into_it() -> None:
    np.testing.assert_array_equal(upright(column(PEDESTRIAN, BUILDING), GRID, "native"), column(PEDESTRIAN, BUILDING))


def test_where_there_is_no_ground_nothing_is_filled() -> None:
    volume = column(FREE, CAR, CAR)
    volume[:, 2, 1, 1] = FREE
    np.testing.assert_array_equal(upright(volume, GRID, "native"), volume)


def test_who_passes_under_a_sign_stays_and_its_pole_is_there_in_the_other_frames() -> None:
    volume = column(FREE, FREE, SIGN)
    volume[1, 2, 1, 2] = CAR
    mended = upright(volume, GRID, "native")[:, 2, 1, 2:5].tolist()
    assert mended == [[POLE, POLE, SIGN], [CAR, POLE, SIGN], [POLE, POLE, SIGN]]


def test_voxels_that_show_the_gap_under_a_car_stay_as_they_are() -> None:
    fine = replace(GRID, voxel_size=(0.4, 0.4, 0.4))
    volume = column(FREE, CAR)
    np.testing.assert_array_equal(upright(volume, fine, "native"), volume)


def test_other_label_spaces_stand_too() -> None:
    """CarlaSC has poles and pedestrians and no signs."""
    volume = np.zeros((2, 3, 3, 6), np.uint8)
    volume[..., 0] = 6  # road
    volume[:, 1, 1, 2] = 4  # pedestrian
    mended = upright(volume, GRID, "carlasc")
    assert mended[0, 1, 1].tolist() == [6, 4, 4, 0, 0, 0]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_occupied_voxels_stay_but_for_crumbs_of_poles_and_what_stands_stays_the_same_in_all_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.array([FREE, FREE, FREE, ROAD, POLE, SIGN, TRUNK, VEGETATION, BUILDING, UNKNOWN], np.uint8)
    volume = np.repeat(rng.choice(ids, (1, 5, 5, 8)), 3, axis=0)
    moving = rng.random(volume.shape) < 0.1
    volume[moving & (volume == FREE)] = rng.choice([CAR, PEDESTRIAN])
    mended = upright(volume, GRID, "native")
    changed = mended != volume
    assert np.isin(volume[changed], [FREE, POLE, PEDESTRIAN]).all()
    still = [np.where(np.isin(frame, [CAR, PEDESTRIAN]), FREE, frame) for frame in mended]
    own = ~np.isin(mended, [CAR, PEDESTRIAN]).any(axis=0)
    for frame in still:
        np.testing.assert_array_equal(frame[own], still[0][own])


def test_a_person_smeared_over_columns_keeps_those_that_are_whole() -> None:
    volume = column(PEDESTRIAN, PEDESTRIAN)
    volume[:, 1, 1, 3] = volume[:, 2, 2, 2] = PEDESTRIAN
    np.testing.assert_array_equal(upright(volume, GRID, "native"), column(PEDESTRIAN, PEDESTRIAN))
    pair = column(PEDESTRIAN, PEDESTRIAN)
    pair[:, 1, 1, 2:4] = PEDESTRIAN
    np.testing.assert_array_equal(upright(pair, GRID, "native"), pair)


def test_the_procedural_city_stands_already() -> None:
    config = preset("tiny")
    for scene in ProceduralCity(config, frame="world").generate([SceneSpec(i, 6) for i in range(4)]):
        whole = whole_trees(scene.semantics, scene.grid, "native")
        np.testing.assert_array_equal(whole, scene.semantics)
        np.testing.assert_array_equal(upright(whole, scene.grid, "native"), scene.semantics)
