from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dyncity.diffusion.ddpm import add_noise, ancestral, ddim, dpmpp_2m, linear_schedule, respaced_schedule
from dyncity.diffusion.flow import ab2, euler, heun
from dyncity.errors import InputError

SPREAD, CENTRE = 0.3, 0.7


@given(st.integers(1, 1000))
def test_respacing_keeps_the_noise_levels_of_the_chain(steps: int) -> None:
    whole, short = linear_schedule(), respaced_schedule(steps)
    assert len(set(short.timesteps)) == steps
    np.testing.assert_array_equal(short.alphas_cumprod, whole.alphas_cumprod[short.timesteps])
    np.testing.assert_allclose(np.cumprod(1 - short.betas), short.alphas_cumprod, rtol=1e-9)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_chain_of_impossible_length_is_refused(steps: int) -> None:
    with pytest.raises(InputError, match="--steps"):
        respaced_schedule(steps)


def exact_noise(x: Tensor, time: Tensor) -> Tensor:
    """The best prediction of the noise where the data is a Gaussian; variance in the middle of its bounds."""
    left = torch.from_numpy(linear_schedule().alphas_cumprod).float()[time.long()][:, None, None, None]
    total = left * SPREAD**2 + 1 - left
    noise = (x - left.sqrt() * CENTRE) * (1 - left).sqrt() / total
    return torch.cat([noise, torch.zeros_like(noise)], dim=1)


def exact_velocity(x: Tensor, time: Tensor) -> Tensor:
    t = time[:, None, None, None] / 1000
    total = (1 - t) ** 2 * SPREAD**2 + t**2
    return (t - (1 - t) * SPREAD**2) * (x - (1 - t) * CENTRE) / total - CENTRE


def solutions(steps: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    noise, schedule = torch.randn(8, 1, 32, 32), respaced_schedule(steps)
    return {
        "ancestral": ancestral(exact_noise, noise, schedule, lambda i: torch.randn(noise.shape)),
        "ddim": ddim(exact_noise, noise, schedule),
        "dpmpp_2m": dpmpp_2m(exact_noise, noise, schedule),
        "euler": euler(exact_velocity, noise, steps),
        "heun": heun(exact_velocity, noise, steps),
        "ab2": ab2(exact_velocity, noise, steps),
        "euler, shifted": euler(exact_velocity, noise, steps, 2.0),
        "heun, shifted": heun(exact_velocity, noise, steps, 2.0),
        "ab2, shifted": ab2(exact_velocity, noise, steps, 2.0),
    }


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp_2m", "euler", "heun", "ab2"])
def test_every_sampler_finds_the_distribution_of_the_data(sampler: str) -> None:
    drawn = solutions(100)[sampler]
    assert abs(float(drawn.mean()) - CENTRE) < 0.03
    assert abs(float(drawn.std()) - SPREAD) < 0.03


def test_second_order_needs_fewer_steps() -> None:
    few, many = solutions(10), solutions(200)
    for first, second, reference in (
        ("euler", "heun", "heun"),
        ("euler", "ab2", "heun"),
        ("ddim", "dpmpp_2m", "dpmpp_2m"),
    ):
        errors = [(few[name] - many[reference]).square().mean() for name in (first, second)]
        assert errors[1] < 0.5 * errors[0]


def test_noise_is_added_as_the_schedule_says() -> None:
    data, noise = torch.full((2, 1, 2, 2), 3.0), torch.full((2, 1, 2, 2), -1.0)
    x = add_noise(data, noise, torch.tensor([0, 999]), linear_schedule())
    left = linear_schedule().alphas_cumprod[[0, 999]]
    expected = 3 * np.sqrt(left) - np.sqrt(1 - left)
    np.testing.assert_allclose(x[:, 0, 0, 0].numpy(), expected, rtol=1e-5)
