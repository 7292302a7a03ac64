from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_models import small_config
from spoiled_scenes import noisy, shuffled, spliced

from dyncity.conditions import Conditions
from dyncity.grid import GridSpec
from dyncity.metrics.distribution import class_histogram, jensen_shannon
from dyncity.metrics.ego_path import ego_path
from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.city import ProceduralCity


@pytest.fixture(scope="module")
def scenes() -> list[OccupancyScene]:
    city = ProceduralCity(small_config())
    return [city.generate([SceneSpec(i, 3, Conditions("forward"))])[0] for i in range(4)]


def test_the_simulated_ego_drives_on_the_road_through_nobody(scenes: list[OccupancyScene]) -> None:
    for scene in scenes:
        drivable, clear = ego_path(scene)
        assert drivable > 0.95
        assert clear == 1.0


def test_a_car_in_the_way_and_a_lawn_under_the_wheels_are_seen(scenes: list[OccupancyScene]) -> None:
    scene = scenes[0]
    x, y, _ = (i // 2 for i in scene.grid.shape)
    scene.semantics[1, x, y, 2] = NATIVE.id("car")
    scene.semantics[:, :, :, 1] = NATIVE.id("terrain")
    drivable, clear = ego_path(scene)
    assert drivable == 0.0
    assert clear == pytest.approx(1 - 1 / scene.frames)


def test_the_ground_is_what_lies_below_the_road_surface_as_far_as_it_is_known(make_scene) -> None:  # type: ignore[no-untyped-def]
    """Voxels end at the height of the road. Of those below the ego half are road, a quarter lawn, a quarter unknown."""
    grid = GridSpec((16, 16, 2), (1.1, 0.9, 1.0), (-8.8, -7.2, -1.0), 5.0)
    semantics = np.zeros((1, *grid.shape), np.uint8)
    semantics[..., 0] = NATIVE.id("road")
    semantics[0, 8, :, 0], semantics[0, 9, :, 0] = NATIVE.id("terrain"), 255
    scene = make_scene(frames=1, grid=grid, semantics=semantics)
    assert ego_path(scene) == (pytest.approx(2 / 3), 1.0)
    semantics[..., 0] = 255
    drivable, clear = ego_path(scene)
    assert np.isnan(drivable)
    assert clear == 1.0


def test_the_ego_path_notices_noise_and_another_place_but_no_order(
    real: list[OccupancyScene], other_real: list[OccupancyScene]
) -> None:
    def path(scenes: list[OccupancyScene]) -> tuple[float, float]:
        drivable, clear = np.array([ego_path(scene) for scene in scenes]).mean(axis=0)
        return float(drivable), float(clear)

    drivable, clear = path([noisy(scene) for scene in real])
    assert drivable < 0.99
    assert clear < 0.9
    aside = [replace(scene, semantics=np.roll(scene.semantics, 8, axis=2)) for scene in real]
    assert path(aside)[0] < 0.5
    assert path([shuffled(scene) for scene in real]) == pytest.approx(path(real))
    assert path([spliced(a, b) for a, b in zip(real, other_real, strict=True)]) == pytest.approx((1.0, 1.0))


def test_histograms_ignore_unknown_voxels(make_scene) -> None:  # type: ignore[no-untyped-def]
    scene = make_scene()
    scene.semantics[:] = 255
    scene.semantics[0, 0, 0, :2] = [3, 4]
    np.testing.assert_allclose(class_histogram([scene], 29)[[3, 4]], 0.5)


def test_divergence_is_0_for_equal_and_1_for_disjoint() -> None:
    p, q = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.5, 0.5])
    assert jensen_shannon(p, p) == 0
    assert jensen_shannon(p, q) == pytest.approx(1)
    assert jensen_shannon(p, (p + q) / 2) == pytest.approx(jensen_shannon((p + q) / 2, p))
