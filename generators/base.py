"""SceneGenerator: what every source of scenes can do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from dyncity.conditions import Conditions
from dyncity.config import Config
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene, SceneSpec


class SceneGenerator(Protocol):
    """A source of scenes. Built inside each worker, used for one micro-batch at a time.

    Attributes:
        name: what the manifest calls it.
        config: the resolved configuration; ``config.grid`` is the grid of the scenes.
        micro_batch: ``generate`` is always called with exactly this many specs.

    A source whose scenes are samples of a network says so by ``sampled = True``: they are tested
    (``generators.degenerate``), and those that fail are recorded as failed.
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


@runtime_checkable
class Conditioned(Protocol):
    """A source of scenes that says what each spec asks for before it makes the scene.

    Attributes:
        config: the resolved configuration; ``config.clip_grid`` is the grid of layouts and given voxels.
        anchor: the frame whose ego pose places that grid, or None: each frame's own.
        gives_voxels: whether its scenes are given voxels of others.
    """

    config: Config
    anchor: int | None
    gives_voxels: bool

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The conditions of a scene in full.

        Raises:
            dyncity.errors.InputError: they cannot be met.
        """
        ...


@runtime_checkable
class SceneChecked(Protocol):
    """A source of scenes that can say before the work starts that it cannot serve a spec."""

    def check_scene(self, spec: SceneSpec) -> None:
        """Raise ``dyncity.errors.InputError`` where it cannot."""
        ...


def check_index(index: int, scenes: int) -> None:
    """Raise InputError unless a source of a fixed number of ``scenes`` has one of that index."""
    if not 0 <= index < scenes:
        raise InputError("--num-scenes", f"scene {index} of {scenes}", f"use at most {scenes}")
