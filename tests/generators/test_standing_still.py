"""Static classes do not flicker in a grid that is fixed to the world; movers and given voxels stay."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dyncity.scene import UNKNOWN
from dyncity.taxonomy import NATIVE
from generators.standing_still import standing_still

CAR, ROAD, POLE, FREE = NATIVE.id("car"), NATIVE.id("road"), NATIVE.id("pole"), NATIVE.free
IDS = st.sampled_from([FREE, ROAD, POLE, NATIVE.id("building"), CAR, NATIVE.id("pedestrian")])
CLIPS = hnp.arrays(np.uint8, (5, 2, 2, 2), elements=IDS)
PARTS = hnp.arrays(bool, (5, 2, 2, 2))


def column(*ids: int) -> np.ndarray:
    return np.array(ids, np.uint8).reshape(-1, 1, 1, 1)


def still(*ids: int, known: tuple[int, ...] | None = None) -> list[int]:
    told = None if known is None else column(*known)
    return standing_still(column(*ids), "native", told).ravel().tolist()


def test_a_voxel_is_what_it_is_in_most_frames() -> None:
    assert still(ROAD, POLE, ROAD, ROAD) == [ROAD] * 4
    assert still(FREE, POLE, FREE, FREE) == [FREE] * 4
    assert still(FREE, POLE, POLE, FREE) == [POLE] * 4  # thin things are lost more easily than found


def test_movers_come_and_go_and_do_not_vote() -> None:
    assert still(CAR, CAR, CAR, ROAD, FREE, ROAD) == [CAR, CAR, CAR, ROAD, ROAD, ROAD]


def test_given_voxels_say_what_stands() -> None:
    nothing = UNKNOWN
    assert still(POLE, POLE, POLE, known=(FREE, nothing, nothing)) == [FREE] * 3
    assert still(POLE, CAR, FREE, known=(nothing, nothing, ROAD)) == [ROAD, CAR, ROAD]
    # A mover that is given says nothing of what stands there.
    assert still(POLE, POLE, FREE, known=(CAR, nothing, nothing)) == [CAR, POLE, POLE]


@given(CLIPS, CLIPS, PARTS)
def test_what_is_given_stays_and_what_stands_is_one_class(
    clip: np.ndarray, other: np.ndarray, part: np.ndarray
) -> None:
    known = np.where(part, other, UNKNOWN).astype(np.uint8)
    found = standing_still(clip, "native", known)
    np.testing.assert_array_equal(found[part], other[part])
    moving = np.isin(clip, list(NATIVE.movers))
    np.testing.assert_array_equal(found[moving & ~part], clip[moving & ~part])
    open_ = np.where(np.isin(found, list(NATIVE.movers)) | part, -1, found.astype(int))
    for voxel in open_.reshape(len(clip), -1).T:
        assert len({v for v in voxel.tolist() if v >= 0}) <= 1
    np.testing.assert_array_equal(standing_still(found, "native", known), found)
