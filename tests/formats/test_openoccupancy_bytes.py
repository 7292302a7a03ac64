"""OpenOccupancy trees: rows of z, y, x, class in the LiDAR's frame, whose y is ahead and x to the right."""

from __future__ import annotations

import re

import numpy as np
import pytest
from street_scene import street
from written_tree import write_tree

from exporters.openoccupancy import OpenOccupancyTree

LIDAR = (0.94, 0.0, 1.84)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> np.ndarray:
    out = tmp_path_factory.mktemp("tree")
    (folder,), _ = write_tree(OpenOccupancyTree, out, street(frames=1))
    assert re.fullmatch(r"scene_[0-9a-f]{32}", folder)
    (path,) = (out / folder / "occupancy").iterdir()
    assert re.fullmatch(r"[0-9a-f]{32}\.npy", path.name)
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    return np.load(path, allow_pickle=False)


def voxel(x: float, y: float, z: float) -> tuple[int, int, int]:
    """z, y, x of the voxel at a place of the ego frame."""
    ahead, left, up = x - LIDAR[0], y - LIDAR[1], z - LIDAR[2]
    return int((up + 5.0) // 0.2), int((ahead + 51.2) // 0.2), int((-left + 51.2) // 0.2)


def test_rows_are_sorted_unique_and_within_the_grid(rows):
    assert rows.ndim == 2
    assert rows.shape[1] == 4
    assert (rows[:, :3] < [40, 512, 512]).all()
    flat = np.ravel_multi_index(tuple(rows[:, :3].T.astype(int)), (40, 512, 512))
    assert (np.diff(flat) > 0).all()


def test_occupied_voxels_have_the_class_of_what_is_there_and_free_ones_no_row(rows):
    found = {tuple(row[:3]): int(row[3]) for row in rows.tolist()}
    assert found[voxel(11, 0.1, 1.0)] == 4  # car
    assert found[voxel(6.1, -3.9, 1.0)] == 7  # pedestrian, on the right: x is positive there
    assert found[voxel(0.1, 10.1, 2.0)] == 15  # wall
    assert found[voxel(5.1, 0.1, 0.0)] == 11  # road
    assert voxel(3.1, 0.1, 1.0) not in found  # free
    assert voxel(0.1, -18.1, 0.0) not in found  # unknown
    assert set(found.values()) == {4, 7, 11, 13, 15}


def test_a_coarser_scene_fills_every_finer_voxel(rows):
    """The car of 2.0 x 1.6 x 1.6 m has 10 x 8 x 8 voxels, give or take one where the grids do not align."""
    found = {tuple(row[:3]) for row in rows.tolist() if row[3] == 4}
    assert abs(len(found) - 2 * 10 * 8 * 8) <= 2 * (11 * 9 * 9 - 10 * 8 * 8)
