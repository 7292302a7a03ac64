"""A source of scenes for tests of the engine: small, deterministic, and able to misbehave on request."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dyncity.conditions import poses_from_trajectory
from dyncity.config import Config
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.presets import tiny
from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from generators.plan import CorpusPlan

FRAMES = 3
GRID = GridSpec((6, 5, 4), (0.8, 0.8, 0.8), (-2.4, -2.0, -1.2), 5.0)


@dataclass
class NumberedScenes:
    """Random voxels by (seed, index); every way to fail is a field.

    Attributes:
        micro_batch: as the protocol says.
        raises: scenes that raise an error, alone or in company.
        starves: scenes that ask for more memory than any machine has, alone or in company.
        refuses: a scene at which the whole request turns out to be impossible (InputError), or None.
        dies_at: a scene at which the process is killed, or None.
        hangs_at: a scene at which the process takes ``hoards`` bytes of memory and does nothing for minutes, or None.
        hoards: how many.
        deaths: how often a process dies or hangs, counted in the file ``diary``.
        diary: where deaths, and the sizes of the micro-batches, are written down.
        seconds: how long a micro-batch takes.
        present: a folder in which every process that makes scenes leaves a file, or None.
        version: part of the fingerprint.
    """

    micro_batch: int = 4
    raises: tuple[int, ...] = ()
    starves: tuple[int, ...] = ()
    refuses: int | None = None
    dies_at: int | None = None
    hangs_at: int | None = None
    hoards: int = 0
    deaths: int = 10**9
    diary: Path | None = None
    seconds: float = 0.0
    present: Path | None = None
    version: int = 1
    name: str = "numbered"

    @property
    def config(self) -> Config:
        return small_config()

    def fingerprint(self) -> dict[str, str | int | float]:
        return {"version": self.version}

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        assert len(specs) == self.micro_batch
        if self.present is not None:
            (self.present / str(os.getpid())).touch()
        time.sleep(self.seconds)
        return [self._scene(spec) for spec in specs]

    def _scene(self, spec: SceneSpec) -> OccupancyScene:
        if spec.index == self.refuses:
            raise InputError("--checkpoint", "is of another grid", "choose another one")
        if spec.index in self.raises:
            raise ValueError(f"no road at {self!r}"[:9] + " for <object at 0x7f00> in /some/where/map.json")
        if spec.index in self.starves:
            np.empty(2**60, np.uint8)
        if spec.index == self.dies_at and self._may_die():
            os.kill(os.getpid(), signal.SIGKILL)
        if spec.index == self.hangs_at and self._may_die():
            hoard = np.ones(self.hoards, np.uint8)
            time.sleep(120)
            del hoard
        rng = stream(spec.seed, spec.index, Purpose.CITY)
        poses = poses_from_trajectory(np.arange(FRAMES)[:, None] * rng.uniform(0, 1, 3))
        return OccupancyScene(
            scene_id=f"scene-{spec.index:06d}",
            semantics=rng.integers(0, 29, (FRAMES, *GRID.shape), dtype=np.uint8),
            poses=poses,
            grid=GRID,
            taxonomy="native",
            timestamps_us=np.arange(FRAMES, dtype=np.int64) * 200_000,
            conditions=spec.conditions,
            provenance={"generator": self.name, "seed": spec.seed},
        )

    def _may_die(self) -> bool:
        """Whether a death is left; it is written down before it happens."""
        assert self.diary is not None
        with self.diary.open("a+") as file:
            file.seek(0)
            died = len(file.read())
            if died < self.deaths:
                file.write("x")
        return died < self.deaths


def small_config() -> Config:
    """The preset tiny on the grid of the test scenes."""
    config = tiny()
    return replace(
        config,
        grid=GRID,
        clip=replace(config.clip, frames=FRAMES, planes="ego", margin=(0, 0)),
        vae=replace(config.vae, downsample=(1, 1, 1, 1)),
    )


def source(**fields: object) -> Callable[[], NumberedScenes]:
    """A picklable builder of NumberedScenes."""
    return partial(NumberedScenes, **fields)  # type: ignore[arg-type]


def small_plan(num_scenes: int = 19, **fields: object) -> CorpusPlan:
    """A plan for NumberedScenes: shards of 8 scenes, micro-batches of 4."""
    values = {"seed": 5, "scenes_per_shard": 8, "micro_batch": 4, "command": "mixed"} | fields
    values = {"fingerprint_of_generator": {"version": 1}} | values
    return CorpusPlan("numbered", small_config(), num_scenes, **values)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
