"""Settings of sampling, checked before anything is drawn by them."""

from __future__ import annotations

from dyncity.config import SAMPLERS, SamplingConfig
from dyncity.diffusion.ddpm import TRAINED_STEPS
from dyncity.errors import InputError


def check_sampling(sampling: SamplingConfig, objective: str) -> SamplingConfig:
    """The settings themselves.

    Raises:
        InputError: a sampler that does not solve the objective, or a number out of range.
    """
    if sampling.sampler not in (fitting := SAMPLERS[objective]):
        raise InputError("--sampler", f"found {sampling.sampler!r}", f"use one of {', '.join(fitting)}")
    most = TRAINED_STEPS if objective == "ddpm" else 10_000
    if not 1 <= sampling.steps <= most:
        raise InputError("--steps", f"found {sampling.steps}", f"give 1 to {most}")
    if sampling.micro_batch < 1:
        raise InputError("--micro-batch", f"found {sampling.micro_batch}", "give at least 1")
    if not 0.0 <= sampling.cfg_scale <= 100.0:
        raise InputError("--cfg-scale", f"found {sampling.cfg_scale}", "give a scale from 0 to 100, 1 is none")
    if not 0.0 <= sampling.cfg_scale_layout <= 100.0:
        found = f"found {sampling.cfg_scale_layout}"
        raise InputError("sampling.cfg_scale_layout", found, "give a scale from 0 to 100, 0 is cfg_scale")
    if not 0 <= sampling.join_rounds <= 100:
        raise InputError("sampling.join_rounds", f"found {sampling.join_rounds}", "give 0 to 100")
    if not 1 <= sampling.join_draws <= 100:
        raise InputError("sampling.join_draws", f"found {sampling.join_draws}", "give 1 to 100")
    for name in ("cfg_interval", "coarse_interval", "skip_interval", "join_interval"):
        low, high = getattr(sampling, name)
        if not 0.0 <= low <= high <= 1.0:
            raise InputError(f"sampling.{name}", f"found {low}, {high}", "give two noise levels from 0 to 1, in order")
    if not 0.1 <= sampling.time_shift <= 10.0:
        raise InputError("sampling.time_shift", f"found {sampling.time_shift}", "give 0.1 to 10, 1 is none")
    for name in ("coarse_scale", "skip_scale"):
        if not 0.0 <= (found := getattr(sampling, name)) <= 100.0:
            raise InputError(f"sampling.{name}", f"found {found}", "give a scale from 0 to 100, 0 is none")
    if not all(0.0 <= metres <= 100.0 for metres in sampling.smallest_vehicle):
        sizes = f"found {list(sampling.smallest_vehicle)}"
        raise InputError("sampling.smallest_vehicle", sizes, "give length, width and height, 0 to 100 metres")
    if not 0.0 <= sampling.widest_gap <= 10.0:
        raise InputError("sampling.widest_gap", f"found {sampling.widest_gap}", "give 0 to 10 metres")
    if not 0.0 <= sampling.longest_jog <= 100.0:
        raise InputError("sampling.longest_jog", f"found {sampling.longest_jog}", "give 0 to 100 metres")
    if not 0 <= sampling.smallest_piece <= 1000:
        raise InputError("sampling.smallest_piece", f"found {sampling.smallest_piece}", "give 0 to 1000 voxels")
    return sampling
