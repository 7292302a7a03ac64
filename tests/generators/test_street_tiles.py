"""A tile holds what is to be made, and lies along a street where there is one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dyncity.grid import GridSpec
from dyncity.taxonomy import NATIVE
from generators.street_tiles import street_tile, tile_at

GRID = GridSpec((40, 30, 4), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0)


def ground(x: int, y: int, *streets: slice) -> np.ndarray:
    """Terrain with streets along x at these rows."""
    volume = np.full((2, x, y, 4), NATIVE.free, np.uint8)
    volume[..., 0] = NATIVE.id("terrain")
    for street in streets:
        volume[:, :, street, 0] = NATIVE.id("road")
    return volume


def hole(volume: np.ndarray, x: slice, y: slice) -> np.ndarray:
    made = np.zeros(volume.shape[1:3], bool)
    made[x, y] = True
    return made


def test_a_street_beside_what_is_made_runs_along_the_middle_of_the_tile() -> None:
    volume = ground(120, 100, slice(53, 59))
    tile = street_tile(volume, hole(volume, slice(50, 60), slice(49, 52)), GRID, "native")
    assert tile is not None
    _, x, y = tile
    assert y.start + 15 == 56  # the middle of the street, not of what is made
    assert x.start + 20 == 55  # which is in the middle where nothing says otherwise
    assert (x.stop - x.start, y.stop - y.start) == (40, 30)


def test_without_a_street_it_lies_in_the_middle() -> None:
    volume = ground(120, 100)
    assert street_tile(volume, hole(volume, slice(50, 60), slice(45, 55)), GRID, "native") == tile_at(35, 35, (40, 30))


def test_the_street_that_is_to_be_made_anew_does_not_count() -> None:
    made, volume = hole(ground(120, 100), slice(45, 65), slice(40, 46)), ground(120, 100)
    volume[:, 45:65, 42:48, 0] = NATIVE.id("road")  # along the hole
    volume[:, 50:62, 34:40, 0] = NATIVE.id("road")  # beside it, and shorter
    tile = street_tile(volume, made, GRID, "native")
    assert tile is not None
    assert tile[2].start + 15 == 37


def test_what_is_larger_than_a_tile_has_none() -> None:
    volume = ground(120, 100)
    assert street_tile(volume, hole(volume, slice(10, 51), slice(45, 55)), GRID, "native") is None
    assert street_tile(volume, hole(volume, slice(10, 50), slice(45, 55)), GRID, "native") is not None


@given(st.data())
def test_all_that_is_made_lies_in_the_tile_and_the_tile_in_the_scene(data: st.DataObject) -> None:
    nx, ny = data.draw(st.integers(40, 90)), data.draw(st.integers(30, 90))
    edges = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in (nx, ny)]
    row = data.draw(st.integers(0, ny - 1))
    volume = ground(nx, ny, slice(row, row + 6))
    (x0, x1), (y0, y1) = edges
    tile = street_tile(volume, hole(volume, slice(x0, x1), slice(y0, y1)), GRID, "native")
    assert (tile is None) == (x1 - x0 > 40 or y1 - y0 > 30)
    if tile is not None:
        _, x, y = tile
        assert 0 <= x.start <= x0 < x1 <= x.stop <= nx
        assert 0 <= y.start <= y0 < y1 <= y.stop <= ny
