"""OpenOccupancy trees: the occupied voxels of a frame as rows ``[z, y, x, class]``, 0.2 m, in the LiDAR's frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import OCC3D_NUSCENES, label_map
from exporters.cameras import NUSCENES_CAMERAS
from exporters.compiled import compiled
from exporters.labels import LookedAt, frames_looked_at
from exporters.native_tree import Finished, SceneRecord, TreeFormat, TreeOptions, held_out
from exporters.nuscenes_infos import InfoFile, InfoFiles, frame_token, info_record
from exporters.sensors import HDL_32E

SHAPE = (512, 512, 40)
VOXEL_SIZE = 0.2
LOWER = (-51.2, -51.2, -5.0)
_INFOS = (InfoFile("nuscenes_occ_infos_{split}.pkl"),)


class OpenOccupancyTree:
    """Writes ``<out>/scene_<token>/occupancy/<token>.npy``, a file a frame.

    The last 15 % of the scenes (rounded; at least one of two or more) are the validation split.

    Args:
        lengths: frames of each scene.
        options: none of them.
    """

    def __init__(self, lengths: Sequence[int], options: TreeOptions | None = None) -> None:
        self.scenes = len(lengths)

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write the frames of one scene."""
        folder = f"scene_{frame_token(scene.scene_id, -1)}"
        (out / folder / "occupancy").mkdir(parents=True)
        # Classes from 1, 0 where there is no row, are carried as a mask: most voxels are mapped before there are many.
        table = label_map(scene.taxonomy, OCC3D_NUSCENES.name)
        table = np.where((table == OCC3D_NUSCENES.free) | (table == UNKNOWN), np.uint8(0), table + np.uint8(1))
        carrier = dataclasses.replace(
            scene, boxes=None, instances=None, mask_lidar=table[scene.semantics], mask_camera=None
        )
        sampled = frames_looked_at(carrier, ego_grid(scene.grid.frame_rate))
        for frame, (voxels, looked_at) in enumerate(sampled):
            path = out / folder / "occupancy" / f"{frame_token(scene.scene_id, frame)}.npy"
            np.save(path, voxel_rows(voxels["mask_lidar"], looked_at), allow_pickle=False)
        return {"folder": folder, **info_record(scene)}

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """``nuscenes_occ_infos_{train,val}.pkl`` next to the tree, scene by scene."""
        training = self.scenes - held_out(self.scenes)
        infos = InfoFiles(training, _INFOS, NUSCENES_CAMERAS, labels=False)
        for number, record in enumerate(records):
            infos.add(f"scene-{number + 1:04d}", record)
        return Finished(
            beside=infos.finished(),
            notes=("a voxel without a row is empty or unknown: this format does not tell which",),
        )


def ego_grid(frame_rate: float) -> GridSpec:
    """The data set's grid in OUR ego frame: moved to the LiDAR, and turned (``voxel_rows`` turns it back)."""
    x, y, z = HDL_32E.position
    # The LiDAR's y is our x, its x our -y; the grid is square and centred, so its lower corner stays.
    return GridSpec(SHAPE, (VOXEL_SIZE,) * 3, (LOWER[1] + x, LOWER[0] + y, LOWER[2] + z), frame_rate)


@compiled
def voxel_rows(classes: NDArray[np.uint8], looked_at: LookedAt) -> NDArray[np.uint16]:
    """uint8 ``[x, y, z]``, class + 1, 0 for no row -> uint16 ``[n, 4]`` rows (z, y, x, class) of the data set's grid.

    They are sorted. nuScenes' LiDAR looks along its y, with x to the right. Objects outside the classes are 0,
    which readers ignore. Voxels are read as they lie; each row goes to its own place.

    Args:
        looked_at: which of ``classes`` each voxel of ``ego_grid`` looks at (``frames_looked_at``).
    """
    along, across, up = looked_at
    nx, ny, nz = len(along), len(across), len(up)
    shape = classes.shape
    times = np.zeros(shape[1], np.int64)  # how often a y is looked at
    for y in range(ny):
        if across[y] >= 0:
            times[across[y]] += 1
    lowest, highest = np.zeros(shape[2], np.int64), np.zeros(shape[2], np.int64)  # what looks at a z is in one piece
    for z in range(nz):
        if up[z] >= 0:
            lowest[up[z]], highest[up[z]] = z if z == 0 or up[z - 1] != up[z] else lowest[up[z]], z + 1
    # By x, which is the LiDAR's y, and z: how many rows there are, then how many come before.
    many = np.zeros((shape[0], shape[2]), np.int64)
    for x in range(shape[0]):
        for y in range(shape[1]):
            for z in range(shape[2]):
                many[x, z] += times[y] * (classes[x, y, z] != 0)
    total, before = 0, np.zeros((nx, nz), np.int64)
    for z in range(nz):
        for x in range(nx):
            before[x, z] = total
            if along[x] >= 0 and up[z] >= 0:
                total += many[along[x], up[z]]
    rows = np.empty((total, 4), np.uint16)
    for x in range(nx):
        if along[x] >= 0:
            for y in range(ny - 1, -1, -1):  # the LiDAR's x counts down from our y
                if across[y] >= 0:
                    for level in range(shape[2]):
                        label = classes[along[x], across[y], level]
                        if label != 0:
                            for z in range(lowest[level], highest[level]):
                                at = before[x, z]
                                rows[at, 0], rows[at, 1], rows[at, 2], rows[at, 3] = z, x, ny - 1 - y, label - 1
                                before[x, z] = at + 1
    return rows


TREE = TreeFormat("occ3d-nuscenes", r"scene_[0-9a-f]{32}", OpenOccupancyTree, covers=ego_grid(10.0))
