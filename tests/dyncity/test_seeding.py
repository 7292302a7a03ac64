from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity.errors import InputError
from dyncity.seeding import Purpose, stream


def test_recorded_numbers() -> None:
    """The numbers are part of the bytes that a corpus promises: they may never change."""
    drawn = stream(7, 3, Purpose.CITY).integers(0, 2**32, 3).tolist()
    assert drawn == [4246668231, 1542838726, 257299860]


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_purposes_and_indices_give_different_streams(seed: int, index: int) -> None:
    base = stream(seed, index, Purpose.CITY).random(4)
    assert not np.array_equal(base, stream(seed, index, Purpose.TRAFFIC).random(4))
    assert not np.array_equal(base, stream(seed, index ^ 1, Purpose.CITY).random(4))
    np.testing.assert_array_equal(base, stream(seed, index, Purpose.CITY).random(4))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(InputError, match="--seed"):
        stream(seed, 0, Purpose.CITY)
