"""A layout that says who moves where also says that nobody else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dyncity.conditions import LAYOUT_CLASSES, Layout
from dyncity.layout import layout_of
from dyncity.taxonomy import NATIVE
from generators.laid_out import without_strangers

CAR, PEDESTRIAN, ROAD = NATIVE.id("car"), NATIVE.id("pedestrian"), NATIVE.id("road")
VEHICLE, WALKER = LAYOUT_CLASSES.index("vehicle"), LAYOUT_CLASSES.index("pedestrian")


def city() -> np.ndarray:
    volume = np.full((2, 12, 12, 3), NATIVE.free, np.uint8)
    volume[..., 0] = ROAD
    volume[0, 1:4, 2:4, 1] = CAR
    volume[1, 2:5, 2:4, 1] = CAR
    volume[:, 8:11, 8:10, 1] = CAR
    volume[:, 6, 2, 1:] = PEDESTRIAN
    return volume


def asked(**maps: np.ndarray) -> Layout:
    layout = Layout(np.zeros((len(LAYOUT_CLASSES), 2, 12, 12), bool), np.zeros(len(LAYOUT_CLASSES), bool))
    for name, where in maps.items():
        layout.maps[LAYOUT_CLASSES.index(name)] = where
        layout.given[LAYOUT_CLASSES.index(name)] = True
    return layout


def test_who_was_not_asked_for_goes_and_who_was_stays_whole() -> None:
    where = np.zeros((2, 12, 12), bool)
    where[:, 4, 2] = True  # in the second frame under the first car; in the first beside it
    found = without_strangers(city(), asked(vehicle=where), "native")
    expected = city()
    expected[:, 8:11, 8:10, 1] = NATIVE.free
    np.testing.assert_array_equal(found, expected)  # nothing was said of pedestrians


def test_a_map_without_anybody_empties_the_street() -> None:
    found = without_strangers(city(), asked(pedestrian=np.zeros((2, 12, 12), bool)), "native")
    assert not (found == PEDESTRIAN).any()
    np.testing.assert_array_equal(found == CAR, city() == CAR)
    assert (found[..., 0] == ROAD).all()


def test_beyond_what_a_layout_reaches_who_is_there_stays() -> None:
    reach = np.ones((12, 12), bool)
    reach[7:] = False
    layout = replace(asked(vehicle=np.zeros((2, 12, 12), bool)), reach=reach)
    found = without_strangers(city(), layout, "native")
    assert not (found[:, :6] == CAR).any()
    np.testing.assert_array_equal(found[:, 8:], city()[:, 8:])


def test_without_a_say_nothing_changes() -> None:
    assert without_strangers(city(), None, "native") is not None
    np.testing.assert_array_equal(without_strangers(city(), None, "native"), city())
    ground = asked(road=np.zeros((2, 12, 12), bool))
    np.testing.assert_array_equal(without_strangers(city(), ground, "native"), city())
    np.testing.assert_array_equal(without_strangers(city(), layout_of(city(), "native"), "native"), city())
