"""Layouts, what must be where seen from above: read off a clip, and encoded for the DiT."""

from __future__ import annotations

import math

import numpy as np
from einops import rearrange, reduce
from numpy.typing import NDArray

from dyncity.anchoring import columns_in
from dyncity.conditions import LAYOUT_CLASSES, Layout
from dyncity.grid import GridSpec
from dyncity.taxonomy import taxonomy

MOVING = LAYOUT_CLASSES.index("vehicle")  # from here on, maps differ from frame to frame

# The names of each class in the label spaces.
_MEMBERS = {
    "road": {"road", "lane_marking", "crosswalk", "driveable_surface"},
    "sidewalk": {"sidewalk", "walkable"},
    "building": {"building", "manmade"},
    "vegetation": {"vegetation", "trunk", "tree_trunk"},
    "vehicle": {
        *("vehicle", "car", "truck", "bus", "trailer", "construction_vehicle", "other_vehicle", "other-vehicle"),
        *("motorcycle", "bicycle", "cyclist", "bicyclist", "motorcyclist"),
    },
    "pedestrian": {"pedestrian", "person"},
}


def members(labels: str) -> NDArray[np.bool_]:
    """bool ``[6, 256]``: which class ids of a label space are of which of ``LAYOUT_CLASSES``."""
    table = np.zeros((len(LAYOUT_CLASSES), 256), bool)
    for number, name in enumerate(LAYOUT_CLASSES):
        table[number, [i for i, c in enumerate(taxonomy(labels).classes) if c in _MEMBERS[name]]] = True
    return table


def layout_of(semantics: NDArray[np.uint8], labels: str) -> Layout:
    """The layout of a clip ``[t, x, y, z]``: each class wherever a column has a voxel of it."""
    tables = members(labels)
    return Layout(np.stack([table[semantics].any(axis=-1) for table in tables]), np.asarray(tables.any(axis=1)))


def layout_on(layout: Layout, grid: GridSpec, grid_to_layout: NDArray[np.float64], frames: slice) -> Layout | None:
    """Some frames of a layout on another grid; None where it says nothing there.

    Beyond its columns a layout says nothing, but one of agents, which says that there are no others.

    Args:
        layout: with the grid that its maps lie on.
        grid: whose columns.
        grid_to_layout: ``[4, 4]`` from ``grid`` to that of the layout.
        frames: which of its frames.
    """
    assert layout.grid is not None
    index, inside = columns_in(grid, layout.grid, grid_to_layout)
    maps = layout.maps[:, frames][:, :, index[..., 0], index[..., 1]] & inside
    if layout.agents or inside.all():
        return Layout(maps, layout.given)
    return Layout(maps, layout.given, reach=inside) if inside.any() else None


def covered_columns(grid: GridSpec, size: tuple[float, float], at: tuple[float, float, float]) -> NDArray[np.bool_]:
    """bool ``[x, y]``: the columns of a grid whose centres lie under a box from above.

    A box smaller than a column covers the one that it stands in.

    Args:
        grid: whose columns.
        size: length and width of the box, metres.
        at: x, y (metres) and yaw (radians) of the box in the frame of the grid.
    """
    x, y, yaw = at
    dx, dy = np.meshgrid(grid.axis(0) - x, grid.axis(1) - y, indexing="ij")
    along, across = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
    covered = (np.abs(along) <= size[0] / 2) & (np.abs(across) <= size[1] / 2)
    if not covered.any():
        nearest = np.hypot(dx, dy)
        covered = (nearest == nearest.min()) & (nearest < max(grid.voxel_size[:2]))
    return np.asarray(covered)


def layout_channels(frames: int, factors: tuple[int, int]) -> int:
    """Channels of ``encode_layout``: those of ``layout_cells``, and one flag a class."""
    moving = len(LAYOUT_CLASSES) - MOVING
    return MOVING + moving * frames * math.prod(factors) + len(LAYOUT_CLASSES)


def layout_cells(maps: NDArray[np.bool_], factors: tuple[int, int]) -> NDArray[np.float32]:
    """Maps ``[6, t, x, y]`` -> what each latent cell of ``factors`` columns along x and y holds, ``[m, x', y']``.

    Of a static class one channel, its share of the columns and frames (planes are fixed to the world). Of a moving
    class one a frame and column of the cell: a pedestrian is smaller than a cell, and where in it matters.
    """
    fx, fy = factors
    shares = reduce(maps[:MOVING].astype(np.float32), "k t (x fx) (y fy) -> k x y", "mean", fx=fx, fy=fy)
    columns = rearrange(maps[MOVING:], "k t (x fx) (y fy) -> (k t fx fy) x y", fx=fx, fy=fy)
    return np.concatenate([shares, columns.astype(np.float32)])


def encode_layout(
    cells: NDArray[np.float32], given: NDArray[np.bool_], reach: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """``layout_cells`` and which classes are given ``[6]`` -> ``[layout_channels, x', y']``, zero where nothing is.

    The last six channels say which classes are given, so that an empty map is told from none.

    Args:
        cells, given: as above.
        reach: bool ``[x, y]`` of whole cells: the columns of which the layout says anything; None: all.
    """
    each = (len(cells) - MOVING) // (len(LAYOUT_CLASSES) - MOVING)
    channel_given = np.concatenate([given[:MOVING], np.repeat(given[MOVING:], each)])
    flags = np.broadcast_to(given[:, None, None], (len(given), *cells.shape[1:]))
    encoded = np.concatenate([cells * channel_given[:, None, None], flags]).astype(np.float32)
    if reach is None:
        return encoded
    fx, fy = (n // m for n, m in zip(reach.shape, cells.shape[1:], strict=True))
    return encoded * reduce(reach, "(x fx) (y fy) -> x y", "min", fx=fx, fy=fy)
