"""Settings of what is decoded that make no sense are refused by name, with what would do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dyncity.errors import InputError
from dyncity.presets import preset
from generators.sampling_checked import check_sampling

SAMPLING = preset("tiny").sampling


def test_those_of_the_preset_are_fine() -> None:
    assert check_sampling(SAMPLING, "flow") is SAMPLING


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("smallest_vehicle", (4.0, -1.0, 1.0), "give length, width and height, 0 to 100 metres"),
        ("smallest_piece", 1001, "give 0 to 1000 voxels"),
        ("widest_gap", 10.1, "give 0 to 10 metres"),
        ("widest_gap", math.nan, "give 0 to 10 metres"),
        ("longest_jog", -0.8, "give 0 to 100 metres"),
        ("longest_jog", math.inf, "give 0 to 100 metres"),
        ("longest_jog", math.nan, "give 0 to 100 metres"),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, value: object, fix: str) -> None:
    with pytest.raises(InputError, match=rf"sampling\.{name}: found .*; {fix}$"):
        check_sampling(replace(SAMPLING, **{name: value}), "flow")
