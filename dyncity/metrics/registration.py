"""How the ego moved, read off the voxels alone: rigid registration of frames seen from above.

Nothing here reads poses or trajectories of a scene (only ``trajectory_error`` compares with what was asked). A
frame becomes an image with one channel a static class: whether the column holds that class. Columns that hold a
mover, or nothing known, have no weight. Two frames are registered in two steps:

1. a search over all turns (steps of 4 degrees) and all shifts by whole columns that a vehicle can make between them,
   by the squared difference of the images per column of overlap, from FFT correlations;
2. Gauss-Newton on the same difference of blurred images, for the fraction of a column and of a degree.

Motions are ``[3]`` arrays x, y (metres) and yaw (radians): the pose of the later frame in the earlier one. The
measures and what fools them: ``docs/metrics.md``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import command_from_trajectory
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy

Floats = NDArray[np.float64]

# What a vehicle can do between two frames: the simulator's ego stays under 14 m/s, its turns under 75 degrees a second.
TOP_SPEED = 20.0  # m/s
TOP_YAW_RATE = np.deg2rad(100.0)  # rad/s
_YAW_STEP = np.deg2rad(4.0)
_BLURS = (1.5, 0.8)  # columns, standard deviation
_ROUNDS = 12


def registration_agreement(scene: OccupancyScene, motions: Floats | None = None) -> float:
    """Share of static voxels that agree between consecutive frames after the best rigid registration.

    A voxel counts where it is static in one frame and its place in the other frame is inside, known and not
    taken by a mover; it agrees where the class there is the same. Both directions count. 0 where there is no
    static voxel at all.

    Args:
        scene: at least two ego-centred frames.
        motions: ``[t - 1, 3]`` from ``frame_motions``, where they are known already.
    """
    same, counted = _agreeing(scene, motions).sum(axis=0)
    return float(same / counted) if counted else 0.0


def step_agreements(scene: OccupancyScene, motions: Floats | None = None) -> Floats:
    """``[t - 1]`` the agreement of each frame with the next one, as ``registration_agreement`` counts it.

    Args:
        scene: at least two ego-centred frames.
        motions: ``[t - 1, 3]`` from ``frame_motions``, where they are known already.
    """
    same, counted = _agreeing(scene, motions).T
    return np.asarray(same / np.maximum(counted, 1), np.float64)


def _agreeing(scene: OccupancyScene, motions: Floats | None) -> NDArray[np.int64]:
    """``[t - 1, 2]`` of each frame and the next one: static voxels that agree, and those that are compared."""
    motions = frame_motions(scene) if motions is None else motions
    moving, static = _kinds(scene)
    counts = np.zeros((len(motions), 2), np.int64)
    for t, motion in enumerate(motions):
        pairs = (
            (scene.semantics[t + 1], scene.semantics[t], motion),
            (scene.semantics[t], scene.semantics[t + 1], _inverse(motion)),
        )
        for here, there, step in pairs:
            i, j, inside = _nearest(scene.grid, step)
            found = there[i, j]
            compare = static[here] & inside[..., None] & (found != UNKNOWN) & ~moving[found]
            counts[t] += (found[compare] == here[compare]).sum(), compare.sum()
    return counts


def estimated_trajectory(scene: OccupancyScene, motions: Floats | None = None) -> Floats:
    """``[t, 3]`` x, y (metres), yaw (radians) of the ego relative to its first frame.

    The motions between consecutive frames are chained, then every frame is registered directly to the middle
    one from there, so that errors do not add up along the clip.

    Args:
        scene: ego-centred frames.
        motions: ``[t - 1, 3]`` from ``frame_motions``, where they are known already.
    """
    motions = frame_motions(scene) if motions is None else motions
    chain = [np.zeros(3)]
    for motion in motions:
        chain.append(_after(chain[-1], motion))
    middle = scene.frames // 2
    views = [_Views(scene, t) for t in range(scene.frames)]
    to_middle = [_after(_inverse(chain[middle]), pose) for pose in chain]
    refined = [
        _refined(views[middle], views[t], to_middle[t]) if t != middle else np.zeros(3) for t in range(scene.frames)
    ]
    return np.stack([_after(_inverse(refined[0]), pose) for pose in refined])


def trajectory_error(estimated: Floats, asked: Floats, voxel: float) -> float:
    """Root mean square distance of two trajectories ``[t, 3]`` over their frames, in voxels of ``voxel`` metres."""
    return float(np.sqrt(((estimated[:, :2] - asked[:, :2]) ** 2).sum(axis=1).mean()) / voxel)


def command_obeyed(estimated: Floats, command: str) -> bool:
    """Whether a trajectory ``[t, 3]`` carries the command out, by ``dyncity.conditions``' own definition."""
    return command_from_trajectory(estimated) == command


