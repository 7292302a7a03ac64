"""SemanticKITTI's voxel files of a frame: raw ids and bits, straight from the voxels of the scene's own grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dyncity.scene import UNKNOWN, OccupancyScene
from exporters.compiled import compiled
from exporters.labels import LookedAt
from exporters.semantickitti_ids import OTHER_OBJECT
from exporters.visibility import seen_over_time

VOXEL_SIZE = 0.2
LOWER = (0.0, -25.6, -2.0)
SHAPE = (256, 256, 32)

# What is known of a voxel beside its raw id; 0 is invalid.
_VALID, _IN_SIGHT = 1, 2


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class VoxelFiles:
    """What the voxel files of one frame hold.

    Attributes:
        label: uint16 ``[256, 256, 32]`` raw ids.
        bits: uint8 ``[3, 262144]`` of ``.bin``, ``.invalid`` and ``.occluded``: a bit a voxel in the same order, most
            significant bit first.
    """

    label: NDArray[np.uint16]
    bits: NDArray[np.uint8]


def carrier(
    scene: OccupancyScene, seen: Sequence[NDArray[np.bool_]], raw: NDArray[np.uint16], moving: NDArray[np.bool_]
) -> OccupancyScene:
    """The scene with what a voxel becomes on disk in place of tracks and masks, to be resampled as they are.

    ``instances`` holds raw ids, ``mask_lidar`` 0 where invalid, ``_VALID`` where not, ``_IN_SIGHT`` where neither
    invalid nor occluded. All of that is decided on the grid of the scene, which has a quarter of the voxels and less.

    Args:
        seen: bool ``[x, y, z]`` of each frame, on the scene's grid.
        raw: of ``raw_table``.
        moving: of ``moving_tracks``.
    """
    given = scene.mask_lidar is not None  # what was observed, where the scene says it
    observed = scene.mask_lidar if given else seen_over_time(scene, np.stack(seen), moving)
    assert observed is not None
    labels, flags = np.empty(scene.semantics.shape, np.uint16), np.empty(scene.semantics.shape, np.uint8)
    nobody = np.zeros(scene.grid.shape, np.uint16)
    for frame in range(scene.frames):
        tracks = nobody if scene.instances is None else scene.instances[frame]
        columns = (scene.semantics[frame], tracks, observed[frame].view(np.uint8), seen[frame])
        flat = [np.ascontiguousarray(column).reshape(-1) for column in columns]
        _mark(*flat, raw, moving, given, labels[frame].reshape(-1), flags[frame].reshape(-1))
    return dataclasses.replace(scene, boxes=None, instances=labels, mask_lidar=flags, mask_camera=None)


@compiled
def _mark(
    semantics: NDArray[np.uint8],
    tracks: NDArray[np.uint16],
    observed: NDArray[np.uint8],
    seen: NDArray[np.bool_],
    raw: NDArray[np.uint16],
    moving: NDArray[np.bool_],
    given: bool,
    labels: NDArray[np.uint16],
    flags: NDArray[np.uint8],
) -> None:
    """Fill ``labels`` and ``flags`` of one frame; all ``[n]`` but the tables."""
    for n in range(len(semantics)):
        unknown = semantics[n] == UNKNOWN
        label = raw[int(moving[tracks[n]]), semantics[n]]
        valid = observed[n] != 0 and (given or not unknown)
        if valid and unknown:
            label = OTHER_OBJECT  # observed and without a class: what the benchmark ignores
        labels[n] = label
        flags[n] = (_IN_SIGHT if seen[n] else _VALID) if valid else 0


def voxel_files(
    labels: NDArray[np.uint16], flags: NDArray[np.uint8], looked_at: LookedAt, points: NDArray[np.float64]
) -> VoxelFiles:
    """The voxel files of one frame.

    Args:
        labels, flags: of the ``carrier``, ``[x, y, z]``.
        looked_at: which of those each voxel of the data set looks at (``frames_looked_at``).
        points: ``[n, 3]`` of the scan, in the LiDAR's frame, metres: their voxels are ``.bin``, and not invalid.
    """
    files = VoxelFiles(np.empty(SHAPE, np.uint16), np.zeros((3, SHAPE[0] * SHAPE[1] * SHAPE[2] // 8), np.uint8))
    columns = files.bits.reshape(3, *SHAPE[:2], SHAPE[2] // 8)
    _set_bits(points, np.array(LOWER), VOXEL_SIZE, SHAPE, files.bits[0])
    _fill(labels, flags, looked_at, files.label, columns[1], columns[2])
    files.bits[1:] &= ~files.bits[0]
    return files


@compiled
def _set_bits(
    points: NDArray[np.float64],
    lower: NDArray[np.float64],
    size: float,
    shape: tuple[int, int, int],
    bits: NDArray[np.uint8],
) -> None:
    """Set the bits of the voxels that points ``[n, 3]`` lie in."""
    for n in range(len(points)):
        x = np.floor((points[n, 0] - lower[0]) / size)
        y = np.floor((points[n, 1] - lower[1]) / size)
        z = np.floor((points[n, 2] - lower[2]) / size)
        if 0 <= x < shape[0] and 0 <= y < shape[1] and 0 <= z < shape[2]:
            voxel = (int(x) * shape[1] + int(y)) * shape[2] + int(z)
            bits[voxel >> 3] |= 0x80 >> (voxel & 7)


@compiled
def _fill(
    labels: NDArray[np.uint16],
    flags: NDArray[np.uint8],
    looked_at: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    label: NDArray[np.uint16],
    invalid: NDArray[np.uint8],
    occluded: NDArray[np.uint8],
) -> None:
    """Fill ``label`` ``[x, y, z]`` and the bits ``[x, y, z / 8]``; what looks at nothing is 0 and invalid.

    Columns and rows of columns that look at the same as the one before them are copies of it.
    """
    along, across, up = looked_at
    for x in range(label.shape[0]):
        if x > 0 and along[x] == along[x - 1]:
            label[x], invalid[x], occluded[x] = label[x - 1], invalid[x - 1], occluded[x - 1]
            continue
        for y in range(label.shape[1]):
            if y > 0 and across[y] == across[y - 1]:
                label[x, y], invalid[x, y], occluded[x, y] = label[x, y - 1], invalid[x, y - 1], occluded[x, y - 1]
                continue
            covered = along[x] >= 0 and across[y] >= 0
            for byte in range(invalid.shape[2]):
                out, behind = 0, 0
                for z in range(8 * byte, 8 * byte + 8):
                    found, flag = 0, 0
                    if covered and up[z] >= 0:
                        found, flag = labels[along[x], across[y], up[z]], flags[along[x], across[y], up[z]]
                    label[x, y, z] = found
                    out = out << 1 | (flag == 0)
                    behind = behind << 1 | (flag < _IN_SIGHT)
                invalid[x, y, byte], occluded[x, y, byte] = out, behind
