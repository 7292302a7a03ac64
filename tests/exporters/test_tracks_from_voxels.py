"""Estimated tracks: who is who, who moves, and their boxes, from voxels alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from street_scene import CAR, DRIVING, PEDESTRIAN, STANDING, WALKING, street

from dyncity.conditions import poses_from_trajectory
from dyncity.datasets.corpus import open_corpus
from dyncity.grid import GridSpec
from dyncity.presets import preset
from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.taxonomy import NATIVE
from exporters.motion import moving_tracks
from exporters.tracks_from_voxels import ESTIMATED, with_tracks
from exporters.trees import export_tree
from generators.procedural.city import ProceduralCity

GRID = GridSpec((40, 40, 8), (0.8, 0.8, 0.8), (-16.0, -16.0, -1.6), 5.0)
BUS = NATIVE.id("bus")


def bare(scene: OccupancyScene) -> OccupancyScene:
    return replace(scene, instances=None, boxes=None)


def driven(semantics: np.ndarray, speed: float) -> OccupancyScene:
    """Ego-centred frames of an ego that drives straight ahead, ``speed`` metres a frame."""
    frames = len(semantics)
    steps = np.arange(frames)[:, None] * [[speed, 0.0, 0.0]]
    return OccupancyScene("s", semantics, poses_from_trajectory(steps), GRID, "native", np.arange(frames) * 200_000)


def test_each_agent_keeps_one_number_and_the_boxes_lie_where_the_true_ones_do() -> None:
    truth = street(frames=4)
    found = with_tracks(bare(truth))
    assert truth.instances is not None
    assert found.instances is not None
    assert found.boxes is not None
    numbers = {}
    for track in (DRIVING, STANDING, WALKING):
        own = np.unique(found.instances[truth.instances == track])
        assert len(own) == 1
        numbers[track] = int(own[0])
    assert ((found.instances > 0) == (truth.instances > 0)).all()
    moving = moving_tracks(found)
    assert [bool(moving[numbers[track]]) for track in (DRIVING, STANDING, WALKING)] == [True, False, False]
    assert truth.boxes is not None
    for track, label in ((DRIVING, CAR), (STANDING, CAR), (WALKING, PEDESTRIAN)):
        rows, own = truth.boxes.track == track, found.boxes.track == numbers[track]
        assert found.boxes.frame[own].tolist() == truth.boxes.frame[rows].tolist()
        assert set(found.boxes.label[own].tolist()) == {label}
        np.testing.assert_allclose(found.boxes.center[own], truth.boxes.center[rows], atol=0.05)
        np.testing.assert_allclose(found.boxes.size[own], truth.boxes.size[rows], atol=0.25)
    assert np.abs(found.boxes.yaw[found.boxes.track == numbers[DRIVING]]).max() < 0.05
    assert found.provenance["tracks"] == ESTIMATED


def test_a_parked_car_that_comes_into_the_window_bit_by_bit_stands() -> None:
    """Of its six voxels two are seen at first: their middle moves by two, the car does not."""
    semantics = np.zeros((4, *GRID.shape), np.uint8)
    semantics[..., 1] = 1
    for t in range(4):  # the ego does two voxels a frame
        semantics[t, max(0, 38 - 2 * t) : 44 - 2 * t, 10:13, 2:4] = CAR
    found = with_tracks(driven(semantics, 1.6))
    assert found.instances is not None
    assert found.boxes is not None
    assert set(np.unique(found.instances)) == {0, 1}
    assert not moving_tracks(found).any()
    assert len({tuple(row) for row in found.boxes.center.tolist()}) == 1
    assert found.boxes.center[0][0] == pytest.approx(-16 + 0.8 * 41, abs=0.01)
    assert found.boxes.size[0][0] == pytest.approx(4.8, abs=0.41)


def test_a_bus_beside_the_window_that_drives_by_moves() -> None:
    """It is cut off in all frames, and yet where it was is empty."""
    semantics = np.zeros((4, *GRID.shape), np.uint8)
    semantics[..., 1] = 1
    for t in range(4):
        semantics[t, 2 + 4 * t : 16 + 4 * t, :3, 2:6] = BUS
    found = with_tracks(driven(semantics, 0.0))
    assert moving_tracks(found)[1]
    assert found.boxes is not None
    np.testing.assert_allclose(np.diff(found.boxes.center[:, 0]), 3.2, atol=0.01)


def test_a_scene_that_says_who_is_who_stays_as_it_is() -> None:
    scene = street()
    assert with_tracks(scene) is scene
    boxed = replace(scene, instances=None)
    assert with_tracks(boxed) is boxed


def test_a_scene_without_anybody_has_empty_tracks() -> None:
    found = with_tracks(driven(np.zeros((2, *GRID.shape), np.uint8), 1.0))
    assert found.instances is not None
    assert not found.instances.any()
    assert len(found.boxes or ()) == 0


def test_in_the_procedural_city_most_voxels_get_the_right_agent_and_most_movers_are_told() -> None:
    city = ProceduralCity(preset("tiny"))
    right = total = 0
    told = np.zeros((2, 2), np.int64)
    for scene in city.generate([SceneSpec(i, 5) for i in range(6)]):
        found = with_tracks(bare(scene))
        assert scene.instances is not None
        assert found.instances is not None
        moves, thought = moving_tracks(scene), moving_tracks(found)
        for track in np.unique(scene.instances[scene.instances > 0]):
            own = found.instances[scene.instances == track]
            votes = np.bincount(own[own > 0], minlength=2)
            right, total = right + votes.max(), total + len(own)
            told[int(moves[track]), int(thought[votes.argmax()])] += len(own)
    assert right / total > 0.85
    assert told[1, 1] / told[1].sum() > 0.75
    assert told[0, 0] / told[0].sum() > 0.75


def test_shards_and_trees_of_a_corpus_without_tracks_have_them(tmp_path: Path, write_corpus) -> None:
    scene = bare(street())
    write_corpus(tmp_path / "bare", [scene])
    write_corpus(tmp_path / "asked", [scene], columns=("instances", "boxes"))
    read = next(iter(open_corpus(tmp_path / "asked").scenes()))
    np.testing.assert_array_equal(read.instances, with_tracks(scene).instances)
    assert read.provenance["tracks"] == ESTIMATED
    result = export_tree(tmp_path / "bare", "semantickitti", tmp_path / "kitti")
    assert any("estimated" in note for note in result.notes)
    labels = np.fromfile(tmp_path / "kitti/dataset/sequences/00/voxels/000000.label", "<u2")
    assert {10, 252} <= set(labels.tolist())  # a parked car, a moving one
    again = export_tree(tmp_path / "asked", "semantickitti", tmp_path / "kitti2")
    assert not any("estimated" in note for note in again.notes)
    other = np.fromfile(tmp_path / "kitti2/dataset/sequences/00/voxels/000000.label", "<u2")
    np.testing.assert_array_equal(labels, other)
