"""DDPM with learned-range variance (Ho et al. 2020; Nichol & Dhariwal 2021), as published (paper section 4).

A model answers ``[b, 2c, h, w]``: the noise first, then where its variance lies between the two bounds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyncity.diffusion.guidance import Denoiser
from dyncity.errors import InputError

TRAINED_STEPS = 1000
_FIRST_BETA, _LAST_BETA = 1e-4, 0.02
_PIXEL = 1.0 / 255  # half the width of a bin of an 8-bit image scaled to [-1, 1]


@dataclass(frozen=True)
class Schedule:
    """Noise levels of a chain of s steps, each float64 ``[s]``.

    Attributes:
        timesteps: int64, the step of the trained chain that each stands for, ascending.
        betas: variance that each step adds.
        alphas_cumprod: share of the signal's variance that is left after it.
    """

    timesteps: NDArray[np.int64]
    betas: NDArray[np.float64]
    alphas_cumprod: NDArray[np.float64]

    @property
    def before(self) -> NDArray[np.float64]:
        """``alphas_cumprod`` one step nearer to the data; 1 for the first."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @property
    def posterior_variance(self) -> NDArray[np.float64]:
        """Variance of x_(t-1) given x_t and x_0: the lower bound of the learned one."""
        return self.betas * (1 - self.before) / (1 - self.alphas_cumprod)

    def log_variance_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper bound of the log variance; the first step, whose lower one is 0, takes the second's."""
        lower = self.posterior_variance
        lower = np.append(lower[1:2] if len(lower) > 1 else self.betas[:1], lower[1:])
        return np.log(lower), np.log(self.betas)


def linear_schedule() -> Schedule:
    """The chain that models are trained on: 1000 steps, betas linear from 1e-4 to 0.02."""
    betas = np.linspace(_FIRST_BETA, _LAST_BETA, TRAINED_STEPS, dtype=np.float64)
    return Schedule(np.arange(TRAINED_STEPS), betas, np.cumprod(1 - betas, dtype=np.float64))


def respaced_schedule(steps: int) -> Schedule:
    """A shorter chain through evenly spaced steps of the trained one, with the same noise levels there.

    Raises:
        InputError: steps outside 1 to 1000.
    """
    if not 1 <= steps <= TRAINED_STEPS:
        raise InputError("--steps", f"found {steps}", f"give 1 to {TRAINED_STEPS}")
    whole = linear_schedule()
    stride = (TRAINED_STEPS - 1) / (steps - 1) if steps > 1 else 1.0
    # Added up, not multiplied, as published: 278 chain lengths differ by one step in the middle.
    places = itertools.accumulate(itertools.repeat(stride, steps - 1), initial=0.0)
    timesteps = np.array([round(place) for place in places], dtype=np.int64)
    left = whole.alphas_cumprod[timesteps]
    return Schedule(timesteps, 1 - left / np.append(1.0, left[:-1]), left)


def _at(values: NDArray[np.float64], step: Tensor) -> Tensor:
    """Values of steps ``[b]`` as float32 ``[b, 1, 1, 1]``."""
    return torch.from_numpy(values).to(step.device)[step].float()[:, None, None, None]


def add_noise(data: Tensor, noise: Tensor, step: Tensor, schedule: Schedule) -> Tensor:
    """x_t of data ``[b, c, h, w]`` at steps ``[b]``."""
    left = schedule.alphas_cumprod
    return _at(np.sqrt(left), step) * data + _at(np.sqrt(1 - left), step) * noise


def _data_of(x: Tensor, noise: Tensor, step: Tensor, schedule: Schedule) -> Tensor:
    left = schedule.alphas_cumprod
    return _at(np.sqrt(1 / left), step) * x - _at(np.sqrt(1 / left - 1), step) * noise


def _posterior_mean(data: Tensor, x: Tensor, step: Tensor, schedule: Schedule) -> Tensor:
    left, before, betas = schedule.alphas_cumprod, schedule.before, schedule.betas
    of_data = betas * np.sqrt(before) / (1 - left)
    of_x = (1 - before) * np.sqrt(1 - betas) / (1 - left)
    return _at(of_data, step) * data + _at(of_x, step) * x


def _log_variance(answer: Tensor, step: Tensor, schedule: Schedule) -> Tensor:
    lower, upper = schedule.log_variance_bounds()
    share = (answer + 1) / 2
    return share * _at(upper, step) + (1 - share) * _at(lower, step)


