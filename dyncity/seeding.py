"""The only place where random streams are derived: (root seed, scene index, purpose) -> generator."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from dyncity.errors import InputError


class Purpose(IntEnum):
    """What a stream is for. Numbers are part of the bytes we promise: append, never renumber."""

    CONDITIONS = 1
    CITY = 2
    TRAFFIC = 3
    EGO = 4
    LATENT_NOISE = 5
    SAMPLER_NOISE = 6
    TRAIN_BATCH = 7
    TRAIN_NOISE = 8
    TRAIN_DROP = 9
    WEIGHTS = 10
    TRAIN_GIVEN = 11
    CHUNK = 12
    SENSOR = 13
    CLIP_ORDER = 14
    JOIN_DRAWS = 15


def check_seed(seed: int) -> int:
    """The seed itself, or InputError when it is not in [0, 2^63)."""
    if not 0 <= seed < 2**63:
        raise InputError("--seed", f"found {seed}", "give a whole number from 0 to 2^63 - 1")
    return seed


def stream(seed: int, index: int, purpose: Purpose) -> np.random.Generator:
    """An independent, counter-based random stream.

    Philox is keyed by (seed, index) and its counter starts at a block of its own for each purpose, so
    streams never overlap and do not depend on what was drawn before, by whom, or in which order.

    Args:
        seed: the root seed of the corpus or run.
        index: the scene index or the training step.
        purpose: what the numbers are for.
    """
    key = np.array([check_seed(seed), index], dtype=np.uint64)
    counter = np.array([0, 0, 0, int(purpose)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
