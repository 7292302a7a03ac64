"""Who was asked for and is not decoded is drawn: on free ground, as it looks elsewhere, never into what stands."""

from __future__ import annotations

import numpy as np

from dyncity.conditions import LAYOUT_CLASSES, Layout
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import NATIVE
from generators.asked_agents import columns_held, with_asked

GRID = GridSpec((24, 16, 6), (0.8, 0.8, 0.8), (-9.6, -6.4, -1.2), 5.0)
CAR, BUS, TRUCK, PEDESTRIAN = (NATIVE.id(name) for name in ("car", "bus", "truck", "pedestrian"))
ROAD, BUILDING, CYCLIST = (NATIVE.id(name) for name in ("road", "building", "cyclist"))
FRAMES = 4


def street() -> np.ndarray:
    volume = np.full((FRAMES, *GRID.shape), NATIVE.free, np.uint8)
    volume[..., :2] = ROAD
    return volume


def asked(**maps: np.ndarray) -> Layout:
    layout = Layout(np.zeros((len(LAYOUT_CLASSES), FRAMES, *GRID.shape[:2]), bool), np.zeros(len(LAYOUT_CLASSES), bool))
    for name, where in maps.items():
        layout.maps[LAYOUT_CLASSES.index(name)] = where
        layout.given[LAYOUT_CLASSES.index(name)] = True
    return layout


def columns(*places: tuple[slice | int, slice | int]) -> np.ndarray:
    """The same columns in all frames."""
    where = np.zeros((FRAMES, *GRID.shape[:2]), bool)
    for x, y in places:
        where[:, x, y] = True
    return where


def drawn(volume: np.ndarray, layout: Layout | None, given: np.ndarray | None = None) -> np.ndarray:
    return with_asked(volume, layout, GRID, "native", given)


def test_nobody_decoded_is_drawn_by_size() -> None:
    walker, car, lorry, rider = (4, 3), (slice(8, 14), slice(3, 5)), (slice(2, 15), slice(8, 11)), (slice(18, 20), 3)
    layout = asked(pedestrian=columns(walker), vehicle=columns(car, lorry, rider))
    expected = street()
    for at, kind, height in ((walker, PEDESTRIAN, 2), (car, CAR, 2), (lorry, TRUCK, 4), (rider, CYCLIST, 2)):
        expected[:, at[0], at[1], 2 : 2 + height] = kind
    np.testing.assert_array_equal(drawn(street(), layout), expected)


def test_who_is_missing_in_some_frames_looks_there_as_in_the_others() -> None:
    where = np.zeros((FRAMES, *GRID.shape[:2]), bool)
    expected = street()
    for t in range(FRAMES):
        where[t, 3 + 2 * t : 9 + 2 * t, 5:8] = True
        expected[t, 3 + 2 * t : 9 + 2 * t, 5:8, 2:5] = BUS
    volume = expected.copy()
    volume[2] = street()[2]
    np.testing.assert_array_equal(drawn(volume, asked(vehicle=where)), expected)


def test_who_is_decoded_for_the_most_part_stays_as_it_is() -> None:
    volume = street()
    volume[:, 9:14, 3:5, 2:4] = CAR  # a column behind and one ahead of what was asked
    np.testing.assert_array_equal(drawn(volume, asked(vehicle=columns((slice(8, 13), slice(3, 5))))), volume)


def test_one_that_is_decoded_beside_its_place_moves_there_and_others_stay() -> None:
    volume = street()
    volume[:, 5, 4, 2:4] = PEDESTRIAN  # beside the first
    volume[:, 12, 4, 2:4] = PEDESTRIAN  # at the second
    volume[:, 20, 12, 2:4] = PEDESTRIAN  # whom nobody asked for: not for this part to say
    expected = volume.copy()
    expected[:, 5, 4, 2:4] = NATIVE.free
    expected[:, 4, 3, 2:4] = PEDESTRIAN
    np.testing.assert_array_equal(drawn(volume, asked(pedestrian=columns((4, 3), (12, 4)))), expected)


def test_nobody_is_drawn_into_a_wall_another_or_given_voxels() -> None:
    volume = street()
    volume[:, 4, 3, 2:] = BUILDING
    volume[:, 8:13, 3:5, 2:4] = CAR
    given = np.full(volume.shape, UNKNOWN, np.uint8)
    given[:, 18] = volume[:, 18]
    layout = asked(pedestrian=columns((4, 3), (8, 4), (18, 12)))
    np.testing.assert_array_equal(drawn(volume, layout, given), volume)
    free = drawn(volume, layout)
    assert (free[:, 18, 12, 2:4] == PEDESTRIAN).all()
    np.testing.assert_array_equal(np.delete(free, 18, axis=1), np.delete(volume, 18, axis=1))


def test_a_kerb_lifts_who_stands_on_it() -> None:
    volume = street()
    volume[:, 4, 3, 2] = NATIVE.id("sidewalk")
    found = drawn(volume, asked(pedestrian=columns((4, 3))))
    assert found[0, 4, 3].tolist()[2:] == [NATIVE.id("sidewalk"), PEDESTRIAN, PEDESTRIAN, NATIVE.free]


def test_without_a_say_nothing_changes() -> None:
    volume = street()
    assert drawn(volume, None) is volume
    np.testing.assert_array_equal(drawn(volume, asked(road=columns((4, 3)))), volume)
    np.testing.assert_array_equal(drawn(volume, asked(vehicle=columns())), volume)


def test_columns_are_counted_before_anybody_is_drawn() -> None:
    volume, layout = street(), asked(vehicle=columns((slice(8, 14), slice(3, 5))), pedestrian=columns())
    volume[0, 8:11, 3:5, 2:4] = CAR
    counts = {"asked_vehicle_columns": 12 * FRAMES, "decoded_vehicle_columns": 6}
    assert columns_held(volume, layout, "native") == counts
    after = columns_held(volume, layout, "native", slice(1, None))
    assert after == {"asked_vehicle_columns": 12 * (FRAMES - 1), "decoded_vehicle_columns": 0}
    assert columns_held(volume, None, "native") == {}
