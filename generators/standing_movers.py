"""What moves by itself and stands does not flicker: parked vehicles, people who wait."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import columns_under, components, with_beside
from dyncity.metrics.vehicles import LENGTH, WIDTH, footprint, vehicle_ids
from dyncity.movers import without_movers
from dyncity.taxonomy import taxonomy

# Of the voxels that a mover covers in the first or the last frames, the share that it covers in both, if it stands.
_LEAST_SHARED = 0.6
# Length and width, metres, of the largest vehicles, and of whoever else moves.
_LARGEST, _LARGEST_OTHER = (LENGTH[1], WIDTH[1]), (4.0, 2.5)


def standing_movers(volume: NDArray[np.uint8], grid: GridSpec, labels: str) -> NDArray[np.uint8]:
    """A volume ``[t, x, y, z]`` fixed to the world in which movers that stand are the same in all frames.

    Where one stands is what it covers in half of the frames; it stands if it covers about the same in the first frames
    as in the last, and is no larger than its kind. What it covers beside that in some frames becomes what is there in
    the others.

    Args:
        volume: class ids.
        grid: of the volume.
        labels: the label space.
    """
    movers, wheels = list(taxonomy(labels).movers), vehicle_ids(labels)
    bare = without_movers(volume, labels)
    result, telling = volume.copy(), max(1, len(volume) * 3 // 8)
    edges = np.array(grid.voxel_size[:2])
    for ids, (length, width) in ((wheels, _LARGEST), ([i for i in movers if i not in wheels], _LARGEST_OTHER)):
        covered = np.isin(volume, ids)
        often = covered.mean(axis=0) >= 0.5
        begun, ended = (part.mean(axis=0) >= 0.5 for part in (covered[:telling], covered[-telling:]))
        for part in components(often):
            low, high = np.maximum(part.min(axis=0) - 1, 0), part.max(axis=0) + 2
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            core = np.zeros(often[box].shape, bool)
            core[tuple((part - low).T)] = True
            near = with_beside(core, 3)
            first, last = begun[box] & near, ended[box] & near
            size = footprint(columns_under(part) * edges, edges)[0]
            large = size[0] > length or size[1] > width
            if large or (first & last).sum() < _LEAST_SHARED * (first | last).sum():
                continue
            at = (slice(None), *box)
            seen = volume[at][:, core]
            name = np.bincount(seen[np.isin(seen, ids)], minlength=256).argmax()
            beside = near & ~often[box] & covered[at]
            result[at] = np.where(core, name, np.where(beside, bare[box], result[at]))
    return result
