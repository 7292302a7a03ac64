"""Scenes as the tree of a data set, in a folder of a test."""

from __future__ import annotations

from pathlib import Path

from written_tree import write_tree as written

from dyncity.scene import OccupancyScene
from exporters.formats import tree_format
from exporters.native_tree import TreeOptions


def write_tree(kind: str, out: Path, scenes: list[OccupancyScene]) -> Path:
    """The scenes as a tree of that kind, without scans where they can be left out."""
    chosen = tree_format(kind)
    out.mkdir(parents=True)
    options = TreeOptions(scans=False) if "scans" in chosen.takes else TreeOptions()
    written(chosen.build, out, *scenes, options=options)
    return out
