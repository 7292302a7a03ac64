"""Nothing floats: what stands on the ground reaches down to it, in volumes whose voxels are too coarse for gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import components
from dyncity.movers import people_ids, without_movers
from dyncity.taxonomy import taxonomy

# Voxels this tall do not resolve what is between a body and the ground.
COARSE = 0.5  # metres
# Nobody who walks is lower: 95 % of those over six years are taller.
_LEAST_PERSON = 1.1  # metres
# What each class stands on where nothing is under it: itself; signs and lights on a pole.
_LEGS = {"traffic_sign": "pole", "traffic-sign": "pole", "sign": "pole", "traffic_light": "pole"}
_UPRIGHT = ("pole", "trunk", "tree_trunk", "traffic_cone", "construction_cone")


def upright(volume: NDArray[np.uint8], grid: GridSpec, labels: str) -> NDArray[np.uint8]:
    """A volume in which movers, poles, trunks and signs reach down to what is under them.

    The free voxels below one, down to the next that is occupied, become its own class; those below a sign or a light
    become a pole. A column of which no more than half of a pole is there, with no sign or light on it, was a crumb and
    goes. A pedestrian is at least 1.1 m tall; of one in several columns, those that are lower go if there are others.
    Volumes of voxels lower than 0.5 m, which show the gap under a car, stay as they are, and so do columns with nothing
    below.

    Args:
        volume: ``[t, x, y, z]`` class ids in which what stands is the same in all frames
            (``generators.standing_still``).
        grid: where it lies.
        labels: the label space.
    """
    if grid.voxel_size[2] < COARSE:
        return volume
    space = taxonomy(labels)
    movers, classes = list(space.movers), np.arange(256)
    people = people_ids(labels)
    tall = int(np.ceil(_LEAST_PERSON / grid.voxel_size[2]))
    volume = _slim(volume, people, tall, space.free)
    still = without_movers(volume, labels)
    legs = np.zeros(256, np.uint8)
    for name in (*_LEGS, *_UPRIGHT):
        if name in space.classes and (leg := _LEGS.get(name, name)) in space.classes:
            legs[space.id(name)] = space.id(leg)
    mended = _reaching_down(_without_stumps(still, legs, space.classes, space.free), legs, space.free)
    result = np.where((mended != still) & (volume == still), mended, volume)
    moving = np.where(np.isin(classes, movers), classes, 0).astype(np.uint8)
    return _grown(_reaching_down(result, moving, space.free), people, tall, space.free)


def _reaching_down(volume: NDArray[np.uint8], legs: NDArray[np.uint8], free: int) -> NDArray[np.uint8]:
    """``[..., z]`` with the free voxels between a class that has ``legs`` and what is below filled by them."""
    result = volume.copy()
    ground = np.logical_or.accumulate(volume != free, axis=-1)  # there is something here or below
    carried = np.zeros(volume.shape[:-1], np.uint8)
    for z in range(volume.shape[-1] - 1, 0, -1):
        here = volume[..., z]
        carried = np.where(here == free, carried, legs[here])
        result[..., z] = np.where((here == free) & (carried > 0) & ground[..., z], carried, here)
    return result


def _without_stumps(
    still: NDArray[np.uint8], legs: NDArray[np.uint8], classes: tuple[str, ...], free: int
) -> NDArray[np.uint8]:
    """``[x, y, z]`` without the columns of poles of which no more than half is there and that carry nothing."""
    if "pole" not in classes:
        return still
    pole = classes.index("pole")
    held = np.isin(still, [i for i in np.flatnonzero(legs == pole) if i != pole]).any(axis=-1)
    only = np.where(np.arange(256) == pole, legs, 0).astype(np.uint8)
    there, would_be = still == pole, _reaching_down(still, only, free)
    crumb = ~held & (2 * there.sum(axis=-1) <= (would_be == pole).sum(axis=-1))
    return np.where(there & crumb[..., None], free, still).astype(np.uint8)


def _slim(volume: NDArray[np.uint8], ids: list[int], height: int, free: int) -> NDArray[np.uint8]:
    """``[t, x, y, z]`` without columns of fewer than ``height`` voxels of ``ids`` that touch one which has them."""
    result = volume.copy()
    for frame in result:
        for part in components(np.isin(frame, ids)):
            columns, number, count = np.unique(part[:, :2], axis=0, return_inverse=True, return_counts=True)
            if len(columns) > 1 and count.max() >= height:
                frame[tuple(part[count[number.reshape(-1)] < height].T)] = free
    return result


def _grown(volume: NDArray[np.uint8], ids: list[int], height: int, free: int) -> NDArray[np.uint8]:
    """``[t, x, y, z]`` in which columns of ``ids`` go on upwards, as far as it is free, to ``height`` voxels."""
    result = volume.copy()
    for one in ids:
        column = result == one
        count = column.sum(axis=-1)
        for z in range(1, volume.shape[-1]):
            grows = (result[..., z] == free) & (result[..., z - 1] == one) & (count > 0) & (count < height)
            result[..., z][grows] = one
            count = count + grows
    return result
