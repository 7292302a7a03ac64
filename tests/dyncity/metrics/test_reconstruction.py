from __future__ import annotations

import numpy as np
import pytest

from dyncity.metrics.reconstruction import class_iou, confusion, mapped, mean_iou
from dyncity.taxonomy import CARLASC, NATIVE, label_map


def test_iou_by_hand() -> None:
    truth = np.array([0, 1, 1, 1, 2, 255], np.uint8)
    guess = np.array([0, 1, 1, 2, 2, 1], np.uint8)
    iou = class_iou(confusion(truth, guess, 4))
    np.testing.assert_allclose(iou[:3], [1, 2 / 3, 1 / 2])
    assert np.isnan(iou[3])


def test_the_mean_leaves_out_free_and_absent_classes() -> None:
    truth = np.array([0, 0, 1, 2], np.uint8)
    guess = np.array([1, 0, 1, 2], np.uint8)
    matrix = confusion(truth, guess, len(CARLASC))
    assert mean_iou(matrix, CARLASC) == pytest.approx((0.5 + 1.0) / 2)


def test_a_class_that_is_only_guessed_has_no_iou() -> None:
    """It is absent from the truth: an IoU of 0 would pull the mean of a set down for what is not in it."""
    iou = class_iou(confusion(np.array([1, 1], np.uint8), np.array([1, 2], np.uint8), 3))
    assert iou[1] == 0.5
    assert np.isnan(iou[[0, 2]]).all()


def test_unknown_truth_never_counts() -> None:
    truth = np.full(10, 255, np.uint8)
    assert confusion(truth, np.zeros(10, np.uint8), 5).sum() == 0
    assert np.isnan(mean_iou(confusion(truth, truth, len(CARLASC)), CARLASC))


def test_mapping_a_matrix_is_mapping_the_voxels() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, len(NATIVE), (2, 5000)).astype(np.uint8)
    table = label_map("native", "carlasc")
    direct = confusion(table[truth], table[guess], len(CARLASC))
    np.testing.assert_array_equal(mapped(confusion(truth, guess, len(NATIVE)), table, len(CARLASC)), direct)
