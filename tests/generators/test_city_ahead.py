"""The city along a drive: where its tiles lie, what stands in them, what is kept."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import small_config

from dyncity.anchoring import covered
from dyncity.conditions import poses_from_trajectory
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import NATIVE
from generators.city_ahead import City, tiles_along

GRID = small_config().clip_grid
ROAD, WALL, CAR = (NATIVE.id(name) for name in ("road", "building", "car"))


def places(step: float, count: int) -> list[np.ndarray]:
    size = GRID.voxel_size[0]
    return [poses_from_trajectory(np.array([[round(k * step / size) * size, 0.0, 0.0]]))[0] for k in range(count)]


def known(drive: list[np.ndarray], tiles: list[int], clip: int) -> float:
    return float(
        np.logical_or.reduce([covered(GRID, GRID, np.linalg.inv(drive[t]) @ drive[clip]) for t in tiles]).mean()
    )


@pytest.mark.parametrize("step", [0.0, 1.6, 4.0])
def test_tiles_are_half_known_and_cover_all_clips_of_a_street(step: float) -> None:
    drive = places(step, 20)
    tiles = tiles_along(drive, GRID)
    assert tiles[0] == 0
    assert tiles == sorted(set(tiles))
    assert (len(tiles) == 1) == (step == 0.0)
    for number, tile in enumerate(tiles[1:], 1):
        assert known(drive, tiles[:number], tile) >= 0.5
        assert tile == len(drive) - 1 or known(drive, tiles[:number], tile + 1) < 0.5
    assert all(known(drive, tiles, clip) == 1.0 for clip in range(len(drive)))


def test_a_clip_far_away_is_a_tile_of_its_own() -> None:
    """A drive at 60 m/s, or on a small grid: nothing of the next clip is known."""
    assert tiles_along(places(500.0, 3), GRID) == [0, 1, 2]


def test_a_city_keeps_what_it_knew_first_and_learns_the_rest() -> None:
    city, (here, there) = City(GRID, "native"), places(8.0, 2)
    shape = (2, *GRID.shape)
    city.add(here, np.full(shape, ROAD, np.uint8))
    ahead = city.at(there)
    open_ = ahead == UNKNOWN
    assert 0 < open_.mean() < 1
    made = np.full(shape, WALL, np.uint8)
    made[1, ~open_[:, 0, 0], 3, 3] = CAR
    kept = city.kept(there, made)
    assert (kept[:, open_] == WALL).all()
    assert (kept[0, ~open_] == ROAD).all()
    assert (kept[1, ~open_[:, 0, 0], 3, 3] == CAR).all()  # what moves is not the city's
    np.testing.assert_array_equal(city.at(there), np.where(open_, WALL, ROAD))
    assert (city.at(here) != UNKNOWN).all()
