from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity.errors import InputError
from dyncity.grid import GridSpec


def grids() -> st.SearchStrategy[GridSpec]:
    size = st.integers(1, 12)
    edge = st.sampled_from([0.2, 0.375, 0.4, 0.8])
    low = st.sampled_from([-25.6, -2.0, 0.0, 1.0])
    return st.builds(
        GridSpec, st.tuples(size, size, size), st.tuples(edge, edge, edge), st.tuples(low, low, low), st.just(5.0)
    )


@given(grids())
def test_every_voxel_contains_its_own_centre(grid: GridSpec) -> None:
    index, inside = grid.index(grid.centers())
    assert inside.all()
    expected = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    np.testing.assert_array_equal(index, expected)


def test_messages_say_a_grid_in_words() -> None:
    grid = GridSpec((64, 64, 8), (0.8, 0.8, 0.375), (-25.6, -25.6, -0.2), 10.0)
    assert str(grid) == "64x64x8 voxels of 0.8x0.8x0.375 m from -25.6, -25.6, -0.2 m at 10 Hz"


def test_the_range_is_half_open() -> None:
    grid = GridSpec((4, 4, 4), (0.5, 0.5, 0.5), (-1.0, -1.0, -1.0), 10.0)
    _, inside = grid.index(np.array([[-1.0, -1, -1], [1.0, 0, 0], [0.999, 0.999, 0.999]]))
    np.testing.assert_array_equal(inside, [True, False, True])


def test_a_padded_grid_keeps_the_voxels_where_they_were() -> None:
    grid = GridSpec((4, 6, 2), (0.5, 0.25, 1.0), (-1.0, 0.0, -1.0), 10.0)
    wide = grid.padded((3, 2))
    np.testing.assert_allclose(wide.centers()[3:-3, 2:-2], grid.centers())


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("grid.shape", {"shape": (4, 0, 4)}),
        ("grid.voxel_size", {"voxel_size": (0.4, -1.0, 0.4)}),
        ("grid.origin", {"origin": (float("nan"), 0.0, 0.0)}),
        ("grid.frame_rate", {"frame_rate": 0.0}),
    ],
)
def test_impossible_grids_are_refused_by_field(field: str, values: dict) -> None:
    good = {"shape": (4, 4, 4), "voxel_size": (0.4,) * 3, "origin": (0.0,) * 3, "frame_rate": 10.0}
    with pytest.raises(InputError, match=field):
        GridSpec(**(good | values))
