"""Movers of the shared frames go on in the new ones, and so do those that are lost; nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dyncity.conditions import LAYOUT_CLASSES, Conditions, Layout
from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.metrics.vehicles import vehicle_ids
from dyncity.models.conditioning import NO_ROUTE
from dyncity.presets import preset
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import NATIVE
from generators.diffusion import LatentDiffusion
from generators.going_on import going_on, not_lost
from generators.long_scenes import LongScenes
from generators.mending import mended
from generators.procedural.city import ProceduralCity

GRID = GridSpec((48, 40, 4), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0)
CAR, TRUCK, ROAD, SIDEWALK, BUILDING = (NATIVE.id(name) for name in ("car", "truck", "road", "sidewalk", "building"))
SHARED = 4


def street() -> np.ndarray:
    volume = np.full((8, *GRID.shape), NATIVE.free, np.uint8)
    volume[..., 0] = ROAD
    return volume


def put(volume: np.ndarray, frames: range, x: list[int], y: int = 18, kind: int = CAR) -> None:
    """A vehicle of 5 x 2 voxels whose rear is at ``x`` in those frames."""
    for t, rear in zip(frames, x, strict=True):
        volume[t, rear : rear + 5, y : y + 2, 1:3] = kind


def coming(*then: int) -> np.ndarray:
    """Two voxels a frame from 6 to 12 in the shared frames, and where it is in the new ones."""
    volume = street()
    put(volume, range(4), [6, 8, 10, 12])
    put(volume, range(4, 4 + len(then)), list(then))
    return volume


def given(volume: np.ndarray) -> np.ndarray:
    known = np.full_like(volume, UNKNOWN)
    known[:SHARED] = volume[:SHARED]
    return known


def gone_on(volume: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    return going_on(volume, given(volume) if known is None else known, SHARED, GRID, "native")


@pytest.mark.parametrize("then", [(12, 13, 13, 13), (13, 14, 16, 17), (14, 16, 18, 20), (), (14,)])
def test_who_comes_moving_keeps_its_way(then: tuple[int, ...]) -> None:
    """Decoded a step behind, slower, as it should be, or not at all."""
    np.testing.assert_array_equal(gone_on(coming(*then)), coming(14, 16, 18, 20))


def test_who_comes_up_beside_its_place_goes_in_all_frames() -> None:
    volume = coming()
    put(volume, range(4, 8), [15, 16, 17, 18], y=20, kind=TRUCK)  # they would be one lump
    put(volume, range(4, 8), [30, 30, 30, 30], y=30, kind=TRUCK)
    expected = coming(14, 16, 18, 20)
    put(expected, range(4, 8), [30, 30, 30, 30], y=30, kind=TRUCK)
    np.testing.assert_array_equal(gone_on(volume), expected)


def rears(volume: np.ndarray, frames: slice = slice(SHARED, 8), rows: slice = slice(18, 20)) -> list[int]:
    """Where the rear of the one vehicle of some rows is."""
    found = [np.flatnonzero((frame[:, rows] == CAR).any(axis=(1, 2))) for frame in volume[frames]]
    assert all(len(columns) == 5 for columns in found)
    return [int(columns[0]) for columns in found]


def test_who_comes_upon_something_brakes_and_stands() -> None:
    for kind, most in ((BUILDING, 17), (CAR, 16)):  # one column stays free between vehicles
        volume = coming(12, 12, 12, 12)
        volume[:, 22:27, 18:20, 1:3] = kind
        result = gone_on(volume)
        came = rears(result[:, :22])
        assert came[:2] == [14, 16]
        assert came == sorted(came)
        assert came[2:] == [most, most]
        np.testing.assert_array_equal(result[:, 22:], volume[:, 22:])


def test_nobody_drives_into_the_ego() -> None:
    volume = coming(12, 12, 12, 12)
    taken = np.zeros(volume.shape[:3], bool)
    taken[6:, 20:24, 16:22] = True
    result = going_on(volume, given(volume), SHARED, GRID, "native", taken)
    assert rears(result)[:2] == [14, 16]
    assert not (result[6:] == CAR).any(axis=-1)[taken[6:]].any()


def test_who_drives_ahead_is_moved_before_who_follows() -> None:
    volume = coming(12, 12, 12, 12)
    put(volume, range(8), [12, 14, 16, 18, 18, 18, 18, 18])  # decoded as standing, in the way of the one behind
    expected = coming(14, 16, 18, 20)
    put(expected, range(8), [12, 14, 16, 18, 20, 22, 24, 26])
    np.testing.assert_array_equal(gone_on(volume), expected)


def test_two_wheels_that_come_up_on_its_way_go() -> None:
    volume = coming(12, 13, 13, 13)
    volume[5:, 18, 18, 1:3] = NATIVE.id("motorcyclist")
    np.testing.assert_array_equal(gone_on(volume), coming(14, 16, 18, 20))


def test_it_is_left_as_decoded_from_where_it_leaves_the_road_or_stands_in_given_voxels() -> None:
    kerb, held = coming(12, 12, 12, 12), coming(12, 12, 12, 12)
    kerb[:, 20:, :, 0] = SIDEWALK  # where most of it is in frame 6
    known = given(held)
    known[6] = held[6]
    known[6, 18:20, 18, 1] = TRUCK  # where it would be, and where it would stand
    held[known != UNKNOWN] = known[known != UNKNOWN]
    for volume, told in ((kerb, given(kerb)), (held, known)):
        result = gone_on(volume, told)
        moved = street()
        put(moved, range(4, 6), [14, 16])
        np.testing.assert_array_equal(result[4:6] == CAR, moved[4:6] == CAR)
        np.testing.assert_array_equal(result[6:], volume[6:])


def test_it_does_not_leave_the_grid_nor_drive_into_another_that_goes_on() -> None:
    volume = street()
    put(volume, range(4), [31, 34, 37, 40])
    result = gone_on(volume)
    assert result[4, 43:48, 18, 1].tolist() == [CAR] * 5
    np.testing.assert_array_equal(result[5:], volume[5:])
    volume = coming()
    put(volume, range(4), [33, 31, 29, 27])  # the other way in the same lane: frame 6 would be a collision
    result = gone_on(volume)
    assert [len(components(frame == CAR)) for frame in result] == [2, 2, 2, 2, 2, 2, 1, 1]
    assert [int((frame == CAR).sum()) for frame in result] == [40, 40, 40, 40, 40, 40, 20, 20]


@pytest.mark.parametrize("seed", range(20))
def test_a_clip_into_which_nobody_comes_moving_comes_out_as_it_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = np.where(rng.random((8, *GRID.shape)) < 0.2, rng.integers(0, len(NATIVE), (8, *GRID.shape)), NATIVE.free)
    volume = volume.astype(np.uint8)
    volume[:SHARED] = volume[0]  # who is there stands; anybody may come up later
    np.testing.assert_array_equal(gone_on(volume), volume)


def test_given_voxels_come_out_as_they_were_given() -> None:
    volume = coming(12, 13, 13, 13)
    known = given(volume)
    known[SHARED:, :, :, 0] = ROAD
    known[6:] = volume[6:]
    known[5, 16:20, 19:22, 2] = volume[5, 16:20, 19:22, 2]  # free, and a part of the place that its way leads to
    result = gone_on(volume, known)
    assert (result[4] != volume[4]).any()
    np.testing.assert_array_equal(result[5], volume[5])
    np.testing.assert_array_equal(result[known != UNKNOWN], volume[known != UNKNOWN])


def all_the_way() -> np.ndarray:
    """Two voxels a frame from 6 to 20."""
    volume = street()
    put(volume, range(8), list(range(6, 22, 2)))
    return volume


@pytest.mark.parametrize("first_missing", [3, 5, 7])
def test_who_is_lost_on_its_way_goes_on(first_missing: int) -> None:
    """In place of the stub that is left of it, which is taken for somebody on two wheels."""
    volume = all_the_way()
    volume[first_missing:][volume[first_missing:] == CAR] = NATIVE.free
    for t in range(first_missing, 8):
        volume[t, 2 * t + 7 : 2 * t + 9, 18, 1] = NATIVE.id("motorcyclist")
    np.testing.assert_array_equal(not_lost(volume, None, GRID, "native"), all_the_way())


def test_who_comes_up_on_its_way_was_there_before() -> None:
    volume = all_the_way()
    volume[:4][volume[:4] == CAR] = NATIVE.free
    np.testing.assert_array_equal(not_lost(volume, None, GRID, "native"), all_the_way())


def test_two_that_become_one_lump_stay_two() -> None:
    expected = all_the_way()
    put(expected, range(8), list(range(6, 22, 2)), y=21)
    volume = expected.copy()
    for t in (6, 7):
        volume[t, 2 * t + 5 : 2 * t + 11, 17:24, 1:3] = TRUCK
    np.testing.assert_array_equal(not_lost(volume, None, GRID, "native"), expected)


def test_who_is_lost_brakes_for_the_ego_and_for_given_voxels() -> None:
    volume = all_the_way()
    volume[5:][volume[5:] == CAR] = NATIVE.free
    taken = np.zeros((9, *volume.shape[1:3]), bool)  # the ego is known for longer than the clip
    taken[5:, 21:25] = True
    known = np.full_like(volume, UNKNOWN)
    known[:, 21] = volume[0, 21]
    for result in (not_lost(volume, None, GRID, "native", taken), not_lost(volume, known, GRID, "native")):
        assert rears(result, slice(0, 8))[:6] == [6, 8, 10, 12, 14, 16]
        assert rears(result, slice(6, 8)) == [16, 16]


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_lost_where_all_stand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = np.where(rng.random(GRID.shape) < 0.2, rng.integers(0, len(NATIVE), GRID.shape), NATIVE.free)
    volume = np.repeat(frame[None].astype(np.uint8), 8, axis=0)
    np.testing.assert_array_equal(not_lost(volume, None, GRID, "native"), volume)


def test_in_the_procedural_city_nobody_is_lost() -> None:
    """But for a few: who is cut by the side, or turns on the spot."""
    city = ProceduralCity(preset("tiny"), frame="world")
    grid, changed, vehicles = city.config.clip_grid, 0, 0
    for spec in (SceneSpec(index, 99) for index in range(4, 12)):
        volume = city.generate([spec])[0].semantics
        changed += int((not_lost(volume, None, grid, "native") != volume).sum())
        vehicles += int(np.isin(volume, vehicle_ids("native")).sum())
    assert changed < 0.005 * vehicles


@pytest.fixture(scope="module")
def diffusion(small_models: Path) -> LatentDiffusion:
    return LatentDiffusion(small_models / "dit")


def test_only_clips_that_continue_one_have_movers_that_go_on(diffusion: LatentDiffusion) -> None:
    """And not where a layout says who is where."""
    shape = diffusion.config.clip_shape
    volume = np.full(shape, NATIVE.free, np.uint8)
    volume[..., 1] = ROAD
    for t, rear in enumerate((4, 6, 8, 9)):  # 10 is where its way leads
        volume[t, rear : rear + 5, 8:10, 2:4] = CAR
    known = np.full(shape, UNKNOWN, np.uint8)
    known[:3] = volume[:3]
    free = Conditions(given=known)
    maps = np.zeros((len(LAYOUT_CLASSES), *shape[:3]), bool)
    maps[LAYOUT_CLASSES.index("vehicle")] = (volume == CAR).any(axis=-1)
    asked = Conditions(given=known, layout=Layout(maps, maps.any(axis=(1, 2, 3))))
    for conditions, shared, rear in ((free, 3, 10), (free, 0, 9), (asked, 3, 9)):
        made = mended(volume, conditions, NO_ROUTE, shared, diffusion.config)
        assert np.flatnonzero((made[3] == CAR).any(axis=(1, 2))).tolist() == list(range(rear, rear + 5))


def test_chunks_continue_the_frames_that_they_share(
    diffusion: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, real, shares = LongScenes(diffusion, 3), diffusion.volumes, []

    def volumes(specs, conditions, routes=None, shared=0):  # type: ignore[no-untyped-def]
        shares.append(shared)
        return real(specs, conditions, routes, shared)

    monkeypatch.setattr(diffusion, "volumes", volumes)
    still = Conditions(trajectory=np.zeros((8, 3)))
    source.generate([SceneSpec(0, 3, still), SceneSpec(1, 3, still)])
    assert shares == [0, 2, 2]  # the first, which all the city is made of, and two that go on
