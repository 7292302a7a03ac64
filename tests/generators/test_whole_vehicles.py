"""Whole vehicles: rags become boxes, rows are parted, who is whole, given or no vehicle stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.metrics.vehicles import vehicle_ids
from dyncity.presets import preset
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.city import ProceduralCity
from generators.whole_vehicles import whole_vehicles

GRID = GridSpec((48, 40, 5), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0)
CAR, TRUCK, ROAD, BUILDING = (NATIVE.id(name) for name in ("car", "truck", "road", "building"))
IDS = vehicle_ids("native")


def street() -> np.ndarray:
    volume = np.full((8, *GRID.shape), NATIVE.free, np.uint8)
    volume[..., 0] = ROAD
    return volume


def cars(speed: int = 2, y: int = 18) -> np.ndarray:
    """A car of 6 x 2 voxels along x, ``speed`` voxels a frame."""
    volume = street()
    for t in range(8):
        volume[t, 10 + speed * t : 16 + speed * t, y : y + 2, 1:3] = CAR
    return volume


def ragged(volume: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """A volume without a share of the columns of its vehicles."""
    lost = np.random.default_rng(seed).random(volume.shape[:3]) < share
    return np.where(np.isin(volume, IDS) & lost[..., None], NATIVE.free, volume).astype(np.uint8)


def whole(volume: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    return whole_vehicles(volume, GRID, "native", known)


def shared(a: np.ndarray, b: np.ndarray) -> float:
    """Of the voxels of vehicles in one of two volumes, the share in both."""
    first, second = np.isin(a, IDS), np.isin(b, IDS)
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("speed", [0, 2, 3])
def test_rags_become_boxes(speed: int) -> None:
    rags = ragged(cars(speed), 0.25)
    assert shared(rags, cars(speed)) < 0.8
    assert shared(whole(rags), cars(speed)) > 0.9


def test_boxes_stay_as_they_are_and_what_became_one_nearly_so() -> None:
    for speed in (0, 2):
        np.testing.assert_array_equal(whole(cars(speed)), cars(speed))
        once = whole(ragged(cars(speed), 0.25))
        assert shared(whole(once), once) > 0.95


def test_a_row_of_cars_is_parted() -> None:
    volume = street()
    volume[:, 10:24, 18:20, 1:3] = CAR  # 11.2 m
    parts = components(whole(volume)[3] == CAR)
    assert [np.ptp(p[:, 0]) + 1 <= 7 for p in parts] == [True, True]


def test_cars_side_by_side_are_parted_with_room_between() -> None:
    volume = street()
    for y in (12, 15, 18):  # a car park
        volume[:, 10:16, y : y + 2, 1:3] = CAR
    volume[:, 12, 14, 1] = volume[:, 14, 14, 1] = volume[:, 13, 17, 1] = CAR  # what joins them
    parts = components(whole(volume)[3] == CAR)
    assert [len(np.unique(p[:, :2], axis=0)) for p in parts] == [12, 12, 12]


def test_cars_that_touch_while_they_move_are_parted() -> None:
    volume = np.maximum(cars(2, 16), cars(2, 19))
    for t in range(8):
        volume[t, 12 + 2 * t, 18, 1] = CAR
    parted = whole(volume)
    assert [len(components(frame == CAR)) for frame in parted] == [2] * 8
    assert shared(parted, volume) > 0.9


def test_what_of_a_row_goes_on_beyond_the_grid_stays() -> None:
    volume = street()
    volume[:, :15, 18:20, 1:3] = CAR  # the first is cut off by the side
    parted = whole(volume)
    assert (parted[:, 0, 18:20, 1:3] == CAR).all()
    assert len(components(parted[3] == CAR)) > 1


def test_who_is_as_low_as_a_car_is_a_car() -> None:
    """A van is as high all along; one that most voxels are of, but that is lower, is a car."""
    van = NATIVE.id("other_vehicle")
    volume = cars(0)
    volume[:, 10:14, 18:20, 1:3] = van
    low = whole(volume)
    assert (low == CAR).any()
    assert not (low == van).any()
    volume[:, 10:16, 18:20, 3] = van
    volume[:, 16, 18:20, 1:4] = van
    high = whole(volume)
    assert (high == van).any()
    assert not (high == CAR).any()


def test_a_class_that_is_never_so_small_is_not_that_of_a_car() -> None:
    volume = cars()
    volume[..., 1][volume[..., 1] == CAR] = TRUCK
    volume[:, :, 18, 2][volume[:, :, 18, 2] == CAR] = TRUCK
    mended = whole(volume)
    assert (mended == CAR).any()
    assert not (mended == TRUCK).any()


def test_nothing_is_drawn_into_walls_or_given_voxels() -> None:
    volume = ragged(cars(0), 0.3)
    volume[:, 8:20, 20] = BUILDING
    volume[:, 8:20, 17] = BUILDING
    mended = whole(volume)
    np.testing.assert_array_equal(mended == BUILDING, volume == BUILDING)
    assert (mended == CAR).sum() > (volume == CAR).sum()
    volume = ragged(cars(0), 0.3)
    known = np.full_like(volume, UNKNOWN)
    known[2, 8:20, 15:24] = volume[2, 8:20, 15:24]
    np.testing.assert_array_equal(whole(volume, known), volume)


def test_crumbs_lumps_and_voxels_that_show_more_than_boxes_stay() -> None:
    crumb = street()
    crumb[:, 12:14, 18, 1] = CAR
    lump = street()
    lump[:, 10:20, 20, 1:3] = lump[:, 15, 15:25, 1:3] = CAR  # a cross, of nobody
    for volume in (crumb, lump):
        np.testing.assert_array_equal(whole(volume), volume)
    fine, rags = replace(GRID, voxel_size=(0.4, 0.4, 0.4)), ragged(cars(), 0.2)
    np.testing.assert_array_equal(whole_vehicles(rags, fine, "native"), rags)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_only_vehicles_and_free_voxels_change_and_the_same_volume_gives_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = ragged(cars(int(rng.integers(4)), int(rng.integers(2, 36))), 0.3, seed)
    volume[(rng.random(volume.shape) < 0.01) & (volume == NATIVE.free)] = rng.choice([CAR, TRUCK, BUILDING])
    known = np.where(rng.random(volume.shape) < 0.0005, volume, UNKNOWN).astype(np.uint8)
    mended = whole(volume, known)
    changed = mended != volume
    assert np.isin(volume[changed], [*IDS, NATIVE.free]).all()
    assert np.isin(mended[changed], [*IDS, NATIVE.free]).all()
    assert (known[changed] == UNKNOWN).all()
    np.testing.assert_array_equal(whole(volume, known), mended)


def test_the_procedural_city_has_whole_vehicles_already() -> None:
    for scene in ProceduralCity(preset("tiny"), frame="world").generate([SceneSpec(i, 6) for i in range(4)]):
        mended = whole_vehicles(scene.semantics, scene.grid, "native")
        before, after = np.isin(scene.semantics, IDS), np.isin(mended, IDS)
        assert (before & after).sum() >= 0.97 * max(before.sum(), after.sum())
        assert scene.instances is not None
        pairs = scene.instances.astype(int) + 65536 * np.arange(8)[:, None, None, None]
        kept = np.bincount(pairs[before & after], minlength=8 * 65536)
        assert (2 * kept >= np.bincount(pairs[before], minlength=8 * 65536)).all()