def frame_motions(scene: OccupancyScene) -> Floats:
    """``[t - 1, 3]`` x, y (metres), yaw (radians) of each frame in the one before it.

    Raises:
        InputError: the frames are fixed to the world, so the voxels do not show how the ego moved.
    """
    if scene.anchor is not None:
        raise InputError(f"scene {scene.scene_id}", "is fixed to the world", "cut it along its path: ego_windows")
    views = [_Views(scene, t) for t in range(scene.frames)]
    motions = np.zeros((max(scene.frames - 1, 0), 3))
    for t in range(len(motions)):
        motions[t] = _refined(views[t], views[t + 1], _searched(views[t], views[t + 1]))
    return motions


class _Views:
    """One frame seen from above: sharp and blurred images of its static classes, on the grid's columns.

    Attributes:
        grid: the grid of the frame.
        image: float32 ``[c, x, y]`` 1 where the column holds static class c, else 0; 0 without weight.
        weight: float32 ``[x, y]`` 1 where the column counts.
        blurred: for each width of ``_BLURS`` the blurred ``[c, x, y]``, weights taken into account.
    """

    def __init__(self, scene: OccupancyScene, frame: int) -> None:
        moving, static = _kinds(scene)
        self.grid = scene.grid
        voxels = scene.semantics[frame]
        counts = ((voxels != UNKNOWN).any(axis=2)) & ~moving[voxels].any(axis=2)
        shown = np.flatnonzero(static & (np.bincount(scene.semantics.reshape(-1), minlength=256) > 0))
        image = np.stack([(voxels == label).any(axis=2) & counts for label in shown] or [np.zeros_like(counts)])
        self.weight = counts.astype(np.float32)
        self.image = image.astype(np.float32)
        self.blurred = []
        for width in _BLURS:
            share = _blur(self.weight, width) + 1e-6
            self.blurred.append(_blur(self.image, width) / share)


def _kinds(scene: OccupancyScene) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Bool tables ``[256]`` by class id: movers, and static classes (neither mover, free nor unknown)."""
    space = taxonomy(scene.taxonomy)
    moving, static = np.zeros(256, bool), np.zeros(256, bool)
    moving[list(space.movers)] = True
    static[: len(space)] = True
    static[[space.free, *space.movers]] = False
    return moving, static


def _after(first: Floats, then: Floats) -> Floats:
    """The pose ``[3]`` reached by ``then``, which is seen from ``first``."""
    x, y, yaw = first
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([x + cos * then[0] - sin * then[1], y + sin * then[0] + cos * then[1], yaw + then[2]])


def _inverse(motion: Floats) -> Floats:
    x, y, yaw = motion
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([-(cos * x + sin * y), sin * x - cos * y, -yaw])


def _moved(grid: GridSpec, motion: Floats) -> tuple[Floats, Floats]:
    """Where the columns' centres ``[x, y]`` of the later frame lie in the earlier one, as fractional columns."""
    x, y = grid.axis(0)[:, None], grid.axis(1)[None, :]
    cos, sin = np.cos(motion[2]), np.sin(motion[2])
    u = (motion[0] + cos * x - sin * y - grid.origin[0]) / grid.voxel_size[0] - 0.5
    v = (motion[1] + sin * x + cos * y - grid.origin[1]) / grid.voxel_size[1] - 0.5
    return u, v


