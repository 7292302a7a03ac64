from __future__ import annotations

from dataclasses import replace

import numpy as np
from spoiled_scenes import noisy, shuffled

from dyncity.metrics.neighbours import bev_maps, copies, nearest
from dyncity.scene import OccupancyScene


def halves(scenes: list[OccupancyScene]) -> tuple[list[OccupancyScene], list[OccupancyScene]]:
    return scenes[:8], scenes[8:]


def test_other_real_scenes_are_neither_copies_nor_repeats(
    real: list[OccupancyScene], other_real: list[OccupancyScene]
) -> None:
    held_out, samples = halves(other_real)
    copied, repeated = copies(samples, real, held_out)
    assert not copied.any()
    assert not repeated.any()


def test_a_copy_a_mirrored_one_and_a_shuffled_one_are_found(
    real: list[OccupancyScene], other_real: list[OccupancyScene]
) -> None:
    held_out, samples = halves(other_real)
    mirrored = replace(real[5], semantics=np.ascontiguousarray(real[5].semantics[:, :, ::-1]))
    same_middle = shuffled(real[7])
    same_middle.semantics[real[7].frames // 2] = real[7].semantics[real[7].frames // 2]
    copied, _ = copies([*samples, real[3], mirrored, same_middle], real, held_out)
    assert copied.tolist() == [False] * 8 + [True] * 3


def test_repeated_samples_are_found(real: list[OccupancyScene], other_real: list[OccupancyScene]) -> None:
    held_out, samples = halves(other_real)
    copied, repeated = copies([*samples, samples[2]], real, held_out)
    assert np.flatnonzero(repeated).tolist() == [2, 8]
    assert not copied.any()


def test_what_fools_it_noise_over_a_copy(real: list[OccupancyScene], other_real: list[OccupancyScene]) -> None:
    """Five per cent of noise puts something on top of every third column: other measures have to see it."""
    held_out, _ = halves(other_real)
    copied, _ = copies([noisy(real[3])], real, held_out)
    assert not copied.any()
    assert nearest(bev_maps([noisy(real[3])]), bev_maps(real))[1].tolist() == [3]


def test_distances_by_hand() -> None:
    a = np.array([[[1, 254], [2, 255]]], np.uint8)
    b = np.array([[[1, 254], [3, 5]], [[9, 9], [9, 9]]], np.uint8)
    distance, number = nearest(a, b)
    assert (distance[0], number[0]) == (0.5, 0)
    assert nearest(a, a)[0][0] == 0.0
    assert nearest(a, a, itself=True)[0][0] == 1.0
