"""Boxes around the voxels of tracks, against boxes that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dyncity.conditions import poses_from_trajectory
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.boxes_from_instances import boxes_from_instances

GRID = GridSpec((16, 12, 6), (0.5, 0.5, 0.5), (-4.0, -3.0, -1.0), 5.0)
ROAD, CAR, TRUCK = 1, 17, 18


def scene_of(part: tuple[slice, ...], **changes) -> OccupancyScene:
    """Track 7 in the second of two frames; in between the ego drives 2 m on and turns left by a right angle."""
    semantics, instances = np.full((2, *GRID.shape), ROAD, np.uint8), np.zeros((2, *GRID.shape), np.uint16)
    instances[1][part], semantics[1][part] = 7, CAR
    fields = {
        "scene_id": "s",
        "semantics": semantics,
        "poses": poses_from_trajectory(np.array([[0.0, 0, 0], [2.0, 0, np.pi / 2]])),
        "grid": GRID,
        "taxonomy": "native",
        "timestamps_us": np.arange(2, dtype=np.int64),
        "instances": instances,
    }
    return OccupancyScene(**(fields | changes))


@pytest.mark.parametrize(
    ("part", "center", "size", "yaw"),
    [
        # 3 x 1 x 1.5 m from x 0, y 1, z -0.5 m of the ego's frame: along the ego, which heads for the world's left.
        ((slice(8, 14), slice(8, 10), slice(1, 4)), (2.0 - 1.5, 1.5, 0.25), (3.0, 1.0, 1.5), np.pi / 2),
        # 1 x 3 m: across it, and its longer side is its length all the same.
        ((slice(8, 10), slice(2, 8), slice(1, 4)), (2.0 + 0.5, 0.5, 0.25), (3.0, 1.0, 1.5), 0.0),
    ],
    ids=["along the ego", "across it"],
)
def test_boxes_lie_in_the_world_with_the_longer_side_ahead(part, center, size, yaw):
    boxes = boxes_from_instances(scene_of(part))
    assert (boxes.frame.tolist(), boxes.track.tolist(), boxes.label.tolist()) == ([1], [7], [CAR])
    np.testing.assert_allclose(boxes.center[0], center, atol=1e-6)
    np.testing.assert_allclose(boxes.size[0], size, atol=1e-6)
    assert np.cos(2 * (boxes.yaw[0] - yaw)) == pytest.approx(1)  # ahead and back are not told apart


def test_in_a_world_fixed_grid_the_anchors_pose_places_them():
    part = (slice(8, 14), slice(8, 10), slice(1, 4))
    boxes = boxes_from_instances(scene_of(part, anchor=0))
    np.testing.assert_allclose(boxes.center[0], (1.5, 1.5, 0.25), atol=1e-6)
    assert np.cos(2 * boxes.yaw[0]) == pytest.approx(1)


def test_a_box_is_of_the_class_that_most_of_its_voxels_are_of_and_no_instances_make_no_boxes():
    scene = scene_of((slice(8, 14), slice(8, 10), slice(1, 4)))
    scene.semantics[1, 8:10, 8:10, 1:4] = TRUCK
    assert boxes_from_instances(scene).label.tolist() == [CAR]
    scene.semantics[1, 8:12, 8:10, 1:4] = TRUCK
    assert boxes_from_instances(scene).label.tolist() == [TRUCK]
    assert len(boxes_from_instances(replace(scene, instances=None))) == 0
