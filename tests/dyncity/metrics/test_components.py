from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dyncity.metrics.components import columns_under, components, cut_off, with_beside

MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6))


def flooded(mask):
    """The components of a mask, one after the other, by walking from voxel to voxel."""
    left, found = {tuple(place) for place in np.argwhere(mask).tolist()}, []
    while left:
        edge, part = [min(left)], set()
        while edge:
            at = edge.pop()
            if at in left:
                left.remove(at)
                part.add(at)
                edge += [tuple(np.add(at, step).tolist()) for step in product((-1, 0, 1), repeat=3)]
        found.append(sorted(part))
    return found


@given(MASKS)
def test_components_are_what_can_be_walked_to(mask):
    assert [list(map(tuple, part.tolist())) for part in components(mask)] == flooded(mask)


@given(arrays(np.int64, st.tuples(st.integers(0, 30), st.just(3)), elements=st.integers(-4, 4)))
def test_columns_are_told_once_and_in_order(voxels):
    assert columns_under(voxels).tolist() == [list(c) for c in sorted({(x, y) for x, y, _ in voxels.tolist()})]


@given(MASKS, st.sampled_from([1, 2, 3]))
def test_what_is_beside_is_a_step_away(mask, axes):
    steps = [(0,) * (3 - axes) + step for step in product((-1, 0, 1), repeat=axes)]
    expected = np.zeros_like(mask)
    for place in np.argwhere(mask):
        for at in place + np.array(steps):
            if (at >= 0).all() and (at < mask.shape).all():
                expected[tuple(at)] = True
    before = mask.copy()
    np.testing.assert_array_equal(with_beside(mask, axes), expected)
    np.testing.assert_array_equal(mask, before)


def test_a_component_at_the_side_or_beside_what_is_unknown_is_cut_off():
    unknown = np.zeros((7, 7), bool)
    unknown[3, 3] = True
    inside = np.ones((7, 7), bool)
    inside[1:-1, 1:-1] = False
    inside[2:5, 2:5] = True
    np.testing.assert_array_equal(cut_off(unknown), inside)
