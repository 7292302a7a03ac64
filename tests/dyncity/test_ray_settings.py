"""What is said where Ray cannot be had."""

from __future__ import annotations

import pytest

from dyncity.ray_settings import not_joined


@pytest.mark.parametrize(
    ("address", "found", "fix"),
    [
        ("local", "Ray did not start on this machine (timed out)", "--workers 0"),
        ("auto", "no Ray at 'auto' (timed out)", "RAY_AUTH_MODE=token"),
    ],
)
def test_why_there_is_no_ray_is_one_line_that_says_what_to_do(address: str, found: str, fix: str) -> None:
    error = not_joined(address, RuntimeError("timed\n  out"))
    assert error.found == found
    assert fix in error.fix
    assert "\n" not in str(error)
