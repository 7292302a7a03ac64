"""What a shard says of itself, the same for both containers: grid, label space, anchor, columns.

Writers store it as JSON (Parquet: schema metadata under ``dyncity``; NumPy: the array ``meta``);
readers take nothing from a shard before they have checked it. ``docs/corpus-format.md`` lists it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dyncity.config_file import from_dict
from dyncity.datasets.layout_maps import grid_facts, packed_bytes, read_grid_facts, unpacked_bytes
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import TAXONOMIES

FORMAT = "dyncity-shard"
VERSION = 1
METADATA_KEY = b"dyncity"

# Optional columns in the order in which they are written, and the voxel columns with their types.
OPTIONAL_COLUMNS = ("mask_lidar", "mask_camera", "instances", "boxes")
VOXEL_DTYPES: dict[str, np.dtype[Any]] = {
    "semantics": np.dtype("u1"),
    "mask_lidar": np.dtype("u1"),
    "mask_camera": np.dtype("u1"),
    "instances": np.dtype("<u2"),
}

# Bounds on what a reader loads because a file says so: one frame, one scene, one description.
MAX_FRAME_VOXELS = 2**27
MAX_SCENE_BYTES = 2**31 - 1
MAX_FRAMES = 2**20
MAX_TEXT_BYTES = 2**16

SCENE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """What all scenes of a corpus share.

    Attributes:
        grid: the grid of every frame.
        taxonomy: the name of the label space.
        anchor: the frame whose pose places the grid of all frames, or None (ego-centred frames).
        columns: the optional columns there are, in the order of ``OPTIONAL_COLUMNS``.
        maps_grid: the grid of the scenes' layouts (``Layout.grid``), or None: the shard has no column of them. Shards
            with and without layouts may be neighbours, so it is not compared.
        maps_anchor: the frame whose pose places that grid, or None: each frame's own (``Layout.anchor``).
        turned: whether there is a column ``grid_yaw``; not compared either.
    """

    grid: GridSpec
    taxonomy: str
    anchor: int | None
    columns: tuple[str, ...]
    maps_grid: GridSpec | None = field(default=None, compare=False)
    maps_anchor: int | None = field(default=None, compare=False)
    turned: bool = field(default=False, compare=False)

    @property
    def voxel_columns(self) -> tuple[str, ...]:
        """Names of the columns with one value a voxel."""
        return ("semantics", *(c for c in self.columns if c in VOXEL_DTYPES))

    @property
    def frame_bytes(self) -> int:
        """Bytes of the voxel columns of one frame."""
        return self.grid.voxels * sum(VOXEL_DTYPES[c].itemsize for c in self.voxel_columns)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed maps of one frame's layout; 0 where there are none."""
        return 0 if self.maps_grid is None else packed_bytes(self.maps_grid)


def check_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The optional columns asked for, in their fixed order.

    Raises:
        InputError: on a name that is not a column.
    """
    for name in columns:
        if name not in OPTIONAL_COLUMNS:
            raise InputError("columns", f"found {name!r}", f"use some of {', '.join(OPTIONAL_COLUMNS)}")
    return tuple(c for c in OPTIONAL_COLUMNS if c in columns)


def layout_of(scene: OccupancyScene, columns: tuple[str, ...]) -> ShardLayout:
    """The layout of a shard whose first scene is ``scene``, with the optional ``columns``."""
    maps_grid, maps_anchor = _maps_place(scene) or (None, None)
    turned = scene.conditions.grid_yaw is not None
    return ShardLayout(scene.grid, scene.taxonomy, scene.anchor, check_columns(columns), maps_grid, maps_anchor, turned)


def _maps_place(scene: OccupancyScene) -> tuple[GridSpec, int | None] | None:
    """Where the columns of a scene's layout lie; None without a layout."""
    asked = scene.conditions.layout
    if asked is None:
        return None
    if asked.grid is None:
        raise InputError(f"scene {scene.scene_id}", "its layout does not say where it lies", "give its grid and anchor")
    return replace(asked.grid, frame_rate=scene.grid.frame_rate), asked.anchor


