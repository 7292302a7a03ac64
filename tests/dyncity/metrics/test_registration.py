from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from spoiled_scenes import noisy, shuffled, spliced

from dyncity.anchoring import anchored
from dyncity.conditions import poses_from_trajectory
from dyncity.errors import InputError
from dyncity.metrics.registration import (
    command_obeyed,
    estimated_trajectory,
    frame_motions,
    registration_agreement,
    trajectory_error,
)
from dyncity.presets import tiny
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import NATIVE


@dataclass(frozen=True)
class Measured:
    agreement: float
    error: float
    obeyed: float


def measure(scenes: list[OccupancyScene]) -> Measured:
    rows = []
    for scene in scenes:
        asked, motions = scene.conditions, frame_motions(scene)
        path = estimated_trajectory(scene, motions)
        assert asked.trajectory is not None
        assert asked.command is not None
        error = trajectory_error(path, asked.trajectory, scene.grid.voxel_size[0])
        rows.append((registration_agreement(scene, motions), error, command_obeyed(path, asked.command)))
    agreement, errors, obeyed = np.array(rows, float).T
    return Measured(float(agreement.mean()), float(np.sqrt((errors**2).mean())), float(obeyed.mean()))


@pytest.fixture(scope="module")
def moving(real: list[OccupancyScene]) -> list[OccupancyScene]:
    """Forward, left, right."""
    return real[1:4]


@pytest.fixture(scope="module")
def true(moving: list[OccupancyScene]) -> Measured:
    return measure(moving)


def test_true_scenes_obey_their_commands_and_follow_their_trajectories(real: list[OccupancyScene]) -> None:
    measured = measure(real)
    assert measured.obeyed == 1.0
    assert measured.error < 0.4
    assert measured.agreement > 0.9


def test_noise_breaks_the_agreement_and_not_the_path(moving: list[OccupancyScene], true: Measured) -> None:
    measured = measure([noisy(s) for s in moving])
    assert measured.agreement < true.agreement - 0.1
    assert measured.error < true.error + 0.2
    assert measured.obeyed == 1.0


def test_shuffled_frames_are_noticed_by_agreement_and_path(moving: list[OccupancyScene], true: Measured) -> None:
    measured = measure([shuffled(s) for s in moving])
    assert measured.agreement < true.agreement - 0.03
    assert measured.error > 2


def test_spliced_clips_are_noticed(
    moving: list[OccupancyScene], other_real: list[OccupancyScene], true: Measured
) -> None:
    measured = measure([spliced(a, b) for a, b in zip(moving, other_real[1:4], strict=True)])
    assert measured.agreement < true.agreement - 0.03
    assert measured.error > 1


def test_a_clip_that_goes_another_way_than_asked_is_noticed_by_the_path_alone(
    moving: list[OccupancyScene], true: Measured
) -> None:
    """Agreement sees a scene only; what was asked is the path's to compare."""
    swapped = [replace(a, conditions=b.conditions) for a, b in zip(moving, moving[1:] + moving[:1], strict=True)]
    measured = measure(swapped)
    assert measured.agreement == pytest.approx(true.agreement)
    assert measured.error > 1
    assert measured.obeyed == 0.0


def test_poses_are_never_read(moving: list[OccupancyScene]) -> None:
    scene = moving[1]
    lying = replace(scene, poses=poses_from_trajectory(np.zeros((scene.frames, 3))))
    np.testing.assert_array_equal(estimated_trajectory(lying), estimated_trajectory(scene))


def test_unknown_voxels_are_left_out(moving: list[OccupancyScene], true: Measured) -> None:
    """A different third of the columns unseen in each frame."""
    rng = np.random.default_rng(0)
    seen = []
    for scene in moving:
        semantics = scene.semantics.copy()
        semantics[rng.random(semantics.shape[:3]) < 1 / 3] = 255
        seen.append(replace(scene, semantics=semantics))
    measured = measure(seen)
    assert measured.agreement == pytest.approx(true.agreement, abs=0.02)
    assert measured.error < true.error + 0.2


def test_a_scene_without_anything_static_agrees_in_nothing(real: list[OccupancyScene]) -> None:
    empty = replace(real[0], semantics=np.zeros_like(real[0].semantics))
    assert registration_agreement(empty) == 0.0
    np.testing.assert_array_equal(estimated_trajectory(empty), 0)


def test_frames_fixed_to_the_world_are_refused(real: list[OccupancyScene]) -> None:
    with pytest.raises(InputError, match="ego_windows"):
        frame_motions(anchored(real[1], tiny().grid))


def test_agreement_counts_static_voxels_of_both_frames_where_no_mover_hides_them(make_scene) -> None:  # type: ignore[no-untyped-def]
    """Three walls: one is in both frames, one behind a car in the second, one missing there; and one that is new."""
    semantics = np.zeros((2, *make_scene().grid.shape), np.uint8)
    semantics[:, 1, 1, 1] = semantics[0, 2:4, 1, 1] = semantics[1, 5, 1, 1] = NATIVE.id("building")
    semantics[1, 2, 1, 1] = NATIVE.id("car")
    scene = make_scene(frames=2, semantics=semantics)
    still = np.zeros((1, 3))
    # Of the first frame's walls one is found and one is not, of the second's one is and one is not.
    assert registration_agreement(scene, still) == 2 / 4
    semantics[1, 5, 1, 1] = 0
    assert registration_agreement(scene, still) == 2 / 3
