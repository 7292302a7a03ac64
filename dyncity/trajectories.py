"""A plausible ego trajectory for a command, drawn by seed.

The model (documented in ``docs/world-fixed.md``): a vehicle in the plane with speed v, acceleration a
and curvature, a and the curvature constant over a clip.

| command | v at the start, m/s | a, m/s^2 | radius, m | yaw over the clip |
|---|---|---|---|---|
| static | 0 | 0 | - | 0 |
| forward | uniform 3 to 13 | normal 0, 0.5 | above 250 | under 8 degrees |
| left, right | uniform 3 to 7 | normal 0, 0.3 | uniform 7 to 14 | 15 to 80 degrees |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import Command
from dyncity.errors import InputError

_SUBSTEPS = 20
_MAX_SPEED = 15.0


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
    if command == "forward":
        speed, acceleration = rng.uniform(3.0, 13.0), rng.normal(0.0, 0.5)
        yaw = float(np.clip(rng.normal(0.0, np.deg2rad(1.5)), -np.deg2rad(8), np.deg2rad(8)))
    else:
        speed, acceleration = rng.uniform(3.0, 7.0), rng.normal(0.0, 0.3)
        travel = speed * duration
        yaw = float(np.clip(travel / rng.uniform(7.0, 14.0), np.deg2rad(15), np.deg2rad(80)))
        if travel < 1.0:
            raise InputError(
                "--command",
                f"{command!r} in a clip of {duration:.2f} s",
                "use a clip of at least 0.4 s to turn in, or another command",
            )
        yaw = yaw if command == "left" else -yaw
    time = np.linspace(0.0, duration, (frames - 1) * _SUBSTEPS + 1)
    velocity = np.clip(speed + acceleration * time, 0.5, _MAX_SPEED)
    distance = np.concatenate([[0.0], np.cumsum((velocity[1:] + velocity[:-1]) / 2 * np.diff(time))])
    heading = yaw * distance / max(distance[-1], 1e-9)
    steps = np.diff(distance)
    middle = (heading[1:] + heading[:-1]) / 2
    x = np.concatenate([[0.0], np.cumsum(steps * np.cos(middle))])
    y = np.concatenate([[0.0], np.cumsum(steps * np.sin(middle))])
    return np.stack([x, y, heading], axis=1)[::_SUBSTEPS]