def check_scene(scene: OccupancyScene, layout: ShardLayout) -> None:
    """Raise InputError unless the scene can be a scene of a shard of that layout."""
    where = f"scene {scene.scene_id}"
    if not SCENE_ID.fullmatch(scene.scene_id):
        raise InputError(where, "its name cannot be a file name", "use up to 128 letters, digits, '-' and '_'")
    if (scene.grid, scene.taxonomy, scene.anchor) != (layout.grid, layout.taxonomy, layout.anchor):
        raise InputError(
            where,
            "its grid, label space or anchor differs from that of the scenes before it",
            "write scenes of one kind into a corpus",
        )
    missing = [c for c in layout.columns if getattr(scene, c) is None]
    if missing:
        raise InputError(where, f"it has no {', '.join(missing)}", "leave out those columns")
    if not 0 < scene.frames <= MAX_FRAMES or scene.frames * layout.frame_bytes > MAX_SCENE_BYTES:
        raise InputError(
            where,
            f"it has {scene.frames} frames of {layout.frame_bytes} bytes",
            f"cut it into scenes of 1 frame to {MAX_SCENE_BYTES} bytes",
        )
    if len(provenance_json(scene)) > MAX_TEXT_BYTES:
        raise InputError(where, "its provenance is longer than 64 KiB", "shorten it")
    trajectory = scene.conditions.trajectory
    if trajectory is not None and len(trajectory) != scene.frames:
        raise InputError(
            where,
            f"its trajectory has {len(trajectory)} rows, the scene {scene.frames} frames",
            "give one row a frame",
        )
    _check_maps(scene, layout)
    if scene.conditions.grid_yaw is not None and not layout.turned:
        fix = "write scenes without one after the others"
        raise InputError(where, "it has a grid_yaw, the first scene of the shard has none", fix)
    boxes = scene.boxes
    if boxes is not None and len(boxes) and not 0 <= boxes.frame.min() <= boxes.frame.max() < scene.frames:
        raise InputError(where, "it has boxes in frames that do not exist", "leave them out")


def _check_maps(scene: OccupancyScene, layout: ShardLayout) -> None:
    """Raise InputError unless the scene's layout, if it has one, can go into the shard."""
    where, place, asked = f"scene {scene.scene_id}", _maps_place(scene), scene.conditions.layout
    if place is None or asked is None:
        return
    if place != (layout.maps_grid, layout.maps_anchor):
        fix = "write scenes without layouts after the others, and layouts on one grid"
        raise InputError(where, "its layout lies elsewhere than that of the first scene of the shard", fix)
    if asked.maps.shape[1] != scene.frames:
        found = f"its layout has {asked.maps.shape[1]} frames, the scene {scene.frames}"
        raise InputError(where, found, "give one map a class and frame")
    if scene.frames * unpacked_bytes(place[0]) > MAX_SCENE_BYTES:
        raise InputError(where, "its layout is larger than readers load", f"at most {MAX_SCENE_BYTES} columns")


def provenance_json(scene: OccupancyScene) -> str:
    """The provenance as JSON with sorted keys."""
    return json.dumps(scene.provenance, sort_keys=True, allow_nan=False)


def read_provenance(text: str, where: str) -> dict[str, Any]:
    """The provenance from its JSON.

    Raises:
        InputError: when it is not a mapping in JSON, or too long.
    """
    return _mapping(text, "provenance", where)


def _mapping(text: str | bytes, what: str, where: str) -> dict[str, Any]:
    """A JSON mapping of at most 64 KiB, or InputError."""
    if len(text) > MAX_TEXT_BYTES:
        raise InputError(where, f"its {what} is longer than 64 KiB", "restore the file")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"its {what} is no JSON ({error})", "restore the file") from None
    if not isinstance(value, dict):
        raise InputError(where, f"its {what} is {type(value).__name__}, no mapping", "restore the file")
    return value


