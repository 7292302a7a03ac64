"""Where tracked agents are in every frame, and which of them ever leave their place."""

from __future__ import annotations

import numpy as np
import pytest

from dyncity.grid import GridSpec
from dyncity.scene import Boxes, OccupancyScene
from exporters.motion import moving_tracks, track_poses

GRID = GridSpec((10, 10, 2), (0.4, 0.4, 0.4), (-2.0, -2.0, 0.0), 5.0)
CAR = 17


def scene_of(ways: dict[int, list[float]], **changes) -> OccupancyScene:
    """Agents whose boxes stand at x, frame by frame; the ego drives 1 m a frame, so its frame is not the world."""
    frames = max(map(len, ways.values()))
    rows = [(t, track, x) for track, way in ways.items() for t, x in enumerate(way)]
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, 0, 3] = np.arange(frames)
    fields = {
        "scene_id": "s",
        "semantics": np.zeros((frames, *GRID.shape), np.uint8),
        "poses": poses,
        "grid": GRID,
        "taxonomy": "native",
        "timestamps_us": np.arange(frames, dtype=np.int64),
        "boxes": Boxes(
            frame=np.array([row[0] for row in rows], np.int32),
            track=np.array([row[1] for row in rows], np.int32),
            label=np.full(len(rows), CAR, np.uint8),
            center=np.array([(row[2], 0.0, 0.0) for row in rows], np.float32),
            size=np.ones((len(rows), 3), np.float32),
            yaw=np.full(len(rows), 0.5, np.float32),
        ),
    }
    return OccupancyScene(**(fields | changes))


@pytest.mark.parametrize(
    ("way", "moves"),
    [([3.0, 3.2, 3.4], False), ([3.0, 3.3, 3.6], True), ([3.0, 4.0, 3.0], True), ([3.0, 3.4, 2.6], False)],
    ids=["fidgets", "drives off", "comes back", "to both sides"],
)
def test_who_is_ever_half_a_metre_from_where_it_first_was_moves(way, moves):
    moving = moving_tracks(scene_of({7: way, 9: [1.0] * 3}))
    assert moving[7] == moves
    assert np.flatnonzero(moving).tolist() == ([7] if moves else [])


def test_poses_are_those_of_the_boxes_and_nan_where_there_is_none():
    poses = track_poses(scene_of({7: [3.0, 4.0], 9: [1.0] * 3}))
    assert set(poses) == {7, 9}
    assert poses[7][:2, 0, 3].tolist() == [3.0, 4.0]
    np.testing.assert_allclose(poses[7][0, :2, 0], [np.cos(0.5), np.sin(0.5)])
    assert np.isnan(poses[7][2]).all()


@pytest.mark.parametrize(("later", "moves"), [((5, 6), False), ((7,), True)], ids=["1.5 voxels", "3 voxels"])
def test_tracks_known_by_their_voxels_alone_have_to_move_two_voxels(later, moves):
    instances = np.zeros((2, *GRID.shape), np.uint16)
    instances[0, 4, 4, 0] = 5
    instances[1, later, 4, 0] = 5
    poses = np.tile(np.eye(4), (2, 1, 1))
    scene = scene_of({7: [0.0, 0.0]}, instances=instances, boxes=None, poses=poses)
    travel = 0.4 * (np.mean(later) - 4)
    assert track_poses(scene)[5][:, 0, 3] == pytest.approx([-0.2, travel - 0.2])
    assert moving_tracks(scene)[5] == moves
    poses[1, 0, 3] = -travel  # the ego goes the other way: nothing moved but the ego
    assert not moving_tracks(scene_of({7: [0.0, 0.0]}, instances=instances, boxes=None, poses=poses))[5]
