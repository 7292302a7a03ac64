"""Training times lie where they are asked to lie, and a solver keeps the variance of what it draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dyncity.diffusion.flow import ab2, euler, logit_normal_times
from dyncity.diffusion.joining import Repeats


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


def test_a_step_is_straight_where_guidance_begins_and_at_the_end() -> None:
    """What the velocity was before it jumps says nothing of how it goes on."""

    def denoiser(x: Tensor, time: Tensor) -> Tensor:
        return torch.full_like(x, 4.0 if time[0] > 500 else time[0] / 250)

    noise = torch.ones(1, 1, 1, 1)
    # Levels 1, .75, .5, .25, 0, velocities 4, 4, 2, 1, of which only the second and the fourth have one like it before,
    # and the fourth is the last.
    assert float(ab2(denoiser, noise, 4, intervals=[(0.0, 0.5)])) == pytest.approx(1 - 0.25 * (4 + 4 + 2 + 1))
    assert float(ab2(denoiser, noise, 4)) == pytest.approx(1 - 0.25 * (4 + 4 + (2 - 1) + 1))
    five = 1 - 0.2 * (4 + 4 + 4 + (1.6 - (4 - 1.6) / 2) + 0.8)
    assert float(ab2(denoiser, noise, 5)) == pytest.approx(five)


def test_samples_whose_steps_are_taken_again_go_by_euler() -> None:
    def denoiser(x: Tensor, time: Tensor) -> Tensor:
        return x * time[:, None, None, None] / 1000

    noise = torch.ones(2, 1, 1, 1)
    repeats = Repeats(torch.tensor([True, False]), 1, (0.0, 1.0), lambda _: noise)
    mixed = ab2(denoiser, noise, 6, repeats=repeats)
    torch.testing.assert_close(mixed[:1], euler(denoiser, noise[:1], 6))
    torch.testing.assert_close(mixed[1:], ab2(denoiser, noise[1:], 6))
    assert (mixed[0] - mixed[1]).abs().max() > 1e-3
