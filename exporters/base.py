"""SceneExporter: what writes the scenes of one shard."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from dyncity.scene import OccupancyScene


class SceneExporter(Protocol):
    """Writes a shard: one immutable file or folder for a fixed range of scenes.

    Attributes:
        container: "parquet" or "numpy", what the manifest calls it.
    """

    container: str

    def shard_name(self, shard: int) -> str:
        """The name of shard number ``shard`` below ``shards/``, e.g. ``00007.parquet``."""
        ...

    def write(self, scenes: Iterable[OccupancyScene], path: Path) -> None:
        """Write the scenes, one pass, to ``path``, which does not exist yet. Same scenes, same bytes."""
        ...
