"""Trees of a data set's layout: written without a corpus, all scenes in this process; digests; memory."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dyncity.scene import OccupancyScene
from exporters.native_tree import Finished, NativeTree, TreeOptions


def write_tree(
    build: Callable[..., NativeTree], out: Path, *scenes: OccupancyScene, options: TreeOptions | None = None
) -> tuple[list[str], Finished]:
    """Write scenes below ``out``; returns the folder of each, and what there is to say of the tree.

    Open files next to the tree are read and closed: in their place are their bytes.
    """
    tree = build([scene.frames for scene in scenes], options)
    records = [tree.write(out, number, scene) for number, scene in enumerate(scenes)]
    kept = json.loads(json.dumps(records))  # as an export keeps them on disk
    end = tree.finish(out, iter(kept))
    return [record["folder"] for record in records], replace(end, beside={n: taken(c) for n, c in end.beside.items()})


def taken(content: Any) -> Any:
    """What is to lie next to a tree: the text, or the bytes of the file, which is closed."""
    if isinstance(content, str):
        return content
    with content:
        return content.read()


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder, by its relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that Python held at a time while it did some work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
