"""The maps of a layout as packed bits, as both containers hold them, and where their columns lie.

A frame's maps ``[6, x, y]`` are one row of bits in C order, most significant bit first (``numpy.packbits``), filled up
with zero bits to whole bytes. Maps that ask for nothing are zero; one byte says which ones ask, bit i (1 << i) for
class i of ``LAYOUT_CLASSES``. ``docs/corpus-format.md`` lists it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import LAYOUT_CLASSES, Layout
from dyncity.config_file import from_dict
from dyncity.errors import InputError
from dyncity.grid import GridSpec

_KEYS = {"classes", "shape", "voxel_size", "origin", "anchor"}


def packed_bytes(grid: GridSpec) -> int:
    """Bytes of one frame's packed maps on a grid."""
    return -(-unpacked_bytes(grid) // 8)


def unpacked_bytes(grid: GridSpec) -> int:
    """Values of one frame's maps on a grid, a byte each in memory."""
    return len(LAYOUT_CLASSES) * grid.shape[0] * grid.shape[1]


def pack_maps(layout: Layout) -> NDArray[np.uint8]:
    """uint8 ``[t, n]``: the maps of each frame, packed; those that ask for nothing are zero."""
    asked = layout.maps & layout.given[:, None, None, None]
    return np.packbits(np.moveaxis(asked, 1, 0).reshape(asked.shape[1], -1), axis=1)


def given_byte(layout: Layout) -> int:
    """Which maps ask for anything, bit i for class i."""
    return int(np.packbits(layout.given, bitorder="little")[0])


def unpack_layout(rows: NDArray[np.uint8], given: int, grid: GridSpec, anchor: int | None) -> Layout:
    """The layout of a scene from its packed rows ``[t, n]``, on ``grid`` placed by the pose of frame ``anchor``.

    Raises:
        InputError: rows of another size, bits of a class that there is not, of a map that asks for nothing or beyond
            the maps, or an anchor beyond the frames.
    """
    count = len(LAYOUT_CLASSES)
    if rows.ndim != 2 or rows.shape[1] != packed_bytes(grid):
        raise InputError(
            "layout", f"found rows of {rows.shape[1:]} bytes, not {packed_bytes(grid)}", "restore the file"
        )
    if not 0 <= given < 1 << count:
        raise InputError("layout_given", f"found {given}", f"at most {(1 << count) - 1} is known")
    bits = np.unpackbits(rows, axis=1)
    maps = bits[:, : unpacked_bytes(grid)].reshape(len(rows), count, *grid.shape[:2]).astype(bool)
    asked = np.array([bool(given >> i & 1) for i in range(count)])
    if bits[:, unpacked_bytes(grid) :].any() or maps[:, ~asked].any():
        raise InputError("layout", "found bits that belong to no map that asks", "restore the file")
    return Layout(np.ascontiguousarray(np.moveaxis(maps, 0, 1)), asked, grid, anchor)


def grid_facts(grid: GridSpec, anchor: int | None) -> dict[str, Any]:
    """Where the columns of the maps lie, as a shard says it in its description."""
    return {
        "classes": list(LAYOUT_CLASSES),
        "shape": list(grid.shape),
        "voxel_size": list(grid.voxel_size),
        "origin": list(grid.origin),
        "anchor": anchor,
    }


def read_grid_facts(values: Any, frame_rate: float, where: str) -> tuple[GridSpec, int | None]:
    """The grid of the maps and its anchor from what ``grid_facts`` wrote.

    Raises:
        InputError: other keys, other classes, or no grid.
    """
    if not isinstance(values, dict) or values.keys() != _KEYS or values["classes"] != list(LAYOUT_CLASSES):
        raise InputError(where, "its description of layouts is not one that is known", "restore the file")
    try:
        parts = {name: values[name] for name in ("shape", "voxel_size", "origin")}
        grid = from_dict(GridSpec, parts | {"frame_rate": frame_rate}, where)
    except InputError as error:
        raise InputError(f"{where}, its description of layouts", error.found, "restore the file") from None
    anchor = values["anchor"]
    if not (anchor is None or (type(anchor) is int and anchor >= 0)):
        raise InputError(where, f"found anchor {anchor!r} of layouts", "restore the file")
    return grid, anchor
