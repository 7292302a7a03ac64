"""Parked is what is the same vehicle in all frames."""

from __future__ import annotations

import numpy as np

from dyncity.movers import parked, without_cut_off
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import NATIVE

CAR, PEDESTRIAN = NATIVE.id("car"), NATIVE.id("pedestrian")


def test_parked_is_a_whole_vehicle_that_never_changes() -> None:
    volume = np.full((3, 20, 6, 3), NATIVE.free, np.uint8)
    volume[:, 1:4, 1:3, 1] = CAR
    volume[:, 6:9, 1:3, 1] = CAR
    volume[2, 9, 1, 1] = CAR  # it creeps on
    volume[:, 12:15, 1:3, 1] = CAR
    volume[1, 12, 1, 1] = NATIVE.free  # it flickers
    volume[:, 18, 1, 1] = PEDESTRIAN
    found = parked(volume, "native")
    np.testing.assert_array_equal(np.argwhere(found), np.argwhere(volume[0, :5] == CAR))


def test_nobody_is_known_who_goes_on_where_nothing_is() -> None:
    volume = np.full((2, 20, 8, 3), NATIVE.free, np.uint8)
    volume[:, 10:] = UNKNOWN  # another grid went as far as column 9
    volume[0, 3:6, 5:7, 1] = volume[:, 0:2, 0:2, 1] = CAR  # one whole, one at the side of this grid
    cut_off = volume.copy()
    cut_off[1, 6:10, 2:4, 1] = CAR
    cut_off[1, 4, 4, 2], cut_off[1, 4, 5, 1] = UNKNOWN, PEDESTRIAN  # a voxel alone tells nothing
    found = without_cut_off(cut_off, "native")
    assert (found[1, 6:10, 2:4, 1] == UNKNOWN).all()
    found[1, 6:10, 2:4, 1] = CAR
    np.testing.assert_array_equal(found, cut_off)
    np.testing.assert_array_equal(without_cut_off(volume, "native"), volume)