def ddpm_losses(
    answer: Tensor, data: Tensor, noise: Tensor, x: Tensor, step: Tensor, schedule: Schedule, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """What a training step minimises the sum of, each ``[b]``.

    Args:
        answer: of the model for ``x``, ``[b, 2c, h, w]``.
        data, noise, x: clean rollouts, the noise, and their mixture at ``step``, ``[b, c, h, w]``.
        step: ``[b]``.
        schedule: the trained chain.
        weights: ``[b or 1, 1, h, w]`` of the cells, 0 where no plane lies.

    Returns:
        The squared error of the noise, its weighted mean, and the variational term in bits, which
        trains the variance alone and is a mean over the whole square, as published.
    """
    guess, variance = answer.chunk(2, dim=1)
    squared = ((guess - noise).square() * weights).sum((1, 2, 3)) / (weights.sum((1, 2, 3)) * data.shape[1])
    lower, _ = schedule.log_variance_bounds()
    true_mean = _posterior_mean(data, x, step, schedule)
    mean = _posterior_mean(_data_of(x, guess.detach(), step, schedule), x, step, schedule)
    log_variance = _log_variance(variance, step, schedule)
    kl = _gaussian_kl(true_mean, _at(lower, step), mean, log_variance).mean((1, 2, 3))
    likelihood = -_discretised_log_likelihood(data, mean, 0.5 * log_variance).mean((1, 2, 3))
    return squared, torch.where(step == 0, likelihood, kl) / math.log(2.0)


def _gaussian_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    spread = torch.exp(log_variance1 - log_variance2)
    return 0.5 * (-1.0 + log_variance2 - log_variance1 + spread + (mean1 - mean2).square() * (-log_variance2).exp())


def _discretised_log_likelihood(data: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of the 8-bit bin around each value of ``data`` under a Gaussian."""

    def cdf(x: Tensor) -> Tensor:  # the usual tanh approximation, which recorded numbers were made with
        return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))

    centred, inverse = data - mean, torch.exp(-log_scale)
    above, below = cdf(inverse * (centred + _PIXEL)), cdf(inverse * (centred - _PIXEL))
    tail = torch.where(data > 0.999, 1.0 - below, above - below)
    return torch.where(data < -0.999, above, tail).clamp(min=1e-12).log()


@torch.inference_mode()
def ancestral(model: Denoiser, x: Tensor, schedule: Schedule, noise: Callable[[int], Tensor]) -> Tensor:
    """Walk the chain down with the learned variance (published; no clipping).

    Args:
        model: answers ``[b, 2c, h, w]``.
        x: pure noise ``[b, c, h, w]``.
        schedule: the chain to walk.
        noise: standard normal ``[b, c, h, w]`` of the i-th step taken; the last one's is not used.
    """
    for i, index in enumerate(reversed(range(len(schedule.timesteps)))):
        answer, step = _ask(model, x, index, schedule)
        guess, variance = answer.chunk(2, dim=1)
        mean = _posterior_mean(_data_of(x, guess, step, schedule), x, step, schedule)
        x = mean
        if index > 0:
            x = mean + torch.exp(0.5 * _log_variance(variance, step, schedule)) * noise(i)
    return x


@torch.inference_mode()
def ddim(model: Denoiser, x: Tensor, schedule: Schedule) -> Tensor:
    """Deterministic steps of the same chain (Song et al. 2021, eta = 0)."""
    for index in reversed(range(len(schedule.timesteps))):
        answer, step = _ask(model, x, index, schedule)
        guess = answer.chunk(2, dim=1)[0]
        before = schedule.before
        data = _data_of(x, guess, step, schedule)
        x = _at(np.sqrt(before), step) * data + _at(np.sqrt(1 - before), step) * guess
    return x


@torch.inference_mode()
def dpmpp_2m(model: Denoiser, x: Tensor, schedule: Schedule) -> Tensor:
    """DPM-Solver++ (2M), multistep second order in the log signal-to-noise ratio (Lu et al. 2022)."""
    signal, sigma = np.sqrt(schedule.alphas_cumprod), np.sqrt(1 - schedule.alphas_cumprod)
    half_log_snr = np.log(signal / sigma)
    older: Tensor | None = None
    for index in reversed(range(len(schedule.timesteps))):
        answer, step = _ask(model, x, index, schedule)
        data = _data_of(x, answer.chunk(2, dim=1)[0], step, schedule)
        if index == 0:  # the end of the chain is the data itself
            return data
        stride = half_log_snr[index - 1] - half_log_snr[index]
        mixed = data
        if older is not None:
            ratio = (half_log_snr[index] - half_log_snr[index + 1]) / stride
            mixed = data + (data - older) / (2 * ratio)
        x = float(sigma[index - 1] / sigma[index]) * x - float(signal[index - 1] * math.expm1(-stride)) * mixed
        older = data
    return x


def _ask(model: Denoiser, x: Tensor, index: int, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """The model's answer at a step of the chain, and that step as ``[b]``."""
    time = torch.full((len(x),), float(schedule.timesteps[index]), device=x.device)
    return model(x, time), torch.full((len(x),), index, dtype=torch.int64, device=x.device)
