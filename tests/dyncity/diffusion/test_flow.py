"""Training times lie where they are asked to lie, and a solver keeps the variance of what it draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dyncity.diffusion.flow import ab2, euler, logit_normal_times


def test_training_times_are_shifted_towards_noise() -> None:
    normal = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    middle, shifted = logit_normal_times(normal), logit_normal_times(normal, 0.8)
    assert abs(float(middle.median()) - 0.5) < 0.02
    torch.testing.assert_close(shifted.median(), torch.sigmoid(normal.median() + 0.8))
    assert ((shifted > middle) & (shifted < 1)).all()


@pytest.mark.parametrize("variance", [5.0, 20.0, 50.0, 100.0, 200.0])
def test_few_steps_of_second_order_keep_variance_that_euler_loses(variance: float) -> None:
    def best_velocity(x: Tensor, time: Tensor) -> Tensor:
        t = time[:, None, None, None] / 1000
        data = variance * (1 - t) / (variance * (1 - t) ** 2 + t**2) * x
        return (x - data) / t

    noise = torch.ones(1, 1, 1, 1)  # the flow is linear: a standard deviation of noise becomes one of data
    lost, kept = (float(solve(best_velocity, noise, 11, 3.0)) ** 2 / variance for solve in (euler, ab2))
    assert lost < 0.8
    assert abs(kept - 1) < 0.07
