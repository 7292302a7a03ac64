from __future__ import annotations

import pytest

from dyncity.errors import InputError
from dyncity.options import made_columns


@pytest.mark.parametrize("typed", ["instances,boxes", "boxes, instances", "boxes,instances,boxes"])
def test_columns_are_one_plan_however_they_are_typed(typed: str) -> None:
    assert made_columns(typed) == ("instances", "boxes")


def test_no_columns_are_none_and_masks_are_refused() -> None:
    assert made_columns("") == ()
    with pytest.raises(InputError, match="--columns: found 'mask_lidar'; use instances, boxes"):
        made_columns("boxes,mask_lidar")
