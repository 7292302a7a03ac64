"""Scenes obey what is read off themselves, nearly perfectly; what is asked of others they obey less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_models import small_config

from dyncity.anchoring import ego_windows
from dyncity.conditions import (
    COMMANDS,
    Conditions,
    command_from_trajectory,
    poses_from_trajectory,
    trajectory_from_poses,
)
from dyncity.layout import layout_of
from dyncity.metrics.adherence import (
    Adherence,
    Drive,
    chunk_frames,
    drive,
    drive_rows,
    mover_rows,
    poses_continuous,
    seam_rows,
    seams,
)
from dyncity.presets import tiny
from dyncity.scene import OccupancyScene, SceneSpec
from generators.procedural.city import ProceduralCity


def measured(scenes: list[OccupancyScene]) -> dict[str, float]:
    adherence = Adherence()
    for scene in scenes:
        adherence.add(scene)
    return adherence.rows()


@pytest.fixture(scope="module")
def scenes() -> list[OccupancyScene]:
    """One simulated scene a command, cut out of the world, with the layout of its own clip."""
    config = tiny()
    city = ProceduralCity(config, frame="world")
    made = []
    for number, command in enumerate(COMMANDS):
        world = city.generate([SceneSpec(number, 11, Conditions(command))])[0]  # type: ignore[arg-type]
        asked = replace(layout_of(world.semantics, "native"), grid=config.clip_grid, anchor=world.anchor)
        scene = ego_windows(world, config.grid)
        made.append(replace(scene, conditions=replace(scene.conditions, layout=asked)))
    return made


@pytest.fixture(scope="module")
def own(scenes: list[OccupancyScene]) -> dict[str, float]:
    return measured(scenes)


def test_simulated_scenes_obey_themselves(own: dict[str, float]) -> None:
    assert own["scenes with conditions"] == 4
    assert own["command accuracy, %"] == 100
    assert own["trajectory error, voxels rms"] < 0.6
    assert own["registration agreement"] > 0.9
    assert own["ego path drivable, %"] > 98
    assert own["frames clear of movers, %"] == 100
    for name in ("road", "sidewalk", "building", "vegetation", "vehicle"):
        assert own[f"layout IoU, {name}, %"] > 80, name
    assert own["asked vehicle columns occupied, %"] > 85
    assert not {"seam drop", "poses continuous, %"} & own.keys()


def test_conditions_of_other_scenes_are_obeyed_less(scenes: list[OccupancyScene], own: dict[str, float]) -> None:
    others = scenes[1:] + scenes[:1]
    swapped = measured([replace(a, conditions=b.conditions) for a, b in zip(scenes, others, strict=True)])
    for name in ("road", "building", "vehicle"):
        assert swapped[f"layout IoU, {name}, %"] < own[f"layout IoU, {name}, %"] - 20, name
    assert swapped["asked vehicle columns occupied, %"] < 50
    assert swapped["command accuracy, %"] == 0
    assert swapped["trajectory error, voxels rms"] > own["trajectory error, voxels rms"] + 2
    assert swapped["registration agreement"] == own["registration agreement"]


def test_rows_that_nothing_is_asked_for_are_left_out(scenes: list[OccupancyScene]) -> None:
    rows = measured([replace(scenes[0], conditions=Conditions("static"))])
    assert not any(name.startswith(("layout", "trajectory", "asked")) for name in rows)
    assert rows["command accuracy, %"] == 100
    assert measured([replace(scenes[0], conditions=Conditions())]) == {"scenes with conditions": 0}


def test_frames_fixed_to_the_world_are_cut_along_their_path() -> None:
    config = small_config()
    world = ProceduralCity(config, frame="world").generate([SceneSpec(1, 4, Conditions("forward"))])[0]
    asked = replace(layout_of(world.semantics, "native"), grid=config.clip_grid, anchor=world.anchor)
    rows = measured([replace(world, conditions=replace(world.conditions, layout=asked))])
    assert rows["command accuracy, %"] == 100
    assert rows["layout IoU, road, %"] > 90


def test_errors_of_scenes_add_up_as_squares_and_accuracy_counts_those_that_were_asked() -> None:
    still = np.zeros((1, 3))
    drives = [Drive(still, 0.9, True, 3.0), Drive(still, 0.7, False, 4.0), Drive(still, 0.8, None, None)]
    rows = drive_rows(drives, [(0.5, 1.0), (float("nan"), 0.0)])
    assert rows == {
        "registration agreement": pytest.approx(0.8),
        "command accuracy, %": 50.0,
        "trajectory error, voxels rms": pytest.approx(12.5**0.5),
        "ego path drivable, %": 50.0,
        "frames clear of movers, %": 50.0,
    }


def test_the_command_of_a_longer_scene_is_that_of_its_first_frames(scenes: list[OccupancyScene]) -> None:
    scene = scenes[COMMANDS.index("left")]
    assert scene.conditions.trajectory is not None
    first = command_from_trajectory(scene.conditions.trajectory[:3])
    assert first != "left"
    asked = replace(scene, conditions=Conditions(first))
    assert drive(asked, 3).obeyed
    assert not drive(asked).obeyed


def test_every_length_of_chunks_is_found_again() -> None:
    for length in range(1, 40):
        for chunks in range(1, 9):
            frames = length + (chunks - 1) * (length - length // 2)
            assert chunk_frames(frames, chunks) == length
            breaks = seams(length, chunks)
            assert len(breaks) == chunks - 1
            assert all(0 <= k < frames - 1 for k in breaks)
    assert chunk_frames(9, 2) is None or chunk_frames(9, 2) == 6
    assert chunk_frames(3, 10**9) is None


def test_a_seam_that_does_not_fit_is_seen(scenes: list[OccupancyScene]) -> None:
    """Three chunks of four frames in eight: frames after 3 and after 5 begin anew, with voxels of another street."""
    fitting = replace(scenes[1], provenance={"chunks": 3})
    broken = fitting.semantics.copy()
    broken[4:6] = scenes[2].semantics[4:6]
    whole, torn = measured([fitting]), measured([replace(fitting, semantics=broken)])
    assert abs(whole["seam drop"]) < 0.06
    assert torn["seam drop"] > whole["seam drop"] + 0.1
    assert whole["poses continuous, %"] == 100
    assert seam_rows([]) == {}


def test_movers_are_counted_at_seams_and_inside_chunks() -> None:
    counts = np.array([[0, 0], [4, 4], [4, 1], [2, 2], [2, 1], [8, 8]])
    rows = mover_rows([(counts, [2]), (counts, [])])
    inside = (8 + 16, 8 + 20)  # of the first scene steps 0 and 5, which the seam does not reach
    assert rows == {
        "movers that go on inside chunks, %": 100 * inside[0] / inside[1],
        "movers that go on at seams, %": 25.0,
    }
    assert mover_rows([(np.zeros((3, 2), np.int64), [1])]) == {}


def test_poses_that_jump_are_not_continuous(scenes: list[OccupancyScene]) -> None:
    scene = scenes[1]
    assert poses_continuous(scene)
    for jump in ((30.0, 0.0, 0.0), (0.0, 0.0, 1.0)):
        path = trajectory_from_poses(scene.poses)
        path[5:] += jump
        assert not poses_continuous(replace(scene, poses=poses_from_trajectory(path)))


def test_unknown_ground_is_left_out_of_the_ego_path(scenes: list[OccupancyScene]) -> None:
    unknown = replace(scenes[0], semantics=np.full_like(scenes[0].semantics, 255))
    assert "ego path drivable, %" not in measured([unknown])


def test_what_was_decoded_is_summed_over_provenances(scenes: list[OccupancyScene]) -> None:
    said = {"asked_pedestrian_columns": 30, "decoded_pedestrian_columns": 9}
    told = [replace(scenes[0], provenance=said), replace(scenes[1], provenance={"asked_pedestrian_columns": 10})]
    assert measured(told)["asked pedestrian columns occupied as decoded, %"] == pytest.approx(22.5)
    assert not any("as decoded" in name for name in measured(scenes[:1]))
