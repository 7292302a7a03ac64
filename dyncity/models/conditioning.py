"""Conditions as tensors: what ``dyncity.conditions`` says, encoded for the DiT."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyncity.conditions import COMMANDS
from dyncity.grid import GridSpec

NO_COMMAND = len(COMMANDS)
PATH_CHANNELS = 2
_PATH_SIGMA = 1.2  # metres: about half a lane
# Where a drive leads before and after a clip, ``[n, 3]`` and ``[m, 3]``: rows as of the clip's trajectory.
Route = tuple[NDArray[np.float64], NDArray[np.float64]]
NO_ROUTE: Route = (np.zeros((0, 3)), np.zeros((0, 3)))


@dataclass(frozen=True)
class ConditionBatch:
    """Encoded conditions of b samples. Dropped and absent are the same thing: all zeros.

    Attributes:
        command: int64 ``[b]``, ``NO_COMMAND`` where none.
        trajectory: ``[b, 3 t]`` x, y (in 10 m) and yaw (radians) relative to the first frame.
        has_trajectory: ``[b]`` 1 where there is one.
        path: ``[b, 2, x, y]`` the ego path drawn into the latent xy plane, zeros where none.
        previous: ``[b, c, h, w]`` rollout of the chunk before; None where no sample has one.
        has_previous: ``[b]`` 1 where there is one.
        layout: ``[b, t, x, y]`` 1 where a vehicle is, at any resolution; None where no sample has one.
        has_layout: ``[b]`` 1 where there is one.
        given: ``[b, c + 1, h, w]`` from ``dyncity.models.given``; None where no sample has any.
        layout_plane: ``[b, m, x, y]`` from ``dyncity.layout``; None where no sample has one.
    """

    command: Tensor
    trajectory: Tensor
    has_trajectory: Tensor
    path: Tensor
    previous: Tensor | None = None
    has_previous: Tensor | None = None
    layout: Tensor | None = None
    has_layout: Tensor | None = None
    given: Tensor | None = None
    layout_plane: Tensor | None = None

    def dropped(self, **masks: Tensor) -> ConditionBatch:
        """A copy without the conditions (by field name) of the samples marked True in their ``[b]`` mask."""
        changed: dict[str, Tensor] = {}
        for name, mask in masks.items():
            keep = ~mask
            if name == "command":
                changed["command"] = torch.where(mask, NO_COMMAND, self.command)
            elif name in ("path", "given", "layout_plane"):
                if (maps := getattr(self, name)) is not None:
                    changed[name] = maps * keep.to(maps.dtype)[:, None, None, None]
            elif (present := getattr(self, f"has_{name}")) is not None:
                changed[f"has_{name}"] = present * keep
        return replace(self, **changed)

    def none(self) -> ConditionBatch:
        """As many samples with no condition at all."""
        every = torch.ones(len(self.command), dtype=torch.bool, device=self.command.device)
        maps = dict.fromkeys(("previous", "has_previous", "layout", "has_layout", "given", "layout_plane"))
        alone = replace(self, **maps)
        return alone.dropped(command=every, trajectory=every, path=every)

    @property
    def ask(self) -> bool:
        """Whether any sample is asked for anything; given voxels are not asked for, they are there."""
        asked = [self.command != NO_COMMAND, self.has_trajectory, self.path, self.has_previous, self.has_layout]
        return any(bool(one.any()) for one in (*asked, self.layout_plane) if one is not None)

    def followed_by(self, other: ConditionBatch) -> ConditionBatch:
        """The samples of both, these first."""
        joined = {}
        for name in self.__dataclass_fields__:
            a, b = getattr(self, name), getattr(other, name)
            if a is None and b is None:
                continue
            # A batch without a condition beside one with it: zeros for its samples.
            a = a if a is not None else b.new_zeros(len(self.command), *b.shape[1:])
            b = b if b is not None else a.new_zeros(len(other.command), *a.shape[1:])
            joined[name] = torch.cat([a, b])
        return ConditionBatch(**joined)

    def to(self, device: torch.device) -> ConditionBatch:
        """The same on another device."""
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return ConditionBatch(**{name: t.to(device) for name, t in tensors.items() if t is not None})


def draw_path(
    trajectory: NDArray[np.float64],
    grid: GridSpec,
    factors: tuple[int, int],
    grid_yaw: float = 0.0,
    route: Route = NO_ROUTE,
) -> NDArray[np.float32]:
    """The ego path in the xy plane of a world-fixed clip, ``[2, x, y]``.

    Channel 0 falls off with the distance to the path (a Gaussian of 1.2 m), channel 1 is channel 0 times
    the share of the clip that has passed at the nearest point of the path, so that direction and speed
    can be read off.

    Args:
        trajectory: ``[t, 3]`` relative to the first frame.
        grid: the grid of the clip, placed by the pose of frame t // 2.
        factors: halvings of the latent plane along x and y.
        grid_yaw: how far the grid is turned against that pose, radians.
        route: of the drive that the clip is part of.
    """
    x0, y0, yaw = trajectory[len(trajectory) // 2] + (0.0, 0.0, grid_yaw)
    cos, sin = np.cos(yaw), np.sin(yaw)
    before, after = route
    moved = np.concatenate([before, trajectory, after])[:, :2] - (x0, y0)
    points = moved @ np.array([[cos, -sin], [sin, cos]])
    steps = np.arange(len(points)) - len(before)
    fine = np.linspace(steps[0], steps[-1], 8 * (len(points) - 1) + 1)
    path = np.stack([np.interp(fine, steps, points[:, i]) for i in (0, 1)], axis=1)
    centers = [grid.axis(i).reshape(-1, f).mean(1) for i, f in enumerate(factors)]
    squared = (centers[0][:, None, None] - path[:, 0]) ** 2 + (centers[1][None, :, None] - path[:, 1]) ** 2
    nearest = squared.argmin(-1)
    near = np.exp(-np.take_along_axis(squared, nearest[..., None], -1)[..., 0] / (2 * _PATH_SIGMA**2))
    passed = np.clip(fine / max(len(trajectory) - 1, 1), 0.0, 1.0)
    return np.stack([near, near * passed[nearest]]).astype(np.float32)


def encode_conditions(
    commands: list[str | None],
    trajectories: list[NDArray[np.float64] | None],
    frames: int,
    grid: GridSpec,
    factors: tuple[int, int],
    grid_yaws: list[float] | None = None,
    routes: list[Route] | None = None,
) -> ConditionBatch:
    """Conditions of b samples as a batch; trajectories are ``[t, 3]``, grids turned by ``grid_yaws`` (None: not), and
    the clips may be parts of drives along ``routes``.
    """
    b = len(commands)
    shape = (grid.shape[0] // factors[0], grid.shape[1] // factors[1])
    vectors = np.zeros((b, frames, 3), np.float32)
    paths = np.zeros((b, PATH_CHANNELS, *shape), np.float32)
    present = np.zeros(b, np.float32)
    for i, trajectory in enumerate(trajectories):
        if trajectory is not None:
            vectors[i] = trajectory * (0.1, 0.1, 1.0)
            yaw, route = 0.0 if grid_yaws is None else grid_yaws[i], NO_ROUTE if routes is None else routes[i]
            paths[i] = draw_path(trajectory, grid, factors, yaw, route)
            present[i] = 1
    ids = [NO_COMMAND if c is None else COMMANDS.index(c) for c in commands]
    return ConditionBatch(
        torch.tensor(ids),
        torch.from_numpy(vectors.reshape(b, -1)),
        torch.from_numpy(present),
        torch.from_numpy(paths),
    )
