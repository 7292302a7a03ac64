"""What a scene is asked to be: command and trajectory, their values, encoding and validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dyncity.bounded_files import LARGEST
from dyncity.errors import InputError
from dyncity.grid import GridSpec

Command = Literal["static", "forward", "left", "right"]
COMMANDS: tuple[str, ...] = get_args(Command)

# Thresholds on the whole clip, not the release's per-frame multipliers (0.0025 rad, 0.03 m), under
# which one 0.2 degree sample would mean "left". A lane change turns less than 10 degrees.
TURN_YAW = np.deg2rad(10.0)
STATIC_DISTANCE = 1.0
LAYOUT_CLASSES = ("road", "sidewalk", "building", "vegetation", "vehicle", "pedestrian")


@dataclass(frozen=True, slots=True, eq=False)
class Agent:
    """Somebody whose boxes a layout was drawn from, in the frame of the layout.

    Attributes:
        kind: "vehicle" or "pedestrian".
        size: length and width, metres.
        path: float64 ``[n, 4]`` rows of frame, x, y (metres), yaw (radians, unwrapped), in order of frames.
    """

    kind: str
    size: tuple[float, float]
    path: NDArray[np.float64]

    def at(self, frame: int) -> tuple[float, float, float]:
        """x, y, yaw in a frame: straight on between the rows of the path, standing before and after them."""
        x, y, yaw = (float(np.interp(frame, self.path[:, 0], self.path[:, i])) for i in (1, 2, 3))
        return x, y, yaw


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What must be where, seen from above, frame by frame, for some classes.

    A map that is not given asks for nothing: it is not the same as an empty map, which says that the class must
    be nowhere.

    Attributes:
        maps: bool ``[6, t, x, y]`` in the order of ``LAYOUT_CLASSES``: a column holds the class.
        given: bool ``[6]`` which of the maps ask for anything.
        grid: the grid whose columns the maps are; None: that of the clips of the model that is asked. A layout that
            is written into a shard has one.
        anchor: the frame whose ego pose places ``grid``, or None: each frame's own (where ``grid`` is given).
        agents: whom the maps were drawn from, where they were. Shards do not keep them.
        grid_yaw: how that grid is turned, where it is known (``Conditions.grid_yaw``, which shards keep in its place).
        reach: bool ``[x, y]``, the columns of which it says anything, where a clip lies in part beyond the layout of a
            long scene; None: all. Shards have whole layouts.
    """

    maps: NDArray[np.bool_]
    given: NDArray[np.bool_]
    grid: GridSpec | None = None
    anchor: int | None = None
    agents: tuple[Agent, ...] = ()
    grid_yaw: float | None = None
    reach: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        count = len(LAYOUT_CLASSES)
        if self.maps.ndim != 4 or len(self.maps) != count or self.maps.dtype != np.bool_:
            raise InputError("layout", f"found {self.maps.dtype} {self.maps.shape}", f"give bool [{count}, t, x, y]")
        if self.given.shape != (count,) or self.given.dtype != np.bool_:
            raise InputError("layout", f"given is {self.given.dtype} {self.given.shape}", f"give bool [{count}]")
        if self.grid is not None and self.maps.shape[2:] != self.grid.shape[:2]:
            found = f"its maps are {self.maps.shape[2:]}, its grid {self.grid.shape[:2]}"
            raise InputError("layout", found, "give one column of the maps for each of the grid")
        if self.anchor is not None and not 0 <= self.anchor < self.maps.shape[1]:
            raise InputError("layout", f"found anchor {self.anchor}", "give the number of a frame or None")


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """The conditions of one scene; None where nothing is asked.

    Attributes:
        command: what the ego does (paper section 4, "command").
        trajectory: float64 ``[t, 3]`` x, y (metres) and yaw (radians, unwrapped) of the ego in each
            frame, relative to its first pose (x forward, y left). The first row is zero.
        layout: what must be where, seen from above, on the grid of the model's clips (for planes fixed to the
            world placed by the pose of frame t // 2).
        given: uint8 ``[t, x, y, z]`` on that grid, voxels that stay as they are; 255 is open.
        grid_yaw: how far the grid of a scene or layout that is fixed to the world is turned against the ego's heading
            in the frame that places it, radians, counterclockwise: its x axis runs along the street
            (``docs/world-fixed.md``). None: not known, and not turned.
    """

    command: Command | None = None
    trajectory: NDArray[np.float64] | None = None
    layout: Layout | None = None
    given: NDArray[np.uint8] | None = None
    grid_yaw: float | None = None

    def __post_init__(self) -> None:
        if self.grid_yaw is not None and not abs(self.grid_yaw) <= np.pi:
            raise InputError("grid_yaw", f"found {self.grid_yaw!r}", "give radians from -pi to pi, or None")
        if self.command is not None and self.command not in COMMANDS:
            raise InputError("command", f"found {self.command!r}", f"use one of {', '.join(COMMANDS)}")
        if self.trajectory is not None:
            object.__setattr__(self, "trajectory", check_trajectory(self.trajectory))


