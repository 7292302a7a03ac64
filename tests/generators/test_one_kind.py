"""One class a vehicle: the votes of its voxels; vehicles that touch keep theirs, and so does everything else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.grid import GridSpec
from dyncity.metrics.vehicles import vehicle_ids
from dyncity.taxonomy import NATIVE
from generators.one_kind import one_kind

GRID = GridSpec((24, 12, 4), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0)
CAR, TRUCK, BUS, ROAD, BICYCLE = (NATIVE.id(name) for name in ("car", "truck", "bus", "road", "bicycle"))


def street() -> np.ndarray:
    volume = np.full((2, *GRID.shape), NATIVE.free, np.uint8)
    volume[:, :, :, 0] = ROAD
    return volume


def test_most_voxels_say_what_a_vehicle_is_frame_by_frame() -> None:
    volume = street()
    volume[0, 3:9, 4:7, 1:3] = TRUCK
    volume[0, 3:5, 4:7, 1:3] = CAR
    volume[1, 3:9, 4:7, 1:3] = CAR
    volume[1, 3, 4, 1] = BUS
    expected = volume.copy()
    expected[0, 3:9, 4:7, 1:3] = TRUCK
    expected[1, 3:9, 4:7, 1:3] = CAR
    np.testing.assert_array_equal(one_kind(volume, GRID, "native"), expected)


def test_vehicles_that_touch_are_no_vehicle_and_keep_their_classes() -> None:
    volume = street()
    volume[0, 1:13, 2:5, 1:4] = BUS
    volume[0, 13:19, 2:5, 1:3] = CAR  # 14.4 m in all: no vehicle is as long
    volume[1, 2:8, 1:4, 1:3] = CAR
    volume[1, 2:8, 4:8, 1:4] = TRUCK  # side by side, 5.6 m wide
    np.testing.assert_array_equal(one_kind(volume, GRID, "native"), volume)


def test_a_bicycle_beside_a_car_stays_one() -> None:
    volume = street()
    volume[0, 3:9, 4:7, 1:3] = CAR
    volume[0, 3:5, 7, 1] = BICYCLE
    np.testing.assert_array_equal(one_kind(volume, GRID, "native"), volume)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.4))
def test_only_vehicles_change_and_only_among_vehicles_and_once_is_enough(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.choice(
        [NATIVE.free, ROAD, CAR, TRUCK, BICYCLE], (2, *GRID.shape), p=[0.6 - share, 0.3, share, 0.05, 0.05]
    )
    volume = volume.astype(np.uint8)
    voted = one_kind(volume, GRID, "native")
    wheels = np.isin(volume, vehicle_ids("native"))
    np.testing.assert_array_equal(voted[~wheels], volume[~wheels])
    assert np.isin(voted[wheels], volume[wheels]).all()
    np.testing.assert_array_equal(one_kind(voted, GRID, "native"), voted)
