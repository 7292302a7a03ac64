"""Can it be driven, and does it stay on the map? Bounds of what trajectories may ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import Pose
from dyncity.errors import InputError
from dyncity.grid import GridSpec

TOP_SPEED = 60.0  # m/s
TOP_TURN = 180.0  # degrees a second


def check_drivable(trajectory: NDArray[np.float64], frame_rate: float, where: str) -> None:
    """Raise InputError where a trajectory ``[t, 3]`` is faster than 60 m/s or turns by more than 180 degrees a second.

    Args:
        trajectory: x, y (metres), yaw (radians, unwrapped) of each frame.
        frame_rate: frames a second.
        where: what errors name.
    """
    steps = np.diff(trajectory, axis=0) * frame_rate
    speeds, turns = np.hypot(steps[:, 0], steps[:, 1]), np.abs(np.rad2deg(steps[:, 2]))
    measured = ((speeds, "m/s", TOP_SPEED, "in metres"), (turns, "degrees a second", TOP_TURN, "with yaw in radians"))
    for rates, unit, most, units in measured:
        beyond = np.flatnonzero(rates > most + 1e-6)
        if len(beyond):
            n = int(beyond[0])
            found = f"from frame {n} to {n + 1} it goes {rates[n]:.4g} {unit}, at {frame_rate:g} frames a second"
            raise InputError(where, found, f"give at most {most:g}, {units}")


def check_within(path: Sequence[Pose], grid: GridSpec, where: str) -> None:
    """Raise InputError where the ego leaves the grid of a clip: nothing would be known around it.

    Args:
        path: x, y, yaw of each frame on the grid (``dyncity.anchoring.path_on_grid``).
        grid: the grid.
        where: what errors name.
    """
    (x, y, _), (right, top, _) = grid.origin, grid.upper
    for frame, (px, py, _) in enumerate(path):
        if not (x <= px < right and y <= py < top):
            found = f"frame {frame} leaves the clip's grid: x {px:.4g}, y {py:.4g} m from its middle frame"
            raise InputError(where, found, f"stay within x {x:g} to {right:g}, y {y:g} to {top:g} m")
