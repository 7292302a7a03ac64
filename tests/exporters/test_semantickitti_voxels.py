"""SemanticKITTI's voxel files, written from the scene's own voxels: the same as resampled and packed by numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from street_scene import street

from exporters.labels import frames_looked_at, frames_on_grid
from exporters.semantickitti import kitti_grid
from exporters.semantickitti_voxels import SHAPE, carrier, voxel_files


@pytest.mark.parametrize("given", [False, True], ids=["cast", "given"])
def test_voxel_files_are_the_resampled_carrier_packed(given):
    """Looked at, repeated and packed in one go or one after the other; a scan is neither invalid nor occluded."""
    rng = np.random.default_rng(3)
    scene = street(frames=2)
    seen = rng.random(scene.semantics.shape) < 0.5
    if given:
        scene = dataclasses.replace(scene, mask_lidar=(rng.random(seen.shape) < 0.7).astype(np.uint8))
    raw = rng.integers(0, 260, (2, 256)).astype(np.uint16)
    carried = carrier(scene, list(seen), raw, rng.random(65536) < 0.5)
    grid = kitti_grid(2.0)
    points = rng.uniform((-3, -28, -3), (54, 28, 5), (5000, 3))
    scanned = np.zeros(SHAPE, bool)
    index = np.floor((points - (0.0, -25.6, -2.0)) / 0.2).astype(int)
    scanned[tuple(index[((index >= 0) & (index < SHAPE)).all(axis=1)].T)] = True
    pairs = zip(frames_looked_at(carried, grid), frames_on_grid(carried, grid), strict=True)
    for (voxels, looked_at), sampled in pairs:
        files = voxel_files(voxels["instances"], voxels["mask_lidar"], looked_at, points)
        np.testing.assert_array_equal(files.label, sampled["instances"])
        invalid = (sampled["mask_lidar"] == 0) & ~scanned
        occluded = (sampled["mask_lidar"] < 2) & ~scanned
        expected = [np.packbits(mask.reshape(-1)) for mask in (scanned, invalid, occluded)]
        np.testing.assert_array_equal(files.bits, expected)
