"""Are samples new: their distance to the nearest training clip, beside that of real held-out clips.

Two clips are compared by their middle frames, seen from above, where the clip is anchored: a copy whose ego drives
on differently is still found. The distance is the share of columns, known in both and not empty in both, whose
class differs; the mirror image (left and right) counts as the same place. Averages over many samples hide copies:
the measure is how many samples are nearer to a training clip than ``COPY`` times what the nearest of the
held-out clips is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dyncity.metrics.top_view import top_view
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy

# A distance below this share of the smallest one between real clips cannot be chance.
COPY = 0.5


def bev_maps(scenes: Iterable[OccupancyScene]) -> NDArray[np.uint8]:
    """uint8 ``[n, x, y]`` the middle frames seen from above; free is 254 in all label spaces."""
    maps = []
    for scene in scenes:
        view = top_view(scene)[scene.frames // 2]
        maps.append(np.where(view == taxonomy(scene.taxonomy).free, 254, view).astype(np.uint8))
    return np.stack(maps)


def nearest(
    maps: NDArray[np.uint8], others: NDArray[np.uint8], itself: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance ``[n]`` (0 to 1) of each map ``[n, x, y]`` to the nearest of ``others`` ``[m, x, y]``, and its number.

    Args:
        maps, others: from ``bev_maps``.
        itself: they are the same maps, and none is its own neighbour.
    """
    distance, number = np.ones(len(maps)), np.zeros(len(maps), np.int64)
    flat = others.reshape(len(others), -1)
    for n, one in enumerate(maps):
        here = np.minimum(_differing(one.reshape(-1), flat), _differing(one[:, ::-1].reshape(-1), flat))
        if itself:
            here[n] = 1.0
        number[n] = here.argmin()
        distance[n] = here[number[n]]
    return distance, number


def copied(samples: NDArray[np.uint8], training: NDArray[np.uint8], held_out: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which samples are training clips: bool ``[n]``.

    Args:
        samples: maps ``[n, x, y]`` of what is under suspicion, as all from ``bev_maps``.
        training: of all that the model was trained on.
        held_out: of real scenes of other seeds or logs; they say how near to the training clips chance comes.
    """
    return nearest(samples, training)[0] < COPY * nearest(held_out, training)[0].min()


def repeated(samples: NDArray[np.uint8], held_out: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which samples have a double among the samples: bool ``[n]``; for the arguments see ``copied``."""
    limit = COPY * nearest(held_out, held_out, itself=True)[0].min()
    return nearest(samples, samples, itself=True)[0] < limit


def _differing(one: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share ``[m]`` of differing columns of one map ``[c]`` to each of ``[m, c]``; 1 where none is comparable."""
    known = (one != UNKNOWN) & (others != UNKNOWN)
    compared = known & ((one != 254) | (others != 254))
    differ = (compared & (one != others)).sum(axis=1)
    return np.where(compared.any(axis=1), differ / np.maximum(compared.sum(axis=1), 1), 1.0)
