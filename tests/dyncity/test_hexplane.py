from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dyncity.hexplane import PLANES, plane_shapes, planes_of, rollout, rollout_mask, rollout_shape

LATENTS = st.tuples(*(st.integers(1, 6) for _ in range(4)))


@given(LATENTS)
def test_the_rollout_is_undone_exactly(latent: tuple[int, int, int, int]) -> None:
    planes = {p: torch.randn(2, 3, *shape) for p, shape in plane_shapes(latent).items()}
    square = rollout(planes)
    assert square.shape[-2:] == rollout_shape(latent)
    again = planes_of(square, latent)
    for p in PLANES:
        torch.testing.assert_close(again[p], planes[p], rtol=0, atol=0)


@given(LATENTS)
def test_the_mask_covers_the_planes_and_nothing_else(latent: tuple[int, int, int, int]) -> None:
    ones = {p: torch.ones(1, 1, *shape) for p, shape in plane_shapes(latent).items()}
    torch.testing.assert_close(rollout_mask(latent), rollout(ones))


def test_where_the_planes_lie() -> None:
    """Rows [x | t | z], columns [y | z | t], as published."""
    shapes = plane_shapes((1, 2, 3, 4))
    square = rollout({p: torch.full((1, 1, *shapes[p]), float(i + 1)) for i, p in enumerate(PLANES)})[0, 0]
    assert square.shape == (7, 8)
    assert (square[:2, :3] == 1).all()  # xy
    assert (square[:2, 3:7] == 2).all()  # xz
    assert (square[3:, :3] == 3).all()  # yz, transposed
    assert (square[:2, 7] == 4).all()  # tx, transposed
    assert (square[2, :3] == 5).all()  # ty
    assert (square[2, 3:7] == 6).all()  # tz
    assert (square[3:, 3:] == 0).all()
    assert square[2, 7] == 0
