"""Parked is what is the same vehicle in all frames."""

from __future__ import annotations

import numpy as np

from dyncity.movers import parked
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
