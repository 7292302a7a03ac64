"""Crowns in the air get a trunk, trunks without a crown go, and everything else stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dyncity.presets import preset
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import NATIVE
from generators.whole_trees import whole_trees

GRID = preset("tiny").grid  # voxels of 0.8 m
FREE, ROAD, SIDEWALK, BUILDING, VEGETATION, TRUNK, POLE, LIGHT, CAR = (
    NATIVE.id(name)
    for name in ("free", "road", "sidewalk", "building", "vegetation", "trunk", "pole", "traffic_light", "car")
)


def park() -> np.ndarray:
    """``[3, 12, 12, 8]``: pavement, road from y = 6 on, and a crown of 3 x 3 x 2 voxels in the air at 5, 4."""
    volume = np.full((3, 12, 12, 8), FREE, np.uint8)
    volume[..., 1] = SIDEWALK
    volume[:, :, 6:, 1] = ROAD
    volume[:, 4:7, 3:6, 4:6] = VEGETATION
    return volume


def test_a_crown_in_the_air_gets_a_trunk_in_its_middle() -> None:
    expected = park()
    expected[:, 5, 4, 2:4] = TRUNK
    np.testing.assert_array_equal(whole_trees(park(), GRID, "native"), expected)
    np.testing.assert_array_equal(whole_trees(expected, GRID, "native"), expected)


def test_trees_do_not_grow_on_roads() -> None:
    volume = np.roll(park(), 2, axis=2)  # the crown from 5 to 8, the road from 8 on and at 0 and 1
    volume[..., 1] = np.where(np.arange(12) >= 6, ROAD, SIDEWALK)[:, None].T
    mended = whole_trees(volume, GRID, "native")
    assert (mended[:, 5, 5, 2:4] == TRUNK).all()
    assert (mended != volume).sum() == 3 * 2
    volume[..., 1] = ROAD
    np.testing.assert_array_equal(whole_trees(volume, GRID, "native"), volume)


@pytest.mark.parametrize(
    ("at", "what"),
    [
        ((5, 5, 3), VEGETATION),  # a branch comes down
        ((4, 3, 3), BUILDING),  # it rests on something
    ],
)
def test_what_rests_on_something_or_is_near_the_ground_gets_none(at: tuple[int, int, int], what: int) -> None:
    volume = park()
    volume[:, *at] = what
    volume[:, at[0], at[1], 2] = what
    np.testing.assert_array_equal(whole_trees(volume, GRID, "native"), volume)


@pytest.mark.parametrize("move", [-4, 5])
def test_a_crown_at_the_side_may_have_its_trunk_beyond(move: int) -> None:
    volume = park()
    volume[..., 2:] = np.roll(volume[..., 2:], move, axis=1)
    np.testing.assert_array_equal(whole_trees(volume, GRID, "native"), volume)


def test_and_so_may_one_beside_unknown_voxels() -> None:
    volume = park()
    volume[:, 7, 4, :] = UNKNOWN
    np.testing.assert_array_equal(whole_trees(volume, GRID, "native"), volume)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((TRUNK, TRUNK), (FREE, FREE)),
        ((TRUNK, LIGHT), (POLE, LIGHT)),
        ((TRUNK, POLE, POLE), (POLE, POLE, POLE)),
        ((TRUNK, TRUNK, VEGETATION), (TRUNK, TRUNK, VEGETATION)),
        ((TRUNK,) * 6, (TRUNK,) * 6),  # up to the top of the grid: its crown may be beyond
    ],
)
def test_a_trunk_has_a_crown(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    volume, expected = park(), whole_trees(park(), GRID, "native")
    volume[:, 10, 2, 2 : 2 + len(before)] = before
    expected[:, 10, 2, 2 : 2 + len(after)] = after
    np.testing.assert_array_equal(whole_trees(volume, GRID, "native"), expected)


def test_who_passes_under_a_crown_stays() -> None:
    volume = park()
    volume[1, 5, 4, 2] = CAR
    assert whole_trees(volume, GRID, "native")[:, 5, 4, 2].tolist() == [TRUNK, CAR, TRUNK]


def test_a_label_space_without_trunks_stays() -> None:
    volume = np.zeros((2, 6, 6, 8), np.uint8)
    volume[..., 1], volume[:, 1:5, 1:5, 5] = 8, 9  # CarlaSC's sidewalk, vegetation
    np.testing.assert_array_equal(whole_trees(volume, GRID, "carlasc"), volume)


def test_fine_voxels_stay() -> None:
    """A trunk is several columns wide there, and not all of them reach its crown."""
    fine = replace(GRID, voxel_size=(0.4, 0.4, 0.4))
    np.testing.assert_array_equal(whole_trees(park(), fine, "native"), park())
