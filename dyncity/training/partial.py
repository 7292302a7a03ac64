"""Which voxels of a training clip are given to the DiT: what each edit will know of a scene.

Four kinds, drawn with equal shares: one frame (single-frame generation); the chunk before, whose last frames
are shared, and static voxels, in half of the rows as far as that chunk reached, in the others everywhere, as where the
city was made before (long sequences); everything but a hole in space and perhaps in time (inpainting); one side
(outpainting).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import along, covered
from dyncity.conditions import poses_from_trajectory, turned
from dyncity.config import Config
from dyncity.movers import parked
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy

KINDS = ("frame", "before", "hole", "side")
_CITY_KNOWN = 0.5  # of the rows with the chunk before


def draw_given(
    ids: NDArray[np.uint8],
    trajectory: NDArray[np.float64],
    config: Config,
    rng: np.random.Generator,
    grid_yaw: float = 0.0,
) -> NDArray[np.uint8]:
    """A clip with 255 wherever nothing is given.

    Args:
        ids: ``[t, x, y, z]`` on ``config.clip_grid``.
        trajectory: ``[t, 3]`` of the ego.
        config: grids and label space.
        rng: decides kind, place and size.
        grid_yaw: how far the grid is turned against the ego's heading (``Conditions.grid_yaw``).
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    frames, x, y, _ = ids.shape
    given = np.zeros(ids.shape, bool)
    poses = poses_from_trajectory(trajectory)
    anchor = turned(poses[frames // 2], grid_yaw) if config.clip.planes == "world" else np.eye(4)
    if kind == "frame":
        frame = int(rng.integers(frames))
        here = poses[frame] if config.clip.planes == "world" else anchor
        given[frame] = covered(config.clip_grid, config.grid, np.linalg.inv(here) @ anchor)[..., None]
    elif kind == "before":
        shared = int(rng.integers(1, frames // 2 + 1))
        # The chunk before ended with the shared frames, so its middle lies behind: driven on at the same speed.
        behind = along(anchor, poses[0] @ _moved(poses, -(frames // 2 - shared)))
        reached = covered(config.clip_grid, config.clip_grid, np.linalg.inv(behind) @ anchor)[..., None]
        space = taxonomy(config.taxonomy)
        still = np.ones(256, bool)
        still[[space.free, UNKNOWN, *space.movers]] = False
        given = (reached | (rng.random() < _CITY_KNOWN)) & (still[ids] | parked(ids, config.taxonomy))
        given[:shared] |= reached
    elif kind == "hole":
        size = np.maximum(2, (rng.uniform(0.15, 0.6, 2) * (x, y)).astype(int))
        low = [int(rng.integers(0, n - s + 1)) for n, s in zip((x, y), size, strict=True)]
        start, end = (0, frames) if rng.random() < 0.7 else np.sort(rng.permutation(frames + 1)[:2])
        given[:] = True
        given[start:end, low[0] : low[0] + size[0], low[1] : low[1] + size[1]] = False
    else:
        share, axis = rng.uniform(0.15, 0.7), int(rng.integers(2))
        edge = round(share * (x, y)[axis])
        columns = np.arange((x, y)[axis]) < edge
        columns = columns if rng.random() < 0.5 else columns[::-1]
        given[:] = columns[:, None, None] if axis == 0 else columns[:, None]
    return np.where(given, ids, UNKNOWN).astype(np.uint8)


def _moved(poses: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """``count`` frames of motion on from the first one, at its speed and turning."""
    if len(poses) == 1:
        return np.eye(4)
    step = np.linalg.inv(poses[0]) @ poses[1]
    return np.linalg.matrix_power(step, count)
