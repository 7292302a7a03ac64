"""Sets of scenes beside real ones: the rows are the metrics' own, and a class that is wrong stands out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dyncity.metrics.fid_bev import FEATURES, PATCH, features_of, frechet_distance, patch_features
from dyncity.metrics.likeness import (
    Portrait,
    farthest_apart,
    likeness,
    likeness_by_class,
    likeness_by_command,
    portrait_of,
)
from dyncity.metrics.vehicles import mean_speed, share_that_fits
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE

CAR, ROAD = NATIVE.id("car"), NATIVE.id("road")


def without_cars(scene: OccupancyScene) -> OccupancyScene:
    return replace(scene, semantics=np.where(scene.semantics == CAR, NATIVE.free, scene.semantics))


def test_rows_are_those_of_the_metrics(real: list[OccupancyScene], other_real: list[OccupancyScene]) -> None:
    truth, other = portrait_of(real[:6]), portrait_of(other_real[:6])
    rows = truth.rows()
    assert rows["vehicles that fit, %"] == pytest.approx(100 * share_that_fits(real[:6]))
    assert rows["mean speed of moving vehicles, m/s"] == pytest.approx(mean_speed(real[:6]))
    free = np.mean([scene.semantics == NATIVE.free for scene in real[:6]])
    assert rows["free, %"] == pytest.approx(100 * free)
    found = likeness(other, truth, other)
    assert found["FID_bev"] == pytest.approx(frechet_distance(patch_features(other_real[:6]), patch_features(real[:6])))
    assert found["FID_bev / real to real"] == pytest.approx(1)
    assert found["mean speed / real"] == pytest.approx(mean_speed(other_real[:6]) / mean_speed(real[:6]))
    assert likeness(truth, truth, other)["FID_bev"] == pytest.approx(0, abs=1e-6)


def test_a_class_that_is_missing_stands_out(truth: Portrait, other: Portrait, other_real: list[OccupancyScene]) -> None:
    bare = portrait_of([without_cars(scene) for scene in other_real])
    found = likeness_by_class(bare, truth, other)
    ratios = found["FID_bev / real to real"]
    assert found["samples, %"]["car"] == 0
    assert found["real, %"]["car"] > 1
    assert max(ratios, key=lambda name: ratios[name]) == "car"
    assert ratios["car"] > 3
    assert ratios["building"] == pytest.approx(1, abs=0.01)
    assert set(found["other real, %"]) == set(ratios)
    assert "trailer" not in ratios  # there is none: chance would say everything


def test_a_class_that_is_missing_under_one_command_stands_out(
    truth: Portrait, real: list[OccupancyScene], other_real: list[OccupancyScene]
) -> None:
    bare = [without_cars(s) if s.conditions.command == "forward" else s for s in other_real]
    assert {s.conditions.command for s in real} == {"static", "forward", "left", "right"}
    found = likeness_by_command(portrait_of(bare), truth)
    apart = found["standard errors apart"]
    assert found["samples, %"]["forward: car"] == 0
    assert found["real, %"]["forward: car"] > 0.5
    assert found["samples, %"]["left: car"] > 0.5
    assert next(iter(apart)) == "forward: car"
    assert apart["forward: car"] < -3
    assert [abs(v) for v in apart.values()] == sorted((abs(v) for v in apart.values()), reverse=True)
    assert "forward: trailer" not in apart
    assert likeness_by_command(portrait_of(bare[:8]), truth) == {}, "two scenes of a command say nothing"


def test_only_what_is_far_apart_is_shown() -> None:
    rows = {"left: car": -9.0, "static: road": 4.0, "right: road": -2.9}
    commands = {"real, %": dict.fromkeys(rows, 1.0), "standard errors apart": rows}
    assert list(farthest_apart(commands)["real, %"]) == ["left: car", "static: road"]
    assert farthest_apart(commands, most=1)["standard errors apart"] == {"left: car": -9.0}
    assert farthest_apart(commands, errors=10) == farthest_apart({}) == {}


def test_scenes_without_vehicles_have_no_rows_of_them(real: list[OccupancyScene]) -> None:
    scene = real[0]
    empty = replace(scene, semantics=np.where(np.isin(scene.semantics, NATIVE.movers), ROAD, scene.semantics))
    rows = portrait_of([empty]).rows()
    assert not {"vehicles that fit, %", "mean speed of moving vehicles, m/s"} & rows.keys()
    assert rows["vehicles / occupied, %"] == 0
    assert "vehicles that fit / real" not in likeness(
        portrait_of([empty]), portrait_of(real[:2]), portrait_of(real[2:4])
    )


def test_of_scenes_without_known_patches_the_rest_is_said(real: list[OccupancyScene]) -> None:
    def riddled(scene: OccupancyScene) -> OccupancyScene:
        semantics = scene.semantics.copy()
        semantics[:, ::8, ::8] = UNKNOWN
        return replace(scene, semantics=semantics)

    logs = portrait_of([riddled(scene) for scene in real[:2]])
    rows = likeness(logs, logs, logs)
    assert "FID_bev" not in rows
    assert rows["agreement - real"] == 0
    assert likeness_by_class(logs, logs, logs) == {}


def test_the_same_scenes_twice_have_nothing_to_divide_by(real: list[OccupancyScene]) -> None:
    one = portrait_of(real[:2])
    assert likeness(one, one, one)["FID_bev"] == pytest.approx(0, abs=1e-6)


def test_features_do_not_depend_on_their_neighbours() -> None:
    patches = np.random.default_rng(0).integers(0, 5, (1100, PATCH * PATCH))
    features = features_of(patches, 5)
    assert features.shape == (1100, FEATURES)
    np.testing.assert_allclose(features_of(patches[700:703], 5), features[700:703], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features_of(patches == 3, 2)[:5], features_of(patches[:5] == 3, 2), rtol=1e-4, atol=1e-5)
