"""NumPy shards: a folder of ``<scene_id>.npz`` that open with ``numpy.load(allow_pickle=False)``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.layout import (
    VOXEL_DTYPES,
    ShardLayout,
    check_columns,
    check_scene,
    layout_json,
    layout_of,
    provenance_json,
)
from dyncity.datasets.layout_maps import given_byte, pack_maps
from dyncity.datasets.npz_shard import BOX_FIELDS
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from exporters.labels import check_labels, to_labels
from exporters.tracks_from_voxels import with_columns


class NumpyExporter:
    """Writes a shard as a folder with one npz a scene (``docs/corpus-format.md``).

    Args:
        labels: the label space of the shard; "native" leaves scenes in the one they are in.
        columns: optional columns to write: mask_lidar, mask_camera, instances, boxes.

    Raises:
        InputError: an unknown label space or column.
    """

    container = "numpy"

    def __init__(self, labels: str = "native", columns: tuple[str, ...] = ()) -> None:
        self.labels = check_labels(labels)
        self.columns = check_columns(columns)

    def shard_name(self, shard: int) -> str:
        """``00007`` for shard 7."""
        return f"{shard:05d}"

    def write(self, scenes: Iterable[OccupancyScene], path: Path) -> None:
        """Write the scenes into the new folder ``path``, holding one of them at a time.

        Raises:
            InputError: no scene at all, scenes of different grids, label spaces or anchors, a name
                given twice, a column that a scene does not have.
            OSError: the file system refuses.
        """
        layout: ShardLayout | None = None
        path.mkdir()
        for scene in scenes:
            scene = to_labels(with_columns(scene, self.columns), self.labels)
            if layout is None:
                layout = layout_of(scene, self.columns)
            check_scene(scene, layout)
            try:
                # numpy stamps every member with 1980-01-01, so the same arrays give the same bytes.
                with open(path / f"{scene.scene_id}.npz", "xb") as file:
                    np.savez_compressed(file, allow_pickle=False, **_arrays(scene, layout))
            except FileExistsError:
                raise InputError(f"scene {scene.scene_id}", "its name is given twice", "name scenes apart") from None
        if layout is None:
            raise InputError(path, "there is no scene to write", "write at least one")


def _arrays(scene: OccupancyScene, layout: ShardLayout) -> dict[str, NDArray[Any]]:
    """The arrays of one npz, in the order in which they are written; little endian."""
    arrays: dict[str, Any] = {
        "meta": np.array(layout_json(layout)),
        "scene_id": np.array(scene.scene_id),
        "frame": np.arange(scene.frames, dtype="<i4"),
        "timestamp_us": np.ascontiguousarray(scene.timestamps_us, "<i8"),
        "ego_to_world": np.ascontiguousarray(scene.poses, "<f8"),
    }
    for name in layout.voxel_columns:
        arrays[name] = np.ascontiguousarray(getattr(scene, name), VOXEL_DTYPES[name])
    if "boxes" in layout.columns and scene.boxes is not None:
        order = np.argsort(scene.boxes.frame, kind="stable")
        for name, (dtype, _) in BOX_FIELDS.items():
            arrays[f"boxes_{name}"] = np.ascontiguousarray(getattr(scene.boxes, name)[order], dtype)
    if scene.conditions.command is not None:
        arrays["command"] = np.array(scene.conditions.command)
    if scene.conditions.trajectory is not None:
        arrays["trajectory"] = np.ascontiguousarray(scene.conditions.trajectory, "<f8")
    if scene.conditions.grid_yaw is not None:
        arrays["grid_yaw"] = np.array(scene.conditions.grid_yaw, "<f8")
    if scene.conditions.layout is not None:
        arrays["layout"] = pack_maps(scene.conditions.layout)
        arrays["layout_given"] = np.array(given_byte(scene.conditions.layout), "u1")
    arrays["provenance"] = np.array(provenance_json(scene))
    return arrays
