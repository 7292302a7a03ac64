"""Writing a tree in the layout of a data set without a corpus: all scenes in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from dyncity.scene import OccupancyScene
from exporters.native_tree import Finished, NativeTree, TreeOptions


def write_tree(
    build: Callable[..., NativeTree], out: Path, *scenes: OccupancyScene, options: TreeOptions | None = None
) -> tuple[list[str], Finished]:
    """Write scenes below ``out``; returns the folder of each, and what there is to say of the tree."""
    tree = build([scene.frames for scene in scenes], options)
    records = [tree.write(out, number, scene) for number, scene in enumerate(scenes)]
    kept = json.loads(json.dumps(records))  # as an export keeps them on disk
    return [record["folder"] for record in records], tree.finish(out, iter(kept))