def _nearest(grid: GridSpec, motion: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Columns ``[x, y]`` of the earlier frame that hold the later one's centres, and whether they are inside."""
    u, v = _moved(grid, motion)
    i, j = np.floor(u + 0.5).astype(np.int64), np.floor(v + 0.5).astype(np.int64)
    inside = (i >= 0) & (i < grid.shape[0]) & (j >= 0) & (j < grid.shape[1])
    return np.where(inside, i, 0), np.where(inside, j, 0), inside


def _blur(image: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Gaussian blur of the last two axes, zero outside."""
    reach = int(np.ceil(3 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (-1, -2):
        n = image.shape[axis]
        line = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
        band = np.where(line <= reach, kernel[np.minimum(line, reach) + reach], 0).astype(np.float32)
        image = np.moveaxis(np.moveaxis(image, axis, -1) @ band, -1, axis)
    return image


def _searched(earlier: _Views, later: _Views) -> Floats:
    """The best motion ``[3]`` on a lattice within a vehicle's reach: turns of ``_YAW_STEP``, whole columns."""
    grid = earlier.grid
    reach = [int(np.ceil(TOP_SPEED / grid.frame_rate / size)) for size in grid.voxel_size[:2]]
    turns = int(np.ceil(TOP_YAW_RATE / grid.frame_rate / _YAW_STEP))
    size = (grid.shape[0] + reach[0], grid.shape[1] + reach[1])

    def spectrum(stack: NDArray[np.float32]) -> NDArray[np.complex64]:
        return np.fft.rfft2(stack, size).astype(np.complex64)

    def stacked(image: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([image, image.sum(axis=0, keepdims=True), weight[None]])

    # |a - b|^2 over channels = |a|^2 + |b|^2 - 2 a b, and a, b are 0 or 1.
    first = spectrum(stacked(earlier.image, earlier.weight))
    best, motion = np.inf, np.zeros(3)
    for turn in range(-turns, turns + 1):
        yaw = turn * _YAW_STEP
        i, j, inside = _nearest(grid, np.array([0.0, 0.0, -yaw]))
        # The later frame turned into the earlier one's axes.
        seen = later.weight[i, j] * inside
        second = np.conj(spectrum(stacked(later.image[:, i, j] * seen, seen)))
        cross = (first[:-2] * second[:-2]).sum(axis=0)
        squares = first[-2] * second[-1] + first[-1] * second[-2] - 2 * cross
        difference, overlap = (np.fft.irfft2(s, size) for s in (squares, first[-1] * second[-1]))
        rows, columns = (np.arange(-r, r + 1) for r in reach)
        difference, overlap = difference[rows][:, columns], overlap[rows][:, columns]
        # Both are whole numbers but for rounding. Of equal fits the smaller motion: bare ground stands still.
        difference, overlap = np.rint(difference), np.rint(overlap)
        score = np.where(overlap > 0.2 * earlier.weight.size, difference / np.maximum(overlap, 1), np.inf)
        score += 1e-6 * (turn**2 + rows[:, None] ** 2 + columns**2)
        a, b = np.unravel_index(int(score.argmin()), score.shape)
        if score[a, b] < best:
            best = float(score[a, b])
            motion = np.array([rows[a] * grid.voxel_size[0], columns[b] * grid.voxel_size[1], yaw])
    return motion


def _refined(earlier: _Views, later: _Views, motion: Floats) -> Floats:
    """The motion ``[3]`` to a fraction of a column: Gauss-Newton on images of falling blur."""
    grid = earlier.grid
    nx, ny, _ = grid.shape
    for a, b in zip(earlier.blurred, later.blurred, strict=True):
        for _ in range(_ROUNDS):
            u, v = _moved(grid, motion)
            inside = (u >= 0) & (u <= nx - 1.001) & (v >= 0) & (v <= ny - 1.001)
            u, v, target = u[inside], v[inside], b[:, inside]
            i, j = u.astype(np.int64), v.astype(np.int64)
            p, q = (u - i).astype(np.float32), (v - j).astype(np.float32)
            weight = later.weight[inside] * earlier.weight[np.rint(u).astype(np.int64), np.rint(v).astype(np.int64)]
            a00, a01, a10, a11 = a[:, i, j], a[:, i, j + 1], a[:, i + 1, j], a[:, i + 1, j + 1]
            value = (1 - p) * ((1 - q) * a00 + q * a01) + p * ((1 - q) * a10 + q * a11)
            by_x = ((1 - q) * (a10 - a00) + q * (a11 - a01)) / grid.voxel_size[0]
            by_y = ((1 - p) * (a01 - a00) + p * (a11 - a10)) / grid.voxel_size[1]
            # Turning about the earlier frame's origin shift: d(x, y)/d yaw = (-(y - y0), x - x0).
            x = grid.origin[0] + (u + 0.5) * grid.voxel_size[0] - motion[0]
            y = grid.origin[1] + (v + 0.5) * grid.voxel_size[1] - motion[1]
            slope = np.stack([by_x, by_y, by_y * x - by_x * y]).reshape(3, -1)
            weighted = slope * np.tile(weight, len(a))
            normal = (weighted @ slope.T).astype(np.float64) + 1e-6 * np.eye(3)
            step = np.linalg.solve(normal, (weighted @ (target - value).reshape(-1)).astype(np.float64))
            step *= min(1.0, 1.0 / max(1e-9, np.hypot(step[0], step[1])), 0.1 / max(1e-9, abs(step[2])))
            motion = motion + step
            if np.hypot(step[0], step[1]) < 1e-3 and abs(step[2]) < 1e-4:
                break
    return motion
