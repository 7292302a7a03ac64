from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from spoiled_scenes import noisy, shuffled, spliced

from dyncity.errors import InputError
from dyncity.metrics.fid_bev import fid_bev, fid_ratio, frechet_distance, patch_features
from dyncity.metrics.top_view import top_view
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import NATIVE

Features = dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def features(real: list[OccupancyScene], other_real: list[OccupancyScene]) -> Features:
    n = len(real)
    return {
        "real": patch_features(real),
        "other": patch_features(other_real),
        "noise": patch_features([noisy(s) for s in other_real]),
        "shuffled": patch_features([shuffled(s) for s in other_real]),
        "spliced": patch_features([spliced(other_real[i], other_real[(i + 4) % n]) for i in range(n)]),
        "repeated": patch_features([other_real[1]] * n),
        "copies": patch_features(real[::-1]),
    }


def ratio(features: Features, name: str) -> float:
    own = frechet_distance(features["other"], features["real"])
    return frechet_distance(features[name], features["real"]) / own


def test_a_set_is_at_no_distance_from_itself_and_order_does_not_matter(features: Features) -> None:
    own = frechet_distance(features["other"], features["real"])
    assert frechet_distance(features["real"], features["real"]) == pytest.approx(0, abs=1e-6 * own)
    assert frechet_distance(features["real"], features["other"]) == pytest.approx(own, rel=1e-6)
    assert ratio(features, "copies") == pytest.approx(0, abs=1e-6)


def test_noise_and_repeated_samples_are_noticed(features: Features) -> None:
    assert ratio(features, "noise") > 1.5
    assert ratio(features, "repeated") > 1.5


def test_it_is_blind_to_time(features: Features) -> None:
    assert ratio(features, "shuffled") == pytest.approx(1, abs=1e-6)
    assert 0.8 < ratio(features, "spliced") < 1.2


def test_the_distance_of_normal_distributions_by_hand() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4000, 3))
    a = (a - a.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(a, rowvar=False, bias=True))).T
    assert frechet_distance(a, a + np.array([3.0, 0, 4.0])) == pytest.approx(25)
    assert frechet_distance(a, a * np.array([1.0, 2.0, 5.0])) == pytest.approx(0 + 1 + 16)


def test_sets_of_different_sizes_are_refused(real: list[OccupancyScene]) -> None:
    with pytest.raises(InputError, match="as many"):
        fid_ratio(real[:3], real[:4], real[4:8])


def test_the_ratio_is_the_distance_in_shares_of_that_of_other_real_scenes(real: list[OccupancyScene]) -> None:
    one, two, three = real[:4], real[4:8], real[8:12]
    assert fid_ratio(one, two, three) == pytest.approx(fid_bev(one, two) / fid_bev(three, two))
    assert fid_ratio(three, two, three) == 1.0


def test_patches_with_unknown_columns_are_left_out(real: list[OccupancyScene]) -> None:
    semantics = real[0].semantics.copy()
    semantics[:, :1] = 255
    cut = replace(real[0], semantics=semantics)
    assert len(patch_features([cut])) == len(patch_features([real[0]])) * 3 // 4
    semantics = np.full_like(semantics, 255)
    with pytest.raises(InputError, match="patch"):
        fid_bev([replace(cut, semantics=semantics)], real[:1])


def test_the_view_from_above_looks_through_what_is_unknown(make_scene) -> None:  # type: ignore[no-untyped-def]
    scene = make_scene()
    scene.semantics[:] = 0
    scene.semantics[:, 0, 0] = [1, 7, 255, 0]
    scene.semantics[:, 1, 1] = 255
    scene.semantics[:, 2, 2] = [255, 0, 255, 255]
    view = top_view(scene)
    assert view[0, 0, 0] == 7
    assert view[0, 1, 1] == 255
    assert view[0, 2, 2] == NATIVE.free
    assert view[0, 3, 3] == NATIVE.free
