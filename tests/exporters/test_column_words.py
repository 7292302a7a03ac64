"""Columns of voxels as words: which bit is which voxel, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.column_words import from_words, to_words


@pytest.mark.parametrize("layers", [1, 6, 8, 16, 32, 62, 63, 64, 65, 130])
def test_bits_are_voxels_from_the_lowest_and_come_back(layers):
    voxels = np.random.default_rng(layers).random((5, 7, layers)) < 0.4
    words = to_words(voxels)
    assert words.shape == (5, 7, (layers + 63) // 64)
    for x, y, z in np.ndindex(voxels.shape):
        assert int(words[x, y, z // 64]) >> z % 64 & 1 == voxels[x, y, z]
    assert np.bitwise_count(words).sum() == voxels.sum()
    back = from_words(words, layers)
    assert back.dtype == np.bool_
    np.testing.assert_array_equal(back, voxels)


def test_voxels_may_lie_in_any_order_in_memory():
    voxels = np.random.default_rng(0).random((16, 4, 3)) < 0.5
    np.testing.assert_array_equal(to_words(voxels.T), to_words(np.ascontiguousarray(voxels.T)))
