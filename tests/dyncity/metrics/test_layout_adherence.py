"""A scene obeys its own layout wholly, one that is moved less, and what is not asked does not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_models import small_config

from dyncity.anchoring import ego_windows
from dyncity.conditions import LAYOUT_CLASSES, Conditions, Layout
from dyncity.layout import layout_of
from dyncity.metrics.layout_adherence import layout_iou
from dyncity.scene import OccupancyScene, SceneSpec
from generators.procedural.city import ProceduralCity

CONFIG = small_config()


@pytest.fixture(scope="module", params=["static", "forward", "left"])
def scene(request: pytest.FixtureRequest) -> tuple[OccupancyScene, Layout]:
    world = ProceduralCity(CONFIG, frame="world").generate([SceneSpec(3, 4, Conditions(request.param))])[0]
    return ego_windows(world, CONFIG.grid), layout_of(world.semantics, "native")


def asked(scene: OccupancyScene, layout: Layout) -> OccupancyScene:
    return replace(scene, conditions=replace(scene.conditions, layout=layout))


def test_a_scene_obeys_its_own_layout(scene: tuple[OccupancyScene, Layout]) -> None:
    """But for columns that nearest-neighbour cutting moves by one."""
    own = layout_iou([asked(*scene)], CONFIG.clip_grid)
    assert own["road"] > 90
    moved = Layout(np.roll(scene[1].maps, 4, axis=3), scene[1].given)
    assert layout_iou([asked(scene[0], moved)], CONFIG.clip_grid)["road"] < own["road"]


def test_a_standing_scene_obeys_to_the_voxel() -> None:
    world = ProceduralCity(CONFIG, frame="world").generate([SceneSpec(0, 4, Conditions("static"))])[0]
    scene = asked(ego_windows(world, CONFIG.grid), layout_of(world.semantics, "native"))
    assert set(layout_iou([scene], CONFIG.clip_grid).values()) == {100.0}


def test_what_is_not_asked_does_not_count(scene: tuple[OccupancyScene, Layout]) -> None:
    some = Layout(scene[1].maps, np.array([name == "road" for name in LAYOUT_CLASSES]))
    assert layout_iou([asked(scene[0], some)], CONFIG.clip_grid).keys() == {"road"}
    assert layout_iou([scene[0]], CONFIG.clip_grid) == {}


def test_columns_of_which_nothing_is_known_do_not_count() -> None:
    world = ProceduralCity(CONFIG, frame="world").generate([SceneSpec(0, 4, Conditions("static"))])[0]
    scene = asked(ego_windows(world, CONFIG.grid), layout_of(world.semantics, "native"))
    semantics = scene.semantics.copy()
    semantics[:, : semantics.shape[1] // 2] = 255
    assert set(layout_iou([replace(scene, semantics=semantics)], CONFIG.clip_grid).values()) == {100.0}
