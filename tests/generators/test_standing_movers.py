"""Movers that stand are the same in all frames; those that move are left alone."""

from __future__ import annotations

import numpy as np

from dyncity.grid import GridSpec
from dyncity.movers import parked
from dyncity.taxonomy import NATIVE
from generators.standing_movers import standing_movers

CAR, TRUCK, PEDESTRIAN, ROAD = (NATIVE.id(name) for name in ("car", "truck", "pedestrian", "road"))
FRAMES, SHAPE = 8, (24, 16, 4)
GRID = GridSpec(SHAPE, (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0)


def street() -> np.ndarray:
    volume = np.full((FRAMES, *SHAPE), NATIVE.free, np.uint8)
    volume[..., 0] = ROAD
    return volume


def test_a_parked_car_that_flickers_is_one_car() -> None:
    clean = street()
    clean[:, 4:10, 4:7, 1:3] = CAR
    noisy, rng = clean.copy(), np.random.default_rng(0)
    noisy[1, 4, 4:7, 1:3] = NATIVE.free  # its end is missing
    noisy[2, 4:10, 7, 1] = CAR  # a row too many
    noisy[5, 4:10, 4:7, 1:3] = np.where(rng.random((6, 3, 2)) < 0.3, NATIVE.free, CAR)
    noisy[6, 4:10, 4:7, 1:3] = TRUCK
    assert not parked(noisy, "native").any()
    still = standing_movers(noisy, GRID, "native")
    np.testing.assert_array_equal(still, clean)
    assert parked(still, "native").sum() == 6 * 3 * 2


def test_somebody_who_waits_stands_still_and_is_not_parked() -> None:
    volume = street()
    volume[:, 12, 12, 1:3] = PEDESTRIAN
    volume[3, 12, 12, 1:3] = NATIVE.free
    still = standing_movers(volume, GRID, "native")
    assert (still[:, 12, 12, 1:3] == PEDESTRIAN).all()
    assert not parked(still, "native").any()


def test_what_moves_is_left_alone() -> None:
    volume = street()
    for t in range(FRAMES):
        volume[t, 2 + t : 8 + t, 2:5, 1:3] = CAR  # 4 m/s
        volume[t, 2 + t // 2 : 7 + t // 2, 10:12, 1:3] = CAR  # 2 m/s
        volume[t, 20, 4 + t, 1:3] = PEDESTRIAN
    np.testing.assert_array_equal(standing_movers(volume, GRID, "native"), volume)
    assert not parked(volume, "native").any()


def test_a_car_that_drives_by_does_not_move_a_parked_one() -> None:
    volume = street()
    volume[:, 8:14, 4:7, 1:3] = CAR
    for t in range(FRAMES):
        volume[t, 2 * t : 2 * t + 6, 9:12, 1:3] = CAR
    np.testing.assert_array_equal(standing_movers(volume, GRID, "native"), volume)


def test_a_heap_is_no_vehicle_that_stands() -> None:
    volume = street()
    volume[:, 2:14, 2:14, 1:3] = TRUCK
    volume[3, 2, 2, 1:3] = NATIVE.free
    np.testing.assert_array_equal(standing_movers(volume, GRID, "native"), volume)
