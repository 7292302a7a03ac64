"""Of several draws the one is kept that goes on best from what is known; alone, a scene is what it is in company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_models import small_config

from dyncity.conditions import Conditions
from dyncity.errors import InputError
from dyncity.metrics.borders import border_agreement
from dyncity.regions import Prism, Region
from dyncity.scene import UNKNOWN, SceneSpec
from generators.best_joined import best_joined
from generators.diffusion import LatentDiffusion
from generators.inpainting import Inpainting
from generators.outpainting import Margins, Outpainting

SPECS = [SceneSpec(0, 1), SceneSpec(1, 1), SceneSpec(2, 1)]


def drawing(folder: Path, count: int) -> LatentDiffusion:
    return LatentDiffusion(folder / "dit", replace(small_config().sampling, join_draws=count))


def hole_in_noise(source: LatentDiffusion) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What the source draws freely, without a part in the middle."""
    known = source.volumes([SceneSpec(9, 9)], [Conditions()])[0]
    hole = np.zeros(known.shape, bool)
    hole[:, 4:-4, 4:-4] = True
    return np.where(hole, UNKNOWN, known).astype(np.uint8), hole


def test_more_draws_join_no_worse_and_one_draw_is_the_plain_one(small_models: Path) -> None:
    given, hole = hole_in_noise(drawing(small_models, 1))
    asked, holes = [Conditions(given=given)] * 3, [hole] * 3
    plain = drawing(small_models, 1).volumes(SPECS, asked)
    before = None
    for count in (1, 2, 5):
        found = best_joined(drawing(small_models, count), SPECS, asked, holes)
        for volume in found:
            np.testing.assert_array_equal(volume[~hole], given[~hole])
        agreements = np.array([border_agreement(volume, hole) for volume in found])
        if before is None:
            np.testing.assert_array_equal(found, plain)
        else:
            assert (agreements >= before).all()
        before = agreements
    assert (before > [border_agreement(volume, hole) for volume in plain]).any()


def test_a_scene_does_not_depend_on_what_is_drawn_for_others(small_models: Path) -> None:
    source = drawing(small_models, 4)
    given, hole = hole_in_noise(source)
    whole = Conditions(given=np.where(hole, 1, given).astype(np.uint8))
    none = np.zeros_like(hole)
    asked = [Conditions(given=given), whole, Conditions(given=given)]
    both = best_joined(source, SPECS, asked, [hole, none, hole])
    alone = best_joined(source, SPECS, [asked[0], whole, whole], [hole, none, none])
    np.testing.assert_array_equal(both[0], alone[0])
    np.testing.assert_array_equal(both[1], whole.given)


@pytest.mark.parametrize("count", [0, 101])
def test_a_number_of_draws_out_of_range_is_refused(small_models: Path, count: int) -> None:
    with pytest.raises(InputError, match=rf"sampling.join_draws: found {count}; give 1 to 100"):
        drawing(small_models, count)


def test_another_number_of_draws_is_another_edit(small_models: Path) -> None:
    """A run must not go on from one that drew less; scenes that are no edits are the same whatever it is."""
    region = Region((Prism(np.array([[0, 0], [9, 0], [9, 9]], float), (-np.inf, np.inf)),))
    made = [
        [
            Inpainting(small_models / "dit", settings, small_models / "ego", region).fingerprint(),
            Outpainting(small_models / "dit", settings, small_models / "ego", Margins(ahead=4.0)).fingerprint(),
            LatentDiffusion(small_models / "dit", settings).fingerprint(),
        ]
        for settings in (replace(small_config().sampling, join_draws=count) for count in (1, 4))
    ]
    assert [before == after for before, after in zip(*made, strict=True)] == [False, False, True]
