"""Layouts: what a clip shows from above, and how that reaches the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from dyncity.conditions import LAYOUT_CLASSES, Agent, Layout
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.layout import MOVING, encode_layout, layout_cells, layout_channels, layout_of, layout_on
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import TAXONOMIES, taxonomy


def test_a_column_holds_a_class_at_any_height() -> None:
    space = taxonomy("native")
    clip = np.zeros((2, 4, 4, 3), np.uint8)
    clip[:, 1, 1, 0] = space.id("crosswalk")
    clip[:, 1, 1, 2] = space.id("vegetation")  # a tree above the crossing hides nothing
    clip[1, 2, 3, 1] = space.id("bus")
    clip[0, 0, 0, 0] = UNKNOWN
    maps = layout_of(clip, "native").maps
    assert maps[LAYOUT_CLASSES.index("road"), :, 1, 1].all()
    assert maps[LAYOUT_CLASSES.index("vegetation"), :, 1, 1].all()
    assert np.argwhere(maps[LAYOUT_CLASSES.index("vehicle")]).tolist() == [[1, 2, 3]]
    assert maps.sum() == 5


@pytest.mark.parametrize("labels", sorted(TAXONOMIES))
def test_every_label_space_has_every_class_of_a_layout(labels: str) -> None:
    assert layout_of(np.zeros((1, 2, 2, 1), np.uint8), labels).given.all()


def test_an_empty_map_is_told_from_none() -> None:
    maps = np.zeros((6, 4, 8, 6), bool)
    cells = layout_cells(maps, (2, 2))
    none = encode_layout(cells, np.zeros(6, bool))
    empty = encode_layout(cells, np.arange(6) == 2)
    assert none.shape == (layout_channels(4, (2, 2)), 4, 3)
    assert not none.any()
    assert empty.sum() == 4 * 3


def test_movers_keep_their_frame_and_what_is_not_given_does_not_reach_the_model() -> None:
    maps = np.zeros((6, 4, 8, 6), bool)
    maps[MOVING, 2, 5, 0:2] = True  # a vehicle on two of the four columns of one cell in frame 2
    maps[0, :, 0, 0] = True  # road on a quarter of a cell
    cells = layout_cells(maps, (2, 2))
    assert cells[0, 0, 0] == 0.25
    vehicles = encode_layout(cells, np.arange(6) == MOVING)
    assert np.argwhere(vehicles[:-6]).tolist() == [[MOVING + 4 * 2 + column, 2, 0] for column in (2, 3)]


@given(hnp.arrays(bool, (6, 2, 6, 4)))
def test_no_column_of_a_moving_class_is_lost(maps: np.ndarray) -> None:
    cells = layout_cells(maps, (3, 2))
    assert len(cells) == layout_channels(2, (3, 2)) - 6
    moving = cells[MOVING:].reshape(2, 2, 3, 2, 2, 2)  # class, frame, column of the cell along x and y, cell
    for k, t, x, y in np.argwhere(maps[MOVING:] | True):
        assert moving[k, t, x % 3, y % 2, x // 3, y // 2] == maps[MOVING + k, t, x, y]


@pytest.mark.parametrize("shape", [(5, 1, 2, 2), (6, 2, 2)])
def test_a_layout_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="layout"):
        Layout(np.zeros(shape, bool), np.ones(6, bool))


def test_a_clip_is_asked_for_what_a_longer_layout_says_of_its_place_and_frames() -> None:
    small = GridSpec((4, 6, 2), (1.0, 1.0, 1.0), (-2.0, -3.0, 0.0), 5.0)
    wide = replace(small, shape=(12, 6, 2), origin=(-6.0, -3.0, 0.0))
    maps = np.random.default_rng(0).random((6, 5, 12, 6)) < 0.3
    whole = Layout(maps, np.ones(6, bool), wide, 2)
    there = np.eye(4)
    there[0, 3] = 3.0  # columns 7 to 10 of the layout
    part = layout_on(whole, small, there, slice(1, 4))
    assert part is not None
    np.testing.assert_array_equal(part.maps, maps[:, 1:4, 7:11])
    assert part.reach is None
    there[0, 3] = 6.0  # half of it lies beyond
    part = layout_on(whole, small, there, slice(1, 4))
    assert part is not None
    np.testing.assert_array_equal(part.maps[:, :, :2], maps[:, 1:4, 10:])
    assert part.reach is not None
    assert part.reach.tolist() == [[True] * 6] * 2 + [[False] * 6] * 2
    there[0, 3] = 40.0
    assert layout_on(whole, small, there, slice(1, 4)) is None
    agent = Agent("vehicle", (4.0, 2.0), np.zeros((1, 4)))
    beyond = layout_on(replace(whole, agents=(agent,)), small, there, slice(1, 4))
    assert beyond is not None  # where agents say who is there, there are no others
    assert beyond.reach is None
    assert not beyond.maps.any()


def test_the_model_is_told_nothing_of_cells_beyond_a_layout() -> None:
    maps, reach = np.ones((6, 2, 4, 4), bool), np.ones((4, 4), bool)
    reach[3] = False  # half of the second row of cells
    encoded = encode_layout(layout_cells(maps, (2, 2)), np.ones(6, bool), reach)
    assert (encoded[:, 0] == 1).all()
    assert not encoded[:, 1].any()
