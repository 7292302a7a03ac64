from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dyncity.config import DiTConfig, SamplingConfig
from dyncity.diffusion.exposure import Exposure, exposure_of
from dyncity.diffusion.guidance import guided
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.hexplane import rollout_shape
from dyncity.models.conditioning import ConditionBatch, encode_conditions
from dyncity.models.dit import DiT
from dyncity.presets import tiny

LATENT = (2, 8, 6, 2)
GRID = GridSpec((16, 12, 4), (1.0, 1.0, 1.0), (-8.0, -6.0, -1.0), 5.0)


def model(predicts: str) -> DiT:
    torch.manual_seed(0)
    dit = DiT(DiTConfig(width=32, depth=2, heads=4, patch=2, objective="flow", predicts=predicts), 3, LATENT, frames=4)
    for parameter in dit.parameters():  # adaLN-Zero answers zero until it has learned something
        parameter.data += 0.05 * torch.randn_like(parameter)
    return dit.eval()


def conditions(b: int) -> ConditionBatch:
    return encode_conditions(["left"] * b, [np.zeros((4, 3))] * b, 4, GRID, (2, 2))


@pytest.mark.parametrize("predicts", ["data", "velocity"])
def test_the_data_that_is_answered_is_that_of_the_level_told(predicts: str) -> None:
    dit, x = model(predicts), torch.randn(2, 3, *rollout_shape(LATENT))
    at, told = torch.full((2,), 500.0), torch.full((2,), 600.0)
    velocity = guided(dit, conditions(2), 3.0, exposure=Exposure(0.2, (0.0, 1.0)))(x, at)
    expected = x - 0.6 * guided(dit, conditions(2), 3.0)(x, told)
    torch.testing.assert_close(x - 0.5 * velocity, expected, rtol=1e-4, atol=1e-5)


def test_it_keeps_to_its_interval_and_to_the_samples_that_it_is_for() -> None:
    dit, x, time = model("data"), torch.randn(2, 3, *rollout_shape(LATENT)), torch.full((2,), 500.0)
    plain = guided(dit, conditions(2), 3.0)(x, time)
    outside = guided(dit, conditions(2), 3.0, exposure=Exposure(0.2, (0.6, 1.0)))(x, time)
    torch.testing.assert_close(outside, plain)
    one = torch.tensor([1.0, 0.0])
    some = guided(dit, conditions(2), 3.0, strength=one, exposure=Exposure(0.2, (0.0, 1.0)))(x, time)
    assert not torch.allclose(some[0], plain[0])
    torch.testing.assert_close(some[1], plain[1])


def test_nobody_is_told_more_than_noise() -> None:
    told = 0.95 * Exposure(0.2, (0.0, 1.0)).told(0.95, torch.ones(1))
    torch.testing.assert_close(told, torch.ones(1))


def test_no_excess_is_none_and_ddpm_has_none() -> None:
    assert exposure_of(SamplingConfig()) is None
    assert exposure_of(SamplingConfig(excess=0.1)) == Exposure(0.1, (0.0, 1.0))
    config = tiny()
    dit = replace(config.dit, objective="ddpm", predicts="velocity")
    sampling = replace(config.sampling, sampler="ancestral", excess=0.1)
    with pytest.raises(InputError, match=r"sampling.excess: found 0.1 with dit.objective = ddpm; set it to 0"):
        replace(config, dit=dit, sampling=sampling)
