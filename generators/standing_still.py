"""What stands does not change: the static city of a clip in a world-fixed grid, the same in all frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import UNKNOWN
from dyncity.taxonomy import taxonomy


def with_given(volume: NDArray[np.uint8], given: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """A volume with all given voxels as they were given; 255 is none."""
    return volume if given is None else np.where(given == UNKNOWN, volume, given)


def standing_still(volume: NDArray[np.uint8], labels: str, given: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """A volume in which each voxel holds one static class, or none, in all frames that have no mover there.

    The one that most of those frames hold, on a tie an occupied one; where given voxels tell, the one that most of the
    given ones hold, and they stay as they are.

    Args:
        volume: ``[t, x, y, z]`` class ids on a grid fixed to the world.
        labels: the label space; its movers stay where they are.
        given: ``[t, x, y, z]`` voxels that are known, 255 where none is; None: no voxel is.
    """
    space = taxonomy(labels)
    moving = np.isin(np.arange(256), [*space.movers, UNKNOWN])
    whole = with_given(volume, given)
    changing = (whole != whole[0]).any(axis=0)
    voxels = whole[:, changing]  # [t, n]
    stands = ~moving[voxels]
    known = np.zeros_like(stands) if given is None else given[:, changing] != UNKNOWN
    told = known & stands
    votes = np.where(told.any(axis=0), told, stands)
    classes = [c for c in range(len(space)) if not moving[c] and c != space.free] + [space.free]
    most = np.array(classes)[np.stack([((voxels == c) & votes).sum(axis=0) for c in classes]).argmax(axis=0)]
    result = whole.copy()
    result[:, changing] = np.where(stands & ~known, most, voxels)
    return result
