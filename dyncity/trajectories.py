"""A plausible ego trajectory for a command, drawn by seed.

The model (documented in ``docs/world-fixed.md``): a vehicle in the plane with speed v, acceleration a
and curvature, a and the curvature constant over a clip.

| command | v at the start, m/s | a, m/s^2 | radius, m | yaw over the clip |
|---|---|---|---|---|
| static | 0 | 0 | - | 0 |
| forward | normal 6, 2.5, from 2 to 13 | normal 0.2, 0.7 | as the yaw asks | normal 0, 1.5, at most 8 degrees |
| left, right | by the radius and a lateral acceleration | normal -0.4, 0.9 | uniform 6 to 12 | 15 to 80 degrees |

The lateral acceleration of a turn, v^2 over the radius, is uniform 0.8 to 3 m/s^2: what passengers put up with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import TURN_YAW, Command, nearest_axis
from dyncity.errors import InputError

_SUBSTEPS = 20
_SEGMENT = (2.0, 5.0)  # seconds that a longer drive keeps to one thing
_TURNS = 0.35  # share of the segments that turn
_ACCELERATION = 1.5
_MAX_SPEED = 15.0
_LEAST_TURN = 0.3  # seconds
_LATERAL = (0.8, 3.0)  # m/s^2
_STRAIGHT = np.deg2rad(2)  # in a third of a clip
_BEND = 50.0  # metres of radius, below which it bends
_BEFORE = np.deg2rad(30)
_WANDER = np.deg2rad(1.5)  # from the street, at the end of a straight segment


def draw_trajectory(command: Command, frames: int, frame_rate: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64 ``[t, 3]`` x, y (metres), yaw (radians) relative to the first frame.

    Args:
        command: what the ego does.
        frames: number of frames t.
        frame_rate: frames a second.
        rng: the stream of the scene, ``Purpose.CONDITIONS``.

    Raises:
        InputError: when a turn was asked for and the clip is too short to turn in.
    """
    if command == "static":
        return np.zeros((frames, 3))
    duration = (frames - 1) / frame_rate
    turns = command != "forward"
    if turns and duration < _LEAST_TURN - 1e-9:
        raise InputError(
            "--command",
            f"{command!r} in a clip of {duration:.2f} s",
            f"use a clip of at least {_LEAST_TURN:g} s to turn in, or another command",
        )
    radius = rng.uniform(6.0, 12.0)  # of a turn; drawn in any case
    speed = _turning_speed(radius, rng) if turns else _cruising_speed(rng)
    acceleration = rng.normal(-0.4, 0.9) if turns else rng.normal(0.2, 0.7)
    time = np.linspace(0.0, duration, (frames - 1) * _SUBSTEPS + 1)
    velocity = np.clip(speed + acceleration * time, 0.5, _MAX_SPEED)
    distance = np.concatenate([[0.0], np.cumsum((velocity[1:] + velocity[:-1]) / 2 * np.diff(time))])
    if turns:
        yaw = float(np.clip(distance[-1] / radius, np.deg2rad(15), np.deg2rad(80)))
        yaw = yaw if command == "left" else -yaw
    else:
        yaw = float(np.clip(rng.normal(0.0, np.deg2rad(1.5)), -np.deg2rad(8), np.deg2rad(8)))
    heading = yaw * distance / max(distance[-1], 1e-9)
    steps = np.diff(distance)
    middle = (heading[1:] + heading[:-1]) / 2
    x = np.concatenate([[0.0], np.cumsum(steps * np.cos(middle))])
    y = np.concatenate([[0.0], np.cumsum(steps * np.sin(middle))])
    return np.stack([x, y, heading], axis=1)[::_SUBSTEPS]


def _cruising_speed(rng: np.random.Generator) -> float:
    """Metres a second along a street, behind others as well as alone."""
    return float(np.clip(rng.normal(6.0, 2.5), 2.0, 13.0))


def _turning_speed(radius: float, rng: np.random.Generator) -> float:
    """Metres a second round a turn of ``radius`` metres."""
    return float(np.sqrt(rng.uniform(*_LATERAL) * radius))


