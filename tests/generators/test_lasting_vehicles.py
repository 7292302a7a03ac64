"""Vehicles last: gaps are filled along the way, flashes go, walls are not driven into."""

from __future__ import annotations

import numpy as np
import pytest

from dyncity.grid import GridSpec
from dyncity.taxonomy import NATIVE
from generators.lasting_vehicles import lasting_vehicles

GRID = GridSpec((48, 40, 4), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0)
CAR, TRUCK, ROAD, BUILDING = (NATIVE.id(name) for name in ("car", "truck", "road", "building"))


def street() -> np.ndarray:
    volume = np.full((8, *GRID.shape), NATIVE.free, np.uint8)
    volume[..., 0] = ROAD
    return volume


def drive(volume: np.ndarray, frames: range | list[int], kind: int = CAR, start: int = 10, speed: int = 2) -> None:
    """A car of 5 x 2 voxels along x, ``speed`` voxels a frame."""
    for t in frames:
        volume[t, start + speed * t : start + speed * t + 5, 18:20, 1:3] = kind


@pytest.mark.parametrize("seen", [[0, 1, 2, 4, 5, 6, 7], [2, 3, 4, 5], [0, 1, 2], [5, 6, 7], [3, 4]])
def test_who_was_followed_is_there_in_all_frames(seen: list[int]) -> None:
    volume, expected = street(), street()
    drive(volume, seen)
    drive(expected, range(8))
    np.testing.assert_array_equal(lasting_vehicles(volume, GRID, "native"), expected)


def test_who_is_there_for_one_frame_goes_unless_it_may_come_from_beyond_the_side() -> None:
    volume = street()
    volume[3, 20:25, 18:20, 1:3] = CAR
    expected = street()
    for frames in (volume, expected):
        frames[7, 0:3, 5:7, 1:3] = CAR
    np.testing.assert_array_equal(lasting_vehicles(volume, GRID, "native"), expected)


def test_a_vehicle_is_of_one_class() -> None:
    volume, expected = street(), street()
    drive(volume, range(8))
    drive(volume, [4], TRUCK)
    drive(expected, range(8))
    np.testing.assert_array_equal(lasting_vehicles(volume, GRID, "native"), expected)


def test_nobody_is_put_into_a_wall_another_vehicle_or_beyond_the_grid() -> None:
    volume = street()
    drive(volume, range(4))
    volume[:, 20:22, 18:20] = BUILDING  # which it would reach in frame 4
    np.testing.assert_array_equal(lasting_vehicles(volume, GRID, "native"), volume)
    volume = street()
    drive(volume, range(3), start=34, speed=3)
    lasting = lasting_vehicles(volume, GRID, "native")
    np.testing.assert_array_equal(lasting[:3], volume[:3])
    assert (lasting[3] == CAR).sum() == 20
    assert not (lasting[4:] == CAR).any()


def test_two_that_pass_each_other_keep_their_ways() -> None:
    volume = street()
    for t in range(8):
        volume[t, 8 + 2 * t : 13 + 2 * t, 14:16, 1:3] = CAR
        volume[t, 30 - 2 * t : 35 - 2 * t, 22:24, 1:3] = CAR
    expected = volume.copy()
    volume[4, :, 14:16, 1:3] = NATIVE.free
    np.testing.assert_array_equal(lasting_vehicles(volume, GRID, "native"), expected)


def test_nobody_is_put_right_beside_another() -> None:
    """They would be one lump: a truck stands a row beside the lane from column 24 on, which it reaches in frame 5."""
    volume, expected = street(), street()
    for frames, seen in ((volume, range(4)), (expected, range(5))):
        frames[:, 24:30, 20:22, 1:3] = TRUCK
        drive(frames, seen)
    np.testing.assert_array_equal(lasting_vehicles(volume, GRID, "native"), expected)