def layout_json(layout: ShardLayout) -> str:
    """The layout as the JSON text that goes into a shard."""
    grid, space = layout.grid, TAXONOMIES[layout.taxonomy]
    maps = {} if layout.maps_grid is None else {"layout": grid_facts(layout.maps_grid, layout.maps_anchor)}
    return json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "axes": ["x", "y", "z"],
            "order": "C",
            "dtype": {name: VOXEL_DTYPES[name].name for name in layout.voxel_columns},
            "byte_order": "little",
            "shape": list(grid.shape),
            "voxel_size": list(grid.voxel_size),
            "origin": list(grid.origin),
            "range": [*grid.origin, *grid.upper],
            "frame_rate": grid.frame_rate,
            "taxonomy": layout.taxonomy,
            "classes": list(space.classes),
            "free": space.free,
            "unknown": UNKNOWN,
            "anchor": layout.anchor,
            "columns": list(layout.columns),
            **maps,
        },
        sort_keys=True,
    )


def read_layout(text: str | bytes, where: str) -> ShardLayout:
    """The layout from its JSON text, checked against what this version knows and is willing to load.

    Raises:
        InputError: no JSON, another format or version, an unknown label space, an absurd grid.
    """
    values = _mapping(text, "description", where)
    if values.get("format") != FORMAT:
        raise InputError(where, "it is not a shard of a corpus", "give a folder that dyncity wrote")
    if values.get("version") != VERSION:
        raise InputError(where, f"found format version {values.get('version')!r}", f"this reads {VERSION}")
    parts = {name: values.get(name) for name in ("shape", "voxel_size", "origin", "frame_rate")}
    try:
        grid = from_dict(GridSpec, parts, where)
    except InputError as error:
        raise InputError(f"{where}, its description", error.found, "restore the file") from None
    name, columns, anchor = values.get("taxonomy"), values.get("columns"), values.get("anchor")
    space = TAXONOMIES.get(name) if isinstance(name, str) else None
    if space is None or values.get("classes") != list(space.classes) or values.get("free") != space.free:
        raise InputError(where, f"found label space {name!r} or its classes changed", "use a known one")
    if not isinstance(columns, list) or any(c not in OPTIONAL_COLUMNS for c in columns):
        raise InputError(where, f"found columns {columns!r}", "restore the file")
    if not (anchor is None or (type(anchor) is int and 0 <= anchor < MAX_FRAMES)):
        raise InputError(where, f"found anchor {anchor!r}", "restore the file")
    if grid.voxels > MAX_FRAME_VOXELS:
        raise InputError(where, f"declares {grid.voxels} voxels a frame", f"at most {MAX_FRAME_VOXELS} are loaded")
    maps_grid, maps_anchor = None, None
    if "layout" in values:
        maps_grid, maps_anchor = read_grid_facts(values["layout"], grid.frame_rate, where)
    return ShardLayout(grid, space.name, anchor, check_columns(tuple(columns)), maps_grid, maps_anchor)


def check_frames(frames: int, layout: ShardLayout, where: str) -> None:
    """Raise InputError when a scene of so many frames is more than a reader loads at once."""
    if not 0 < frames <= MAX_FRAMES or frames * layout.frame_bytes > MAX_SCENE_BYTES:
        raise InputError(where, f"declares {frames} frames of {layout.frame_bytes} bytes", "such a scene is not loaded")
    if layout.maps_grid is not None and frames * unpacked_bytes(layout.maps_grid) > MAX_SCENE_BYTES:
        raise InputError(where, f"declares layouts of {layout.maps_grid.shape} columns", "such layouts are not loaded")


def check_scene_id(value: object, where: str) -> str:
    """The scene id, or InputError when it is no plain name."""
    if not isinstance(value, str) or not SCENE_ID.fullmatch(value):
        raise InputError(where, f"found scene id {str(value)[:40]!r}", "restore the file")
    return value
