"""The trees that can be written, by name. Nothing is imported until a format is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dyncity.errors import InputError

if TYPE_CHECKING:
    from exporters.native_tree import TreeFormat

# Name on the command line -> the module that holds it, as TREE.
FORMATS = {
    "semantickitti": "exporters.semantickitti",
    "occ3d-nuscenes": "exporters.occ3d",
    "occ3d-waymo": "exporters.occ3d_waymo",
    "carlasc": "exporters.carlasc",
    "openoccupancy": "exporters.openoccupancy",
    "uniocc": "exporters.uniocc",
    "kitti-boxes": "exporters.kitti_boxes",
    "rgbd": "exporters.rgbd",
}


def tree_format(name: str) -> TreeFormat:
    """The format of that name.

    Raises:
        InputError: when there is none.
    """
    if name not in FORMATS:
        raise InputError("--format", f"found {name!r}", f"use one of {', '.join(FORMATS)}")
    return import_module(FORMATS[name]).TREE
