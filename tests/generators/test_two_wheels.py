"""On two wheels: flashes go, who is long enough, lasts or is at a side stays, the procedural city is as it was."""

from __future__ import annotations

import numpy as np

from dyncity.grid import GridSpec
from dyncity.presets import preset
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.city import ProceduralCity
from generators.two_wheels import without_flashes_on_two_wheels

GRID = GridSpec((32, 32, 4), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0)
BICYCLE, CYCLIST, PEDESTRIAN = (NATIVE.id(name) for name in ("bicycle", "cyclist", "pedestrian"))


def cleaned(volume: np.ndarray) -> np.ndarray:
    return without_flashes_on_two_wheels(volume, GRID, "native")


def test_flashes_go_and_whoever_is_long_enough_or_lasts_stays() -> None:
    volume = np.full((6, *GRID.shape), NATIVE.free, np.uint8)
    volume[:, 10, 10, 1:3] = PEDESTRIAN
    volume[:3, 4, 20, 1:3] = BICYCLE  # for three frames
    volume[2:4, 8:10, 20, 1:3] = CYCLIST  # as long as one
    lasting = volume.copy()
    volume[2:4, 4, 4, 1:3] = BICYCLE
    volume[5, 20, 20, 1:3] = CYCLIST
    np.testing.assert_array_equal(cleaned(volume), lasting)


def test_who_may_go_on_beyond_what_is_known_stays() -> None:
    volume = np.full((4, *GRID.shape), NATIVE.free, np.uint8)
    volume[:2, 0, 8, 1:3] = BICYCLE
    volume[:2, 20, 20, 1:3] = CYCLIST
    volume[0, 21, 20] = UNKNOWN
    np.testing.assert_array_equal(cleaned(volume), volume)


def test_the_procedural_city_is_as_it_was() -> None:
    riders = 0
    for scene in ProceduralCity(preset("tiny"), frame="world").generate([SceneSpec(i, 6) for i in range(6)]):
        before = np.isin(scene.semantics, [BICYCLE, CYCLIST])
        after = np.isin(without_flashes_on_two_wheels(scene.semantics, scene.grid, "native"), [BICYCLE, CYCLIST])
        riders += before.sum()
        assert after.sum() >= 0.95 * before.sum()
    assert riders
