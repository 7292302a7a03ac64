from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity.conditions import (
    COMMANDS,
    Conditions,
    check_trajectory,
    command_from_trajectory,
    nearest_axis,
    poses_from_trajectory,
    trajectory_from_poses,
    turned,
    yaw_between,
)
from dyncity.errors import InputError
from dyncity.seeding import Purpose, stream
from dyncity.trajectories import draw_drive, draw_grid_yaw, draw_trajectory


@given(st.integers(0, 10_000), st.sampled_from(COMMANDS))
def test_a_drawn_trajectory_carries_out_its_command(index: int, command: str) -> None:
    trajectory = draw_trajectory(command, 8, 5.0, stream(3, index, Purpose.CONDITIONS))
    assert command_from_trajectory(trajectory) == command
    np.testing.assert_array_equal(trajectory[0], 0)
    steps = np.hypot(*np.diff(trajectory[:, :2], axis=0).T)
    assert (steps <= 15.0 / 5.0 + 1e-9).all(), "nobody drives faster than 15 m/s"


@given(st.integers(0, 10_000), st.sampled_from(["left", "right"]))
def test_nobody_takes_a_turn_faster_than_passengers_put_up_with(index: int, command: str) -> None:
    trajectory = draw_trajectory(command, 8, 5.0, stream(3, index, Purpose.CONDITIONS))
    x, y, yaw = 5.0 * (trajectory[1] - trajectory[0])
    assert abs(np.hypot(x, y) * yaw) < 3.6  # 3, and a tenth of a second of speeding up


@pytest.mark.parametrize("command", ["left", "right"])
def test_a_clip_too_short_to_turn_in_is_refused(command: str) -> None:
    with pytest.raises(InputError, match=f"{command!r} in a clip of 0.20 s; use a clip of at least 0.3 s"):
        draw_trajectory(command, 2, 5.0, stream(0, 0, Purpose.CONDITIONS))
    assert command_from_trajectory(draw_trajectory(command, 3, 5.0, stream(0, 0, Purpose.CONDITIONS))) == command


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


@given(st.integers(0, 200), st.sampled_from(COMMANDS))
def test_the_grid_lies_along_a_street_that_the_drive_leads_along(index: int, command: str) -> None:
    rng = stream(3, index, Purpose.CONDITIONS)
    trajectory = draw_trajectory(command, 8, 5.0, rng)
    grid_yaw = draw_grid_yaw(trajectory, rng)
    assert abs(grid_yaw) <= np.pi / 4 + 1e-9
    assert command in ("left", "right") or grid_yaw == 0
    # The drive begins along a street, or up to 30 degrees after it, and ends before the next one.
    street = trajectory[4, 2] + grid_yaw
    sign = 1 if command == "left" else -1
    passed = np.remainder(sign * (trajectory[:, 2] - street) + 1e-9, np.pi / 2)
    if command in ("left", "right"):
        assert (np.diff(passed) > 0).all()
        assert passed[0] <= np.deg2rad(30) + 1e-6


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_turn_that_begins_or_ends_straight_shows_its_street(sign: int) -> None:
    yaw = sign * np.array([0, 0, 0, 0, 0.1, 0.3, 0.5, 0.7])
    enters = np.stack([np.arange(8.0), np.zeros(8), yaw], axis=1)
    rng = np.random.default_rng(0)
    assert draw_grid_yaw(enters, rng) == pytest.approx(nearest_axis(-yaw[4]))
    leaves = np.stack([np.arange(8.0), np.zeros(8), yaw[-1] - yaw[::-1]], axis=1)
    assert draw_grid_yaw(leaves, rng) == pytest.approx(nearest_axis(yaw[-1] - leaves[4, 2]))


def test_who_crawls_round_a_bend_does_not_drive_straight_on() -> None:
    yaw = np.array([0, 0.3, 0.5, 0.6, 0.65, 0.68, 0.69, 0.70])
    way = np.concatenate([[0], np.cumsum(np.diff(yaw) * 8)])  # metres, at a radius of 8
    braking = np.stack([way, np.zeros(8), yaw], axis=1)
    drawn = [draw_grid_yaw(braking, np.random.default_rng(seed)) for seed in range(8)]
    assert len(set(drawn)) == 8, "where the street lies is not known, so it is drawn"


@given(st.integers(0, 100), st.sampled_from(["left", "right"]))
def test_a_drive_finishes_its_turn_and_then_keeps_to_the_streets(index: int, command: str) -> None:
    rng = stream(5, index, Purpose.CONDITIONS)
    start = draw_trajectory(command, 8, 5.0, rng)
    street = float(start[4, 2]) + draw_grid_yaw(start, rng)
    drive = draw_drive(start, 60, 5.0, rng, street)
    np.testing.assert_array_equal(drive[:8], start)
    off = np.abs([nearest_axis(yaw - street) for yaw in drive[8:, 2]])
    turning = np.abs(np.diff(drive[7:, 2])) > np.deg2rad(1)
    assert (off[~turning] < np.deg2rad(9)).mean() > 0.95


def test_the_yaw_of_a_grid_is_an_angle() -> None:
    for wrong in (np.nan, np.inf, 4.0):
        with pytest.raises(InputError, match="radians"):
            Conditions(grid_yaw=wrong)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-5, 5))
def test_turning_a_pose_turns_it_on_the_spot(yaw: float, turn: float, x: float) -> None:
    pose = poses_from_trajectory(np.array([[x, 2.0, yaw]]))[0]
    there = turned(pose, turn)
    np.testing.assert_allclose(there[:3, 3], pose[:3, 3])
    assert yaw_between(pose, there) == pytest.approx(turn)
    assert abs(nearest_axis(turn)) <= np.pi / 4 + 1e-12
