"""Trees of a data set's layout: written without a corpus, all scenes in this process; digests of what is there."""

from __future__ import annotations

import hashlib
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


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder, by its relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
