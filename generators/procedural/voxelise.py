"""From the city to voxels: the static world looked up per frame, the agents drawn over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from generators.procedural.agents import Agents
from generators.procedural.roadmap import Floats, Warp
from generators.procedural.static import CLASS, StaticWorld


def to_local(pose: Floats, xy: Floats) -> Floats:
    """``[..., 2]`` real points in the frame of a pose ``[3]`` x, y, yaw."""
    dx, dy = xy[..., 0] - pose[0], xy[..., 1] - pose[1]
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=-1)


def draw_static(world: StaticWorld, warp: Warp, grid: GridSpec, pose: Floats) -> NDArray[np.uint8]:
    """uint8 ``[x, y, z]`` of what never moves, the grid placed by a real pose ``[3]``."""
    x, y = grid.axis(0)[:, None], grid.axis(1)[None, :]
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    real = np.stack([pose[0] + cos * x - sin * y, pose[1] + sin * x + cos * y], axis=-1)
    i, j = world.cells(warp.to_canonical(real))
    table = world.layers.table
    voxels = table[world.standing[i, j]]
    hanging = world.hanging[i, j]
    a, b = np.nonzero(hanging)
    over = voxels[a, b]
    voxels[a, b] = np.where(over == 0, table[hanging[a, b]], over)
    voxels[:, :, world.layers.ground] = world.ground[i, j]
    if world.thin.uv:
        local = to_local(pose, warp.to_real(np.array(world.thin.uv)))
        index, inside = grid.index(np.concatenate([local, np.full((len(local), 1), grid.axis(2)[0])], axis=1))
        for numbers in (np.array(world.thin.standing)[inside], np.array(world.thin.hanging)[inside]):
            a, b = index[inside, 0], index[inside, 1]
            column = table[numbers]
            voxels[a, b] = np.where(column == 0, voxels[a, b], column)
    return voxels


def _top(kind: str, height: float, ahead: Floats) -> Floats:
    """Height of a vehicle at ``ahead``, from -1 (rear) to 1 (front): bonnets and boots are lower."""
    if kind == "car":
        return np.where(ahead > 0.5, 0.62 * height, np.where(ahead < -0.75, 0.7 * height, height))
    if kind in ("truck", "construction_vehicle"):
        return np.where(ahead > 0.55, 0.82 * height, height)
    return np.full_like(ahead, height)


def draw_agents(
    voxels: NDArray[np.uint8],
    instances: NDArray[np.uint16],
    grid: GridSpec,
    ground: int,
    agents: Agents,
    poses: Floats,
) -> None:
    """Draw agents into ``[t, x, y, z]`` voxels and track numbers, in place.

    A voxel belongs to an agent when its centre lies in the box, a tenth of a voxel larger, or when the
    box's axis runs through it, so that a bicycle is as long and a pedestrian as whole on coarse grids.

    Args:
        voxels, instances: ``[t, x, y, z]``.
        grid: where the voxels lie.
        ground: the layer of the road surface, which stays visible under agents.
        agents: tracks are their numbers from 1.
        poses: ``[t, 3]`` real poses that place the grid in each frame.
    """
    size_x, size_y, size_z = grid.voxel_size
    coarse = max(size_x, size_y)
    levels = grid.axis(2)
    local = to_local(poses.T[:, None], agents.pose[..., :2])
    reach = np.hypot(agents.size[:, 0], agents.size[:, 1])[:, None, None] / 2 + 2 * coarse
    low, high = np.array(grid.origin[:2]), np.array(grid.upper[:2])
    within = np.logical_and.reduce((local > low - reach) & (local < high + reach), axis=2)
    seen = np.logical_or.reduce(within, axis=1)
    # Long agents first, so that whoever is small stays whole where voxels are shared.
    order = np.argsort(-agents.size[:, 0], kind="stable")
    for n in order[seen[order]]:
        kind, (length, width, height) = agents.kind[n], agents.size[n]
        frames, cells = _footprint(grid, agents.pose[n], poses, length, width, 0.1 * coarse, coarse)
        if not len(frames):
            continue
        t, i, j, ahead = frames, cells[0], cells[1], cells[2]
        top = _top(kind, float(height), np.asarray(ahead))
        highest = np.floor((top - grid.origin[2]) / size_z - 0.25).astype(np.int64)
        highest = np.maximum(highest, ground + 1)
        for level in range(ground + 1, min(int(highest.max()) + 1, len(levels))):
            here = highest >= level
            voxels[t[here], i[here], j[here], level] = CLASS[kind]
            instances[t[here], i[here], j[here], level] = n + 1


def _footprint(
    grid: GridSpec, pose: Floats, poses: Floats, length: float, width: float, grow: float, coarse: float
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
    """Frames and columns under one agent: ``[m]`` frame, x, y and place along the box (-1 to 1)."""
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    dx, dy = pose[:, 0] - poses[:, 0], pose[:, 1] - poses[:, 1]
    x, y, yaw = cos * dx + sin * dy, cos * dy - sin * dx, pose[:, 2] - poses[:, 2]
    reach = np.hypot(length, width) / 2 + grow + coarse
    low, high = grid.origin, grid.upper
    seen = (x > low[0] - reach) & (x < high[0] + reach) & (y > low[1] - reach) & (y < high[1] + reach)
    frame = np.flatnonzero(seen)
    empty = np.zeros(0, np.int64)
    if not len(frame):
        return empty, (empty, empty, np.zeros(0))
    x, y, yaw = x[frame, None, None], y[frame, None, None], yaw[frame, None, None]
    (sx, sy, _), (nx, ny, _) = grid.voxel_size, grid.shape
    i0, j0 = np.floor((x - reach - low[0]) / sx), np.floor((y - reach - low[1]) / sy)
    i = (i0 + np.arange(int(2 * reach / sx) + 2)[:, None]).astype(np.int64)
    j = (j0 + np.arange(int(2 * reach / sy) + 2)[None, :]).astype(np.int64)
    px, py = low[0] + (i + 0.5) * sx - x, low[1] + (j + 0.5) * sy - y
    cos, sin = np.cos(yaw), np.sin(yaw)
    a, b = cos * px + sin * py, cos * py - sin * px
    inside = (np.abs(a) <= length / 2 + grow) & (np.abs(b) <= width / 2 + grow)
    # The part of the axis nearest to the voxel's centre, and whether that voxel holds it.
    axis = np.clip(a, -max(length - width, 0) / 2, max(length - width, 0) / 2)
    inside |= (np.abs(cos * axis - px) <= sx / 2) & (np.abs(sin * axis - py) <= sy / 2)
    inside &= (i >= 0) & (i < nx) & (j >= 0) & (j < ny)
    f, p, q = np.nonzero(inside)
    return frame[f], (i[f, p, 0], j[f, 0, q], np.clip(a[f, p, q] / (length / 2), -1, 1))
