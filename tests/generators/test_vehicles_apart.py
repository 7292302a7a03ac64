"""Lumps of vehicles come apart into boxes of their sizes; what no boxes explain does not."""

from __future__ import annotations

import numpy as np
import pytest

from generators.vehicles_apart import apart

EDGE = 0.8
CAR, TRUCK = 17, 18
SIZES = {CAR: np.array([4.6, 1.9]), TRUCK: np.array([7.8, 2.4])}
AHEAD = np.array([0.0])


def block(x: int, y: int, length: int, width: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(x, x + length), np.arange(y, y + width), indexing="ij"), -1).reshape(-1, 2)


def parts(vehicles: list[tuple[np.ndarray, int]], frames: int = 8, yaws: np.ndarray = AHEAD) -> list[set]:
    """The parts of a lump of vehicles, seen in all frames, each as the set of its columns."""
    columns = np.concatenate([own for own, _ in vehicles])
    kinds = np.concatenate([np.full(len(own), kind) for own, kind in vehicles])
    found = apart(dict.fromkeys(range(frames), columns), dict.fromkeys(range(frames), kinds), SIZES, yaws, EDGE)
    return [set(map(tuple, own.tolist())) for own in found]


def held(own: np.ndarray, part: set) -> float:
    """The share of a vehicle's columns that a part has, over those of both."""
    columns = set(map(tuple, own.tolist()))
    return len(columns & part) / len(columns | part)


@pytest.mark.parametrize(("x", "y"), [(6, 0), (3, 2), (6, 1)])
def test_two_cars_that_touch_are_two(x: int, y: int) -> None:
    cars = [block(0, 0, 6, 2), block(x, y, 6, 2)]
    found = parts([(car, CAR) for car in cars])
    assert len(found) == 2
    assert not found[0] & found[1]
    for car in cars:
        assert max(held(car, part) for part in found) > 0.8


def test_a_truck_is_not_taken_for_two_cars_in_a_row() -> None:
    truck = block(0, 0, 10, 3)
    (found,) = parts([(truck, TRUCK)])
    assert held(truck, found) > 0.8


def test_what_is_seen_in_a_few_frames_belongs_to_nobody() -> None:
    """A rag behind a car, for two frames of eight, is not a second one, and not a part of the first."""
    car, rag = block(0, 0, 6, 2), block(-4, 0, 4, 2)
    both = np.concatenate([rag, car])
    columns = {t: both if t < 2 else car for t in range(8)}
    kinds = {t: np.full(len(own), CAR) for t, own in columns.items()}
    (found,) = apart(columns, kinds, SIZES, AHEAD, EDGE)
    assert held(car, set(map(tuple, found.tolist()))) == 1


def test_what_boxes_do_not_explain_stays_one() -> None:
    """A wall a column wide, a field of 20 x 20 columns of which every third is seen."""
    wall = block(0, 0, 20, 1)
    assert parts([(wall, CAR)], yaws=np.array([0.0, np.pi / 2])) == []
    field = block(0, 0, 20, 20)
    assert parts([(field[field.sum(axis=1) % 3 == 0], CAR)]) == []


@pytest.mark.parametrize("seed", range(10))
def test_parts_do_not_overlap_whatever_the_lump(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = {t: np.unique(rng.integers(0, 14, (60, 2)), axis=0) for t in range(8)}
    kinds = {t: rng.choice([CAR, TRUCK], len(own)) for t, own in columns.items()}
    found = apart(columns, kinds, SIZES, np.linspace(0, np.pi, 8, endpoint=False), EDGE)
    every = [tuple(column) for own in found for column in own.tolist()]
    assert len(every) == len(set(every))