def check_trajectory(trajectory: NDArray[np.floating], where: str = "trajectory") -> NDArray[np.float64]:
    """The trajectory as float64 ``[t, 3]``, yaw unwrapped, moved to start at (0, 0, 0).

    Raises:
        InputError: on another shape or on numbers that are not finite, or are on no map.
    """
    array = np.array(trajectory, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) < 1:
        raise InputError(where, f"found shape {array.shape}", "give one row x, y, yaw a frame")
    beyond = ~(np.abs(array) <= LARGEST).all(axis=1)
    if beyond.any():
        found = f"row {np.flatnonzero(beyond)[0]} is {', '.join(f'{v:g}' for v in array[beyond][0])}"
        raise InputError(where, found, f"give finite metres and radians, at most {LARGEST:g}")
    array[:, 2] = np.unwrap(array[:, 2])
    x, y, yaw = array[0]
    dx, dy = array[:, 0] - x, array[:, 1] - y
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, array[:, 2] - yaw], axis=1)


def poses_from_trajectory(trajectory: NDArray[np.floating]) -> NDArray[np.float64]:
    """``[t, 3]`` x, y, yaw -> ``[t, 4, 4]`` ego-to-world poses in the plane."""
    x, y, yaw = np.asarray(trajectory, np.float64).T
    poses = np.tile(np.eye(4), (len(x), 1, 1))
    poses[:, 0, 0] = poses[:, 1, 1] = np.cos(yaw)
    poses[:, 1, 0], poses[:, 0, 1] = np.sin(yaw), -np.sin(yaw)
    poses[:, 0, 3], poses[:, 1, 3] = x, y
    return poses


def turned(pose: NDArray[np.float64], yaw: float | None) -> NDArray[np.float64]:
    """A pose ``[4, 4]`` turned on the spot by ``yaw`` radians about z (``Conditions.grid_yaw``)."""
    if not yaw:
        return pose
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    return pose @ turn


def yaw_between(pose: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Yaw of a pose ``[4, 4]`` as seen from another, radians, -pi to pi."""
    step = np.linalg.inv(pose) @ other
    return float(np.arctan2(step[1, 0], step[0, 0]))


def nearest_axis(yaw: float) -> float:
    """The same direction of a square lattice within -pi/4 to pi/4."""
    return float(yaw - np.round(yaw / (np.pi / 2)) * np.pi / 2)


def grid_yaw_from(pose: NDArray[np.float64], other: NDArray[np.float64], grid_yaw: float) -> float:
    """A ``Conditions.grid_yaw`` that holds at pose ``[4, 4]`` ``other``, as it is at ``pose``: -pi/4 to pi/4."""
    return nearest_axis(yaw_between(pose, turned(other, grid_yaw)))


def trajectory_from_poses(poses: NDArray[np.floating]) -> NDArray[np.float64]:
    """``[t, 4, 4]`` ego-to-world -> ``[t, 3]`` x, y, yaw relative to the first pose, yaw unwrapped."""
    relative = np.linalg.inv(poses[0]) @ poses
    yaw = np.unwrap(np.arctan2(relative[:, 1, 0], relative[:, 0, 0]))
    return np.stack([relative[:, 0, 3], relative[:, 1, 3], yaw], axis=1)


def command_from_trajectory(trajectory: NDArray[np.floating]) -> Command:
    """The command that a trajectory ``[t, 3]`` carries out.

    Left or right where the yaw leaves +-10 degrees, by the first side left; else forward where the ego
    ever gets further than 1 m from its start; else static.
    """
    turned = np.flatnonzero(np.abs(trajectory[:, 2]) > TURN_YAW)
    if len(turned):
        return "left" if trajectory[turned[0], 2] > 0 else "right"
    moved = np.hypot(trajectory[:, 0], trajectory[:, 1]).max() > STATIC_DISTANCE
    return "forward" if moved else "static"
