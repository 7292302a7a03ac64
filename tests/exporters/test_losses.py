"""What a tree says that it lost: voxels outside of its grid, classes that are one to it."""

from __future__ import annotations

import numpy as np
import pytest

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE, label_map
from exporters.losses import told, voxels_covered
from exporters.trees import export_tree

ROAD, MARKING, CONE = (NATIVE.id(name) for name in ("road", "lane_marking", "traffic_cone"))


def scene(poses: np.ndarray, anchor: int | None = None) -> OccupancyScene:
    """A road of 10 m along x at y = 0.5, two cells of it marked, a cone beyond it, unknown elsewhere at its end."""
    semantics = np.zeros((len(poses), 12, 12, 2), np.uint8)
    semantics[:, :10, 6, 0] = ROAD
    semantics[:, 4:6, 6, 0] = MARKING
    semantics[:, 3, 8, 0] = CONE
    semantics[:, 11] = UNKNOWN
    return OccupancyScene(
        scene_id="s",
        semantics=semantics,
        poses=poses,
        grid=GridSpec((12, 12, 2), (1.0, 1.0, 1.0), (-6.0, -6.0, 0.0), 10.0),
        taxonomy="native",
        timestamps_us=np.arange(len(poses)) * 100_000,
        anchor=anchor,
    )


def moved(*shifts: float) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(shifts), 1, 1))
    poses[:, 0, 3] = shifts
    return poses


def test_voxels_are_in_the_tree_where_their_centres_are():
    half = GridSpec((6, 12, 2), (1.0, 1.0, 1.0), (0.0, -6.0, 0.0), 10.0)
    found = voxels_covered(scene(moved(0.0, 3.0)), half)
    assert found == {"road": [8, 8], "lane_marking": [0, 4], "traffic_cone": [0, 2]}


def test_a_grid_that_stands_in_the_world_is_seen_from_where_the_ego_is():
    half = GridSpec((6, 12, 2), (1.0, 1.0, 1.0), (0.0, -6.0, 0.0), 10.0)
    found = voxels_covered(scene(moved(0.0, -3.0), anchor=0), half)
    # In the second frame the ego is 3 m back: voxels from x = -3 on are ahead of it, up to 6 m.
    assert found == {"road": [4 + 4, 4 + 4], "lane_marking": [2, 2], "traffic_cone": [1, 1]}


def test_a_table_tells_what_is_outside_and_which_classes_are_one():
    voxels = [{"road": [30, 10], "lane_marking": [10, 0], "car": [40, 0]}, {"road": [10, 0], "traffic_cone": [10, 0]}]
    assert told(voxels, "native", label_map("native", "semantickitti")) == [
        ("outside its grid", "9.09 % of the occupied voxels"),
        ("one class", "road, lane_marking: 50 % of those inside"),
        ("no class", "traffic_cone: 10 % of those inside"),
    ]
    assert told([{"car": [5, 0]}], "native", label_map("native", "carlasc")) == []
    assert told([{}], "native", label_map("native", "carlasc")) == []


@pytest.mark.parametrize(("format", "expected"), [("occ3d-waymo", True), ("kitti-boxes", False)])
def test_an_export_tells_its_losses_and_so_does_one_that_was_complete(tmp_path, make_corpus, format, expected):
    corpus = make_corpus(2)
    losses = export_tree(corpus, format, tmp_path / "a").losses
    assert bool(losses) is expected
    assert all(heading in ("outside its grid", "one class", "no class") for heading, _ in losses)
    assert export_tree(corpus, format, tmp_path / "a", resume=True).losses == losses
