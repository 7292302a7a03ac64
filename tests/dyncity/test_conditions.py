from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.conditions import (
    COMMANDS,
    Conditions,
    check_trajectory,
    command_from_trajectory,
    poses_from_trajectory,
    trajectory_from_poses,
)
from dyncity.errors import InputError
from dyncity.seeding import Purpose, stream
from dyncity.trajectories import draw_trajectory


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(COMMANDS))
def test_a_drawn_trajectory_carries_out_its_command(index: int, command: str) -> None:
    trajectory = draw_trajectory(command, 8, 5.0, stream(3, index, Purpose.CONDITIONS))
    assert command_from_trajectory(trajectory) == command
    np.testing.assert_array_equal(trajectory[0], 0)
    steps = np.hypot(*np.diff(trajectory[:, :2], axis=0).T)
    assert (steps <= 15.0 / 5.0 + 1e-9).all(), "nobody drives faster than 15 m/s"


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from(COMMANDS))
def test_poses_and_trajectory_are_inverses(index: int, command: str) -> None:
    trajectory = draw_trajectory(command, 16, 10.0, stream(0, index, Purpose.CONDITIONS))
    np.testing.assert_allclose(trajectory_from_poses(poses_from_trajectory(trajectory)), trajectory, atol=1e-9)


def test_yaw_is_unwrapped_through_a_half_turn() -> None:
    yaw = np.linspace(0, 1.5 * np.pi, 30)
    wrapped = (yaw + np.pi) % (2 * np.pi) - np.pi
    trajectory = np.stack([np.zeros(30), np.zeros(30), wrapped], axis=1)
    np.testing.assert_allclose(check_trajectory(trajectory)[:, 2], yaw, atol=1e-9)
    assert command_from_trajectory(check_trajectory(trajectory)) == "left"


def test_a_tremble_is_not_a_turn() -> None:
    """The release calls 0.2 degrees a left turn; a lane keeps a car within a few degrees."""
    trajectory = np.stack([np.linspace(0, 8, 8), np.zeros(8), np.deg2rad(0.5) * np.ones(8)], axis=1)
    assert command_from_trajectory(trajectory) == "forward"


def test_the_side_left_first_names_the_turn() -> None:
    yaw = np.deg2rad([0, 12, 0, -40, -60])
    trajectory = np.stack([np.arange(5.0), np.zeros(5), yaw], axis=1)
    assert command_from_trajectory(trajectory) == "left"


def test_given_trajectories_are_moved_to_the_origin() -> None:
    moved = check_trajectory(np.array([[5.0, 5.0, np.pi / 2], [5.0, 7.0, np.pi / 2]]))
    np.testing.assert_allclose(moved, [[0, 0, 0], [2, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("bad", [np.zeros((4, 2)), np.zeros((0, 3)), np.array([[0, 0, np.inf]])])
def test_bad_trajectories_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError):
        Conditions(trajectory=bad)


def test_unknown_commands_are_refused() -> None:
    with pytest.raises(InputError, match="static, forward, left, right"):
        Conditions(command="backwards")
