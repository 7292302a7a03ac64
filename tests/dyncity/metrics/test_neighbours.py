from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from spoiled_scenes import noisy, spliced

from dyncity.metrics.neighbours import bev_maps, copied, nearest, repeated
from dyncity.scene import OccupancyScene


@dataclass(frozen=True)
class Maps:
    training: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    samples: NDArray[np.uint8]


@pytest.fixture(scope="module")
def maps(real: list[OccupancyScene], other_real: list[OccupancyScene]) -> Maps:
    """The samples are honest: real scenes that are neither training nor held out."""
    return Maps(bev_maps(real), bev_maps(other_real[:8]), bev_maps(other_real[8:]))


def test_other_real_scenes_are_neither_copies_nor_repeats(maps: Maps) -> None:
    assert not copied(maps.samples, maps.training, maps.held_out).any()
    assert not repeated(maps.samples, maps.held_out).any()


def test_copies_are_found_also_mirrored_or_with_another_drive(maps: Maps, real: list[OccupancyScene]) -> None:
    mirrored = replace(real[5], semantics=np.ascontiguousarray(real[5].semantics[:, :, ::-1]))
    driven_on = spliced(real[7], real[7])
    driven_on.semantics[5:] = real[6].semantics[5:]
    suspects = np.concatenate([maps.samples, bev_maps([real[3], mirrored, driven_on])])
    assert copied(suspects, maps.training, maps.held_out).tolist() == [False] * 8 + [True] * 3


def test_repeated_samples_are_found_and_are_no_copies(maps: Maps) -> None:
    suspects = np.concatenate([maps.samples, maps.samples[2:3]])
    assert np.flatnonzero(repeated(suspects, maps.held_out)).tolist() == [2, 8]
    assert not copied(suspects, maps.training, maps.held_out).any()


def test_what_fools_it_is_noise_over_a_copy(maps: Maps, real: list[OccupancyScene]) -> None:
    """Five per cent of noise puts something on top of every third column: other measures have to see it."""
    suspect = bev_maps([noisy(real[3])])
    assert not copied(suspect, maps.training, maps.held_out).any()
    assert nearest(suspect, maps.training)[1].tolist() == [3]


def test_distances_by_hand() -> None:
    a = np.array([[[1, 254], [2, 255]]], np.uint8)
    b = np.array([[[1, 254], [3, 5]], [[9, 9], [9, 9]]], np.uint8)
    distance, number = nearest(a, b)
    assert (distance[0], number[0]) == (0.5, 0)
    assert nearest(a, a)[0][0] == 0.0
    assert nearest(a, a, itself=True)[0][0] == 1.0
