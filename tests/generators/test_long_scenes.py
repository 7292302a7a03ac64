"""Scenes of several chunks: one drive, one city, chunk after chunk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_models import small_config

from dyncity.conditions import LAYOUT_CLASSES, Conditions, Layout, poses_from_trajectory
from dyncity.contradictions import contradictions
from dyncity.errors import InputError
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import NATIVE
from generators.base import Conditioned
from generators.city_ahead import City
from generators.diffusion import LatentDiffusion
from generators.long_scenes import LongScenes


@pytest.fixture(scope="module")
def diffusion(small_models: Path) -> LatentDiffusion:
    return LatentDiffusion(small_models / "dit")


def test_a_long_scene_is_one_drive_that_begins_as_the_short_one(diffusion: LatentDiffusion) -> None:
    source = LongScenes(diffusion, 3)
    specs = [SceneSpec(0, 5, Conditions("forward")), SceneSpec(1, 5)]
    long, short = source.generate(specs)[0], diffusion.generate(specs)[0]
    assert long.frames == source.config.clip.frames == 4 + 2 * 2
    np.testing.assert_allclose(long.poses[:4], short.poses)
    assert long.conditions.trajectory is not None
    np.testing.assert_allclose(long.poses, poses_from_trajectory(long.conditions.trajectory))
    steps = np.linalg.norm(np.diff(long.poses[:, :3, 3], axis=0), axis=1) * 5
    assert (np.abs(np.diff(steps)) < 3).all()  # m/s from frame to frame: no jump at a seam
    np.testing.assert_array_equal(np.diff(long.timestamps_us), 200_000)


def test_the_same_spec_gives_the_same_scene_in_any_company(diffusion: LatentDiffusion) -> None:
    source = LongScenes(diffusion, 4)  # the second needs tiles, the others fewer or none
    a, b, c = (SceneSpec(i, 7, Conditions(command)) for i, command in enumerate(("static", "forward", "left")))
    first, second = source.generate([a, b]), source.generate([c, a])
    np.testing.assert_array_equal(first[0].semantics, second[1].semantics)
    np.testing.assert_array_equal(first[0].poses, second[1].poses)


def test_what_stands_stays_where_it_is_across_a_seam(diffusion: LatentDiffusion) -> None:
    """The ego stands, so chunks share their grid: static voxels of the first are those of the second."""
    source = LongScenes(diffusion, 2)
    asked = Conditions(trajectory=np.zeros((6, 3)))
    scene = source.generate([SceneSpec(0, 3, asked), SceneSpec(1, 3, asked)])[0]
    last = scene.semantics[3]
    still = ~np.isin(last, [NATIVE.free, UNKNOWN, *NATIVE.movers])
    assert still.mean() > 0.05
    np.testing.assert_array_equal(scene.semantics[4][still], last[still])
    assert (scene.semantics[4] != last).any()  # the rest is the new chunk's


def test_a_place_that_the_drive_comes_back_to_is_as_it_was(diffusion: LatentDiffusion) -> None:
    source = LongScenes(diffusion, 5)
    way = np.array([0, 2, 4, 6, 8, 10, 10, 8, 6, 4, 2, 0]) * diffusion.config.grid.voxel_size[0]
    asked = Conditions(trajectory=np.stack([way, np.zeros(12), np.zeros(12)], axis=1))
    scene = source.generate([SceneSpec(0, 3, asked), SceneSpec(1, 3, asked)])[0]
    first, last = scene.semantics[0], scene.semantics[-1]
    stands = ~np.isin(first, [UNKNOWN, *NATIVE.movers]) & ~np.isin(last, [UNKNOWN, *NATIVE.movers])
    assert stands.mean() > 0.5
    np.testing.assert_array_equal(last[stands], first[stands])


def test_a_given_drive_has_a_row_for_each_frame(diffusion: LatentDiffusion) -> None:
    source = LongScenes(diffusion, 2)
    drive = np.stack([np.arange(6.0), np.zeros(6), np.zeros(6)], axis=1)
    scene = source.generate([SceneSpec(0, 0, Conditions(trajectory=drive)), SceneSpec(1, 0)])[0]
    np.testing.assert_allclose(scene.poses[:, 0, 3], np.arange(6.0))
    with pytest.raises(InputError, match="--chunks: found 100000000, more than a scene can hold"):
        LongScenes(diffusion, 10**8)
    with pytest.raises(InputError, match="give 6, one a frame of 2 chunks"):
        source.generate([SceneSpec(0, 0, Conditions(trajectory=drive[:4])), SceneSpec(1, 0)])


def test_a_layout_a_path_and_the_chunk_before_hold_together(diffusion: LatentDiffusion) -> None:
    source, config = LongScenes(diffusion, 2), diffusion.config
    frames, vehicle = source.config.clip.frames, LAYOUT_CLASSES.index("vehicle")
    x, y = config.clip_shape[1:3]
    maps = np.zeros((len(LAYOUT_CLASSES), frames, x, y), bool)
    maps[LAYOUT_CLASSES.index("road"), :, :, y // 2 - 3 : y // 2 + 3] = True
    maps[vehicle, :, x - 4 :, y // 2] = True
    layout = Layout(maps, np.asarray(maps.any(axis=(1, 2, 3))))
    drive = np.stack([config.grid.voxel_size[0] * np.arange(6.0), np.zeros(6), np.zeros(6)], axis=1)
    specs = [SceneSpec(0, 3, Conditions(trajectory=drive, layout=layout)), SceneSpec(1, 3)]
    conditions = source.conditions(specs[0])
    first, second = source._clips(poses_from_trajectory(drive), conditions)
    assert first.layout is not None
    assert second.layout is not None
    # The ego of frame 3 places the layout; the chunks lie a voxel behind it and ahead of it.
    np.testing.assert_array_equal(first.layout.maps[:, :, 1:], maps[:, :4, :-1])
    np.testing.assert_array_equal(second.layout.maps[:, :, :-1], maps[:, 2:, 1:])
    assert first.layout.reach is not None
    assert not first.layout.reach[0].any()
    scene = source.generate(specs)[0]
    asked = scene.conditions.layout
    assert asked is not None
    assert (asked.grid, asked.anchor, scene.conditions.grid_yaw) == (config.clip_grid, 3, 0.0)
    np.testing.assert_allclose(scene.poses[:, 0, 3], drive[:, 0])
    free = source.generate([SceneSpec(0, 3, Conditions(trajectory=drive)), SceneSpec(1, 3)])[0]
    assert (free.semantics != scene.semantics).any()
    new = first.layout.maps[vehicle].sum() + second.layout.maps[vehicle, 2:].sum()  # the second shares two frames
    assert scene.provenance["asked_vehicle_columns"] == new
    other = replace(layout, maps=maps[:, :4])
    with pytest.raises(InputError, match="has 4 frames, anchor None; give 6, of 2 chunks"):
        source.generate([SceneSpec(0, 3, Conditions(layout=other)), SceneSpec(1, 3)])


def test_a_path_through_a_wall_of_the_layout_is_reported(diffusion: LatentDiffusion) -> None:
    source = LongScenes(diffusion, 2)
    x, y = diffusion.config.clip_shape[1:3]
    maps = np.zeros((len(LAYOUT_CLASSES), source.config.clip.frames, x, y), bool)
    maps[LAYOUT_CLASSES.index("building"), :, x // 2 + 1] = True
    layout = Layout(maps, np.asarray(maps.any(axis=(1, 2, 3))))
    drive = np.stack([1.6 * np.arange(6.0), np.zeros(6), np.zeros(6)], axis=1)
    spec = SceneSpec(0, 3, Conditions(trajectory=drive, layout=layout))
    assert isinstance(source, Conditioned)
    found = contradictions(source.conditions(spec), source.config.clip_grid, "native", source.anchor)
    assert [one.what for one in found] == ["the path leads through columns asked to be building"]
    assert source.generate([spec, spec])[0].provenance["contradictions"] == 1


def test_a_checkpoint_that_cannot_continue_is_refused(diffusion: LatentDiffusion) -> None:
    blind = object.__new__(LatentDiffusion)
    blind.__dict__.update(diffusion.__dict__)
    blind.config = replace(diffusion.config, dit=replace(small_config().dit, given=False))
    with pytest.raises(InputError, match="cannot continue"):
        LongScenes(blind, 2)
    with pytest.raises(InputError, match="at least 1"):
        LongScenes(diffusion, 0)


def test_what_is_known_moves_by_whole_voxels_and_right_angles(diffusion: LatentDiffusion) -> None:
    source = LongScenes(diffusion, 2)
    size = diffusion.config.grid.voxel_size[0]
    before = poses_from_trajectory(np.array([[3.0, 1.0, 0.4]]))[0]

    def placed(*path: tuple[float, float, float]) -> np.ndarray:
        part = before @ poses_from_trajectory(np.array(path))
        return np.linalg.inv(before) @ source._place(before, part)

    straight = placed((0, 0, 0.02), (size, 0, 0.02), (2.3 * size, 0.4 * size, 0.02), (3 * size, 0, 0.02))
    np.testing.assert_allclose(straight[:2, 3], [2 * size, 0.0], atol=1e-9)
    np.testing.assert_allclose(straight[:3, :3], np.eye(3), atol=1e-9)
    turning = placed((0, 0, 0.4), (1, 0, 0.7), (1.2 * size, 0.9 * size, 1.0), (2, 1, 1.3))
    np.testing.assert_allclose(turning[:2, 3], [size, size], atol=1e-9)
    np.testing.assert_allclose(turning[:2, :2], [[0, -1], [1, 0]], atol=1e-9)
    bend = placed((0, 0, 0.3), (1, 0, 0.3), (1.3, 0.2, 0.3), (2, 1, 0.3))  # along a street that runs askew
    np.testing.assert_allclose(bend, poses_from_trajectory(np.array([[1.3, 0.2, 0.3]]))[0], atol=1e-9)


def test_walls_stay_voxel_for_voxel_through_a_turn(diffusion: LatentDiffusion) -> None:
    """A turn by a right angle: the chunks lie on one lattice, so what stood is given as it was."""
    source = LongScenes(diffusion, 2)
    frames, wall = source.config.clip.frames, NATIVE.id("building")
    yaw = np.linspace(0, np.pi / 2, frames)
    drive = np.stack([6 * np.sin(yaw), 6 * (1 - np.cos(yaw)), yaw], axis=1)
    conditions = source.conditions(SceneSpec(0, 1, Conditions(trajectory=drive)))
    assert conditions.grid_yaw is not None
    first, second = source._clips(poses_from_trajectory(drive), conditions)
    shape = diffusion.config.clip_shape
    before = np.where(np.random.default_rng(0).random(shape[1:]) < 0.3, wall, NATIVE.free)
    city = City(diffusion.config.clip_grid, "native")
    city.add(first.place, np.broadcast_to(before, shape).astype(np.uint8))
    there = City(diffusion.config.clip_grid, "native")
    there.add(second.place, city.at(second.place)[None])
    back = there.at(first.place)
    known = back != UNKNOWN
    assert known.mean() > 0.15
    np.testing.assert_array_equal(back[known], before[known])


def test_a_vehicle_that_the_side_of_a_chunk_cuts_off_is_not_given_to_the_next(diffusion: LatentDiffusion) -> None:
    """Given, it would be half a vehicle in every chunk that follows."""
    source, shape = LongScenes(diffusion, 2), diffusion.config.clip_shape
    car = NATIVE.id("car")
    before = np.full(shape, NATIVE.free, np.uint8)
    before[:, -3:, 2:5, 1] = before[:, 4:8, 2:5, 1] = car
    city = City(diffusion.config.clip_grid, "native")
    city.add(np.eye(4), before)
    ahead = np.eye(4)
    ahead[0, 3] = 4 * diffusion.config.grid.voxel_size[0]
    given = source._known(before, city, np.eye(4), ahead)
    assert (given[:, -7:-4, 2:5, 1] == UNKNOWN).all()
    assert (given[:, 0:4, 2:5, 1] == car).all()
    assert (source._known(before, city, np.eye(4), np.eye(4))[:, -3:, 2:5, 1] == car).all()  # here it may go on


def test_what_stood_stays_and_nothing_comes_up_where_it_was_free(diffusion: LatentDiffusion) -> None:
    source, shape = LongScenes(diffusion, 2), diffusion.config.clip_shape
    car, wall = NATIVE.id("car"), NATIVE.id("building")
    before = np.full(shape, NATIVE.free, np.uint8)
    before[:, 2, 2, 1] = before[-1, 4, 4, 1] = car  # one parked, one that has just come
    before[:, 6, 6, 1] = wall
    city = City(diffusion.config.clip_grid, "native")
    city.add(np.eye(4), before)
    given = source._known(before, city, np.eye(4), np.eye(4))
    assert (given[:, 2, 2, 1] == car).all()
    assert given[source.shared - 1, 4, 4, 1] == car
    assert (given[source.shared :, 4, 4, 1] == UNKNOWN).all()
    assert (given[:, 6, 6, 1] == wall).all()
    made = np.where(given == UNKNOWN, wall, given)
    made[-1, 8, 8, 1] = car
    kept = city.kept(np.eye(4), made)
    assert kept[-1, 8, 8, 1] == car  # what moves may come
    assert (kept[source.shared :, 3, 3, 1] == NATIVE.free).all()
    np.testing.assert_array_equal(kept[: source.shared], made[: source.shared])
