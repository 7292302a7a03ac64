"""Training times lie where they are asked to lie."""

from __future__ import annotations

import torch

from dyncity.diffusion.flow import logit_normal_times


def test_training_times_are_shifted_towards_noise() -> None:
    normal = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    middle, shifted = logit_normal_times(normal), logit_normal_times(normal, 0.8)
    assert abs(float(middle.median()) - 0.5) < 0.02
    torch.testing.assert_close(shifted.median(), torch.sigmoid(normal.median() + 0.8))
    assert ((shifted > middle) & (shifted < 1)).all()
