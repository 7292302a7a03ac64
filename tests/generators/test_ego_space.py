"""The ego has its space to itself, where movers are made and not given."""

from __future__ import annotations

import numpy as np

from dyncity.grid import GridSpec
from dyncity.taxonomy import NATIVE
from generators.ego_space import clear_of_movers

GRID = GridSpec((40, 20, 5), (0.8, 0.8, 0.8), (-16.0, -8.0, -0.8), 5.0)
CAR, PEDESTRIAN, ROAD, LIGHT = (NATIVE.id(name) for name in ("car", "pedestrian", "road", "traffic_light"))
AHEAD = [(4.0 * k, 0.0, 0.0) for k in range(-2, 4)]  # 4 m a frame along x


def street() -> np.ndarray:
    volume = np.full((3, *GRID.shape), NATIVE.free, np.uint8)
    volume[..., 0] = ROAD
    return volume


def cleared(volume: np.ndarray, begins: int = 2) -> np.ndarray:
    return clear_of_movers(volume, AHEAD, begins, GRID, "native")


def test_who_is_in_the_way_now_is_not_there_now() -> None:
    volume = street()
    volume[0, 18:23, 9:12, 1:3] = CAR  # where the ego is in the first frame
    volume[1, 18:23, 12:15, 1:3] = volume[2, 18:23, 15:18, 1:3] = CAR  # and beside it later
    expected = volume.copy()
    expected[0] = street()[0]
    np.testing.assert_array_equal(cleared(volume), expected)


def test_who_stands_where_the_ego_comes_by_is_nowhere_and_who_stands_beside_stays() -> None:
    volume = street()
    volume[:, 33:37, 9:12, 1:3] = CAR  # the ego comes there in the last frame of its route, after the clip
    volume[:, 2, 9, 1:3] = PEDESTRIAN  # behind where the route begins
    volume[:, 20:25, 14:17, 1:3] = CAR  # beside it
    volume[:, 20, 9:12, 4] = LIGHT  # above it, and no mover
    found = cleared(volume)
    assert (found[:, 33:37, 9:12, 1:3] == NATIVE.free).all()
    rest = np.ones(volume.shape, bool)
    rest[:, 33:37, 9:12, 1:3] = False
    np.testing.assert_array_equal(found[rest], volume[rest])


def test_a_car_that_drives_where_the_ego_is_at_another_time_stays() -> None:
    volume = street()
    for t in range(3):
        volume[t, 30 + 2 * t : 34 + 2 * t, 9:12, 1:3] = CAR  # ahead of the ego, in its lane
    np.testing.assert_array_equal(cleared(volume), volume)