def draw_grid_yaw(trajectory: NDArray[np.float64], rng: np.random.Generator) -> float:
    """How far the grid of a clip is turned against the ego's heading in frame t // 2, radians, -pi/4 to pi/4.

    Its x or y axis runs along the street. Who drives straight drives along it. A turn leads from a street into one
    that crosses it at right angles: where the clip begins or ends straight, that is the street; else how much of the
    turn lies before the clip is drawn, uniformly up to 30 degrees.

    Args:
        trajectory: ``[t, 3]`` x, y, yaw relative to the first frame.
        rng: the stream of the scene, ``Purpose.CONDITIONS``, after the trajectory.
    """
    yaw = trajectory[:, 2]
    turned, third = float(yaw[-1]), max(1, len(yaw) // 3)
    if np.abs(yaw).max() <= TURN_YAW:
        return 0.0
    if _straight(trajectory[: third + 1]):
        street = 0.0
    elif _straight(trajectory[-1 - third :]):
        street = turned
    else:
        street = -float(np.sign(turned)) * rng.uniform(0.0, np.clip(np.pi / 2 - abs(turned), 0.0, _BEFORE))
    return nearest_axis(street - float(yaw[len(yaw) // 2]))


def _straight(rows: NDArray[np.float64]) -> bool:
    """Whether a piece ``[n, 3]`` of a trajectory leads straight on: who crawls round a bend does not."""
    turned, travelled = abs(rows[-1, 2] - rows[0, 2]), np.hypot(*(rows[-1, :2] - rows[0, :2]))
    return bool(turned < _STRAIGHT and turned * _BEND <= travelled)


def draw_drive(
    start: NDArray[np.float64], frames: int, frame_rate: float, rng: np.random.Generator, street: float = 0.0
) -> NDArray[np.float64]:
    """A drive that goes on from a trajectory: float64 ``[frames, 3]``, its first rows ``start`` ``[t, 3]``.

    Segments of 2 to 5 s, each with a radius and a speed to reach at up to 1.5 m/s^2: straight on (65 %) or a turn by a
    right angle (radius 8 to 14 m), after which the next one goes straight; speeds as in ``draw_trajectory``. A turn in
    which ``start`` breaks off is finished first: streets run along ``street`` (radians, relative to the first frame)
    and across.
    """
    if frames <= len(start):
        return start[:frames]
    step = np.diff(start[-2:], axis=0)[0] if len(start) > 1 else np.zeros(3)
    x, y, yaw = start[-1]
    speed = float(np.hypot(step[0], step[1])) * frame_rate
    dt = 1 / (frame_rate * _SUBSTEPS)
    rows, left, curvature, wanted, turned = list(start), 0.0, 0.0, speed, True
    if abs(yaw) > TURN_YAW and np.hypot(step[0], step[1]) > 0:
        sign = np.sign(yaw)
        ahead = float(np.remainder(sign * (street - yaw), np.pi / 2))  # to the next street, the way it turns
        if _STRAIGHT < ahead < np.pi / 2 - _STRAIGHT:
            travel = float(np.hypot(start[-1, 0], start[-1, 1]))
            curvature = sign * float(np.clip(abs(yaw) / travel, 1 / 14.0, 1 / 6.0))
            left = ahead / abs(curvature)
            wanted = _turning_speed(1 / abs(curvature), rng)  # who braked in the turn does not crawl on
    for _ in range(frames - len(start)):
        for _ in range(_SUBSTEPS):
            if left <= 0:
                turned = not turned and bool(rng.random() < _TURNS)
                if turned:
                    radius = rng.uniform(8.0, 14.0)
                    wanted = _turning_speed(radius, rng)
                    curvature = float(rng.choice((-1, 1))) / radius
                    left = (np.pi / 2 - np.sign(curvature) * nearest_axis(yaw - street)) * radius  # metres
                else:
                    wanted = _cruising_speed(rng)
                    left = wanted * rng.uniform(*_SEGMENT)
                    curvature = (rng.normal(0.0, _WANDER) - nearest_axis(yaw - street)) / left
            speed += float(np.clip(wanted - speed, -_ACCELERATION * dt, _ACCELERATION * dt))
            yaw += curvature * speed * dt
            x, y = x + speed * dt * np.cos(yaw), y + speed * dt * np.sin(yaw)
            left -= max(speed, 0.5) * dt
        rows.append(np.array([x, y, yaw]))
    return np.stack(rows)
