"""SceneGenerator: what every source of scenes can do."""

from __future__ import annotations

from typing import Protocol

from dyncity.config import Config
from dyncity.scene import OccupancyScene, SceneSpec


class SceneGenerator(Protocol):
    """A source of scenes. Built inside each worker, used for one micro-batch at a time.

    Attributes:
        name: what the manifest calls it.
        config: the resolved configuration; ``config.grid`` is the grid of the scenes.
        micro_batch: ``generate`` is always called with exactly this many specs.
    """

    name: str
    config: Config
    micro_batch: int

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs: checkpoint sha256, dtype, steps, scale, versions."""
        ...

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec, in order. A scene depends on its own spec alone.

        Raises:
            dyncity.errors.InputError: the request cannot be met whatever the spec; it ends the run.
            Exception: any other one is laid to single scenes, see ``generators.shard_worker``.
        """
        ...
