"""Label spaces: the native one, those of the data sets we write, and the maps between them.

``docs/taxonomy.md`` lists what each map loses. Ids are those that perception code trains on; raw ids
on disk (SemanticKITTI 0..259, Occ3D-Waymo's 23 for free) are the exporters' business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.errors import InputError
from dyncity.scene import UNKNOWN


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """A label space.

    Attributes:
        name: how it is named on the command line and in files.
        classes: class names by id.
        free: the id of empty space.
        movers: ids of classes whose members move by themselves.
        colors: ``#rrggbb`` by id.
    """

    name: str
    classes: tuple[str, ...]
    free: int
    movers: tuple[int, ...]
    colors: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def id(self, name: str) -> int:
        """The id of a class by its name."""
        return self.classes.index(name)

    def palette(self) -> NDArray[np.uint8]:
        """``[256, 3]`` RGB by id; unknown is dark grey, ids without a class are magenta."""
        palette = np.full((256, 3), (255, 0, 255), np.uint8)
        for index, color in enumerate(self.colors):
            palette[index] = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        palette[UNKNOWN] = (40, 40, 46)
        return palette


# One row a native class: name, colour, mover, then its class in each of the other label spaces.
# fmt: off
_NATIVE: tuple[tuple[str, str, bool, str, str, str, str], ...] = (
    # native               colour    mover   carlasc       semantickitti    occ3d-nuscenes          occ3d-waymo
    ("free",                "#ffffff", False, "free",       "empty",         "free",                 "free"),
    ("road",                "#5a5560", False, "road",       "road",          "driveable_surface",    "road"),
    ("lane_marking",        "#e8e6da", False, "road",       "road",          "driveable_surface",    "road"),
    ("crosswalk",           "#c9b8dc", False, "road",       "road",          "driveable_surface",    "road"),
    ("parking",             "#7d6f8a", False, "ground",     "parking",       "driveable_surface",    "road"),
    ("sidewalk",            "#c58fb4", False, "sidewalk",   "sidewalk",      "sidewalk",             "walkable"),
    ("terrain",             "#a5c66b", False, "ground",     "terrain",       "terrain",              "walkable"),
    ("building",            "#e0b25c", False, "building",   "building",      "manmade",              "building"),
    ("fence",               "#b58a6a", False, "barrier",    "fence",         "manmade",              "general_object"),
    ("barrier",             "#d9734f", False, "barrier",    "fence",         "barrier",              "general_object"),
    ("vegetation",          "#3f8f3f", False, "vegetation", "vegetation",    "vegetation",           "vegetation"),
    ("trunk",               "#7a5230", False, "vegetation", "trunk",         "vegetation",           "tree_trunk"),
    ("pole",                "#9a9a9a", False, "pole",       "pole",          "manmade",              "pole"),
    ("traffic_sign",        "#f2d024", False, "pole",       "traffic-sign",  "manmade",              "sign"),
    ("traffic_light",       "#f28c24", False, "pole",       "pole",          "manmade",              "traffic_light"),
    ("traffic_cone",        "#ff6a00", False, "other",      "other-object",  "traffic_cone",         "construction_cone"),
    ("other_object",        "#50c8b4", False, "other",      "other-object",  "others",               "general_object"),
    ("car",                 "#3f7fe0", True,  "vehicle",    "car",           "car",                  "vehicle"),
    ("truck",               "#2b4fa8", True,  "vehicle",    "truck",         "truck",                "vehicle"),
    ("bus",                 "#1f3a80", True,  "vehicle",    "other-vehicle", "bus",                  "vehicle"),
    ("trailer",             "#5470b8", True,  "vehicle",    "other-vehicle", "trailer",              "vehicle"),
    ("construction_vehicle","#8a6de0", True,  "vehicle",    "other-vehicle", "construction_vehicle", "vehicle"),
    ("other_vehicle",       "#7fa8f0", True,  "vehicle",    "other-vehicle", "others",               "vehicle"),
    ("motorcycle",          "#40d0e8", True,  "vehicle",    "motorcycle",    "motorcycle",           "motorcycle"),
    ("bicycle",             "#60e8c8", True,  "vehicle",    "bicycle",       "bicycle",              "bicycle"),
    ("pedestrian",          "#e03c4a", True,  "pedestrian", "person",        "pedestrian",           "pedestrian"),
    ("cyclist",             "#f06ca0", True,  "vehicle",    "bicyclist",     "bicycle",              "cyclist"),
    ("motorcyclist",        "#c040c0", True,  "vehicle",    "motorcyclist",  "motorcycle",           "motorcycle"),
    ("unclassified",        "#8c9a8c", False, "other",      "other-object",  "others",               "general_object"),
)
# fmt: on

_GREY = "#8c8c8c"


def _space(name: str, classes: str, free: int, column: int) -> Taxonomy:
    """A label space coloured after the native classes that map to it (the first one wins)."""
    names = tuple(classes.split())
    rows = [next((row for row in _NATIVE if row[column] == c), None) for c in names]
    return Taxonomy(
        name=name,
        classes=names,
        free=free,
        movers=tuple(i for i, row in enumerate(rows) if row is not None and row[2]),
        colors=tuple(row[1] if row is not None else _GREY for row in rows),
    )


NATIVE = Taxonomy(
    name="native",
    classes=tuple(row[0] for row in _NATIVE),
    free=0,
    movers=tuple(i for i, row in enumerate(_NATIVE) if row[2]),
    colors=tuple(row[1] for row in _NATIVE),
)
CARLASC = _space(
    "carlasc",
    "free building barrier other pedestrian pole road ground sidewalk vegetation vehicle",
    0,
    3,
)
SEMANTICKITTI = _space(
    "semantickitti",
    "empty car bicycle motorcycle truck other-vehicle person bicyclist motorcyclist road parking sidewalk "
    "other-ground building fence vegetation trunk terrain pole traffic-sign",
    0,
    4,
)
OCC3D_NUSCENES = _space(
    "occ3d-nuscenes",
    "others barrier bicycle bus car construction_vehicle motorcycle pedestrian traffic_cone trailer truck "
    "driveable_surface other_flat sidewalk terrain manmade vegetation free",
    17,
    5,
)
OCC3D_WAYMO = _space(
    "occ3d-waymo",
    "general_object vehicle pedestrian sign cyclist traffic_light pole construction_cone bicycle motorcycle "
    "building vegetation tree_trunk road walkable free",
    15,
    6,
)

_COLUMN = {"carlasc": 3, "semantickitti": 4, "occ3d-nuscenes": 5, "occ3d-waymo": 6}
TAXONOMIES = {t.name: t for t in (NATIVE, CARLASC, SEMANTICKITTI, OCC3D_NUSCENES, OCC3D_WAYMO)}


def taxonomy(name: str) -> Taxonomy:
    """The label space of that name.

    Raises:
        InputError: when there is none.
    """
    if name not in TAXONOMIES:
        raise InputError("labels", f"found {name!r}", f"use one of {', '.join(TAXONOMIES)}")
    return TAXONOMIES[name]


def label_map(source: str, target: str) -> NDArray[np.uint8]:
    """uint8 ``[256]`` lookup table from ids of ``source`` to ids of ``target``; 255 stays 255.

    SemanticKITTI has no class for objects outside its list (raw id 99, ignored by its benchmark): they
    become unknown (255). Ids that no class has become 255 too.

    Raises:
        InputError: where there is no map; only the native label space maps to all others.
    """
    start, end = taxonomy(source), taxonomy(target)
    table = np.full(256, UNKNOWN, np.uint8)
    if source == target:
        table[: len(start)] = np.arange(len(start))
        return table
    if source != "native":
        raise InputError(
            "labels", f"no map leads from {source!r} to {target!r}", "start from a corpus with native labels"
        )
    for index, row in enumerate(_NATIVE):
        name = row[_COLUMN[target]]
        table[index] = end.id(name) if name in end.classes else UNKNOWN
    return table
