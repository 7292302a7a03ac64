"""What a camera sees of boxes: levels of occlusion from walls at known places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from street_scene import ALIGNED, BUILDING, street

from exporters.box_occlusion import occlusion_levels

EYE = np.array([0.0, 0.0, 1.65])
CAR = np.array([[11.0, 0.0, 1.0]]), np.array([[2.0, 1.6, 1.6]])  # x 10 to 12, y -0.8 to 0.8, z 0.2 to 1.8 m


def levels(wall: tuple[slice, slice, slice] | None, yaw: float = 0.0) -> list[int]:
    """The level of the driving car of the street with a wall in place of some voxels."""
    scene = street(frames=1)
    semantics = scene.semantics.copy()
    if wall is not None:
        semantics[0][wall] = BUILDING
    return occlusion_levels(replace(scene, semantics=semantics), 0, EYE, *CAR, np.array([yaw])).tolist()


def voxels(axis: int, low: float, high: float) -> slice:
    """The voxels of the street's grid from one place to another along an axis, metres."""
    first, end = (round((value - ALIGNED.origin[axis]) / 0.4) for value in (low, high))
    return slice(first, end)


@pytest.mark.parametrize(
    ("across", "level"), [(None, 0), ((-2.0, 2.0), 3), ((-2.0, -0.4), 1), ((-2.0, 0.4), 2), ((2.0, 4.0), 0)]
)
def test_a_wall_before_a_box_hides_the_share_of_the_box_that_lies_behind_it(across, level):
    wall = None if across is None else (voxels(0, 8.4, 8.8), voxels(1, *across), voxels(2, -0.2, 3.0))
    assert levels(wall) == [level]


def test_what_lies_behind_or_within_a_box_hides_nothing_and_half_a_turn_is_all_one():
    behind = (voxels(0, 12.4, 13.2), voxels(1, -2.0, 2.0), voxels(2, -0.2, 3.0))
    assert levels(behind) == levels(None, np.pi) == [0]


def test_no_boxes_no_levels():
    none = np.zeros((0, 3), np.float32)
    assert occlusion_levels(street(frames=1), 0, EYE, none, none, np.zeros(0, np.float32)).tolist() == []
