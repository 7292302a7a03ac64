"""CorpusPlan: what a corpus is asked to be; which scenes go into which shard; the fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import COMMANDS, LAYOUT_CLASSES, Conditions, Layout, check_trajectory, command_from_trajectory
from dyncity.config import Config
from dyncity.config_file import from_dict, to_dict
from dyncity.drivable import check_drivable
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import SceneSpec
from dyncity.seeding import check_seed
from dyncity.taxonomy import TAXONOMIES
from generators.installation import installation

CONTAINERS = ("parquet", "numpy")
MIXED = "mixed"
MAX_SCENES = 100_000_000
MAX_SHARDS = 500_000  # whose manifest can still be read (dyncity.datasets.manifest.MAX_MANIFEST_BYTES)

_SHARD_BYTES = 64 * 2**20  # raw voxels of a shard by default: seconds of work, bounded memory
_SHARDS_AT_LEAST = 4  # of a small corpus, so that several workers have something to do


@dataclass(frozen=True, slots=True)
class ShardRange:
    """A shard: its number and its scenes ``[first, first + scenes)``."""

    number: int
    first: int
    scenes: int


@dataclass(frozen=True, slots=True)
class ShardRanges:
    """All shards of a corpus, in order, each computed when it is asked for: a million scenes can be half a million.

    Attributes:
        scenes: of the corpus.
        size: scenes of a shard; the last one may have fewer.
    """

    scenes: int
    size: int

    def __len__(self) -> int:
        return -(-self.scenes // self.size)

    def __getitem__(self, number: int) -> ShardRange:
        first = range(0, self.scenes, self.size)[number]
        return ShardRange(first // self.size, first, min(self.size, self.scenes - first))

    def __iter__(self) -> Iterator[ShardRange]:
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True, slots=True, eq=False)
class CorpusPlan:
    """What is asked for, in full: equal fingerprints promise equal ``shards/``.

    Attributes:
        generator: name of the source of scenes.
        config: the resolved configuration.
        num_scenes: scenes asked for.
        seed: the root seed, in ``[0, 2^63)``.
        scenes_per_shard: rounded up to whole micro-batches; None: ``default_scenes_per_shard``.
        micro_batch: scenes sampled at a time; always so many (see ``micro_batches``).
        threads: threads that torch may use in a worker. They are part of the plan, because sums over
            whole tensors differ in the last bits between thread counts.
        labels: the label space that is written.
        container: "parquet" or "numpy".
        columns: optional columns that are written.
        command: for all scenes; "mixed" gives scene i command ``i mod 4`` of static, forward, left,
            right, so that the four are equally frequent; None asks for none.
        trajectory: float64 ``[t, 3]`` for all scenes (``Conditions.trajectory``), ``[n, t, 3]`` one a scene, or
            None. With one the command of every scene is the one that it carries out.
        layout: for all scenes (``Conditions.layout``), or None.
        fingerprint_of_generator: ``SceneGenerator.fingerprint()``: checkpoint, dtype, device, steps ...
        versions: of the machines that make the shards, as ``installation`` has them; by default of this one.
    """

    generator: str
    config: Config
    num_scenes: int
    seed: int = 0
    scenes_per_shard: int | None = None
    micro_batch: int = 1
    threads: int = 1
    labels: str = "native"
    container: str = "parquet"
    columns: tuple[str, ...] = ()
    command: str | None = None
    trajectory: NDArray[np.float64] | None = None
    layout: Layout | None = None
    fingerprint_of_generator: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=installation)

    def __post_init__(self) -> None:
        _at_least("--num-scenes", self.num_scenes, 1)
        if self.num_scenes > MAX_SCENES:
            raise InputError("--num-scenes", f"found {self.num_scenes}", f"give at most {MAX_SCENES}")
        check_seed(self.seed)
        _at_least("--micro-batch", self.micro_batch, 1)
        if self.scenes_per_shard is not None:
            _at_least("--scenes-per-shard", self.scenes_per_shard, 1)
        _at_least("threads", self.threads, 1)
        _one_of("--container", self.container, CONTAINERS)
        _one_of("--labels", self.labels, tuple(TAXONOMIES))
        if self.command is not None:
            _one_of("--command", self.command, (*COMMANDS, MIXED))
        if self.trajectory is not None:
            self._check_trajectory()
        if len(self.shards) > MAX_SHARDS:
            raise InputError(
                "--scenes-per-shard", f"makes {len(self.shards)} shards", f"at most {MAX_SHARDS}: give more"
            )
        object.__setattr__(self, "columns", tuple(self.columns))

    def _check_trajectory(self) -> None:
        """One row a frame, drivable, and a command that agrees; the command becomes that of a trajectory for all."""
        assert self.trajectory is not None
        given, frames = np.asarray(self.trajectory), self.config.clip.frames
        each = given if given.ndim == 3 else given[None]
        if given.ndim == 3 and len(given) != self.num_scenes:
            raise InputError(
                "--trajectory", f"found {len(given)}", f"give one for all, or one for each of {self.num_scenes}"
            )
        checked = []
        for scene, rows in enumerate(each):
            where = f"--trajectory, scene {scene}" if given.ndim == 3 else "--trajectory"
            checked.append(check_trajectory(rows, where))
            if len(rows) != frames:
                raise InputError(where, f"found {len(rows)} rows", f"give {frames}, one a frame")
            check_drivable(checked[-1], self.config.grid.frame_rate, where)
            carried_out = command_from_trajectory(checked[-1])
            if self.command not in (None, MIXED, carried_out):
                raise InputError(
                    "--command", f"found {self.command!r}, {where} says {carried_out!r}", "leave one of them out"
                )
        object.__setattr__(self, "trajectory", np.stack(checked) if given.ndim == 3 else checked[0])
        object.__setattr__(self, "command", None if given.ndim == 3 else carried_out)

    @property
    def shard_size(self) -> int:
        """Scenes of a shard, in whole micro-batches."""
        wanted = self.scenes_per_shard or default_scenes_per_shard(
            self.num_scenes, self.config.clip.frames, self.config.grid
        )
        return -(-wanted // self.micro_batch) * self.micro_batch

    @property
    def shards(self) -> ShardRanges:
        """All shards, in order."""
        return ShardRanges(self.num_scenes, self.shard_size)

    def spec(self, index: int) -> SceneSpec:
        """What scene ``index`` is asked to be."""
        command = COMMANDS[index % len(COMMANDS)] if self.command == MIXED else self.command
        ways = self.trajectory
        trajectory = ways[index % len(ways)] if ways is not None and ways.ndim == 3 else ways
        return SceneSpec(index, self.seed, Conditions(command, trajectory, self.layout))  # type: ignore[arg-type]

    def specs(self, shard: ShardRange) -> list[SceneSpec]:
        """The specs of a shard's scenes."""
        return [self.spec(i) for i in range(shard.first, shard.first + shard.scenes)]

    def micro_batches(self, shard: ShardRange) -> Iterator[tuple[list[SceneSpec], int]]:
        """The micro-batches of a shard, as (specs, how many of them are wanted).

        They are cut by scene index over the whole corpus and always of ``micro_batch`` specs, since the
        size of a batch changes floating-point results. The last one of the corpus is filled up with the
        scenes that would come next; they are made and thrown away.
        """
        for first in range(shard.first, shard.first + shard.scenes, self.micro_batch):
            wanted = min(self.micro_batch, self.num_scenes - first)
            yield [self.spec(i) for i in range(first, first + self.micro_batch)], wanted

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values, as the manifest keeps it: no times, no host names, no paths."""
        return {
            "generator": self.generator,
            "num_scenes": self.num_scenes,
            "seed": self.seed,
            "scenes_per_shard": self.shard_size,
            "micro_batch": self.micro_batch,
            "threads": self.threads,
            "labels": self.labels,
            "container": self.container,
            "columns": list(self.columns),
            "command": self.command,
            "trajectory": None if self.trajectory is None else self.trajectory.tolist(),
            **({} if self.layout is None else {"layout": _layout_facts(self.layout)}),
            "fingerprint_of_generator": dict(self.fingerprint_of_generator),
            "versions": {k: v for k, v in self.versions.items() if k != "zlib" or self.container == "numpy"},
            "config": to_dict(self.config),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str, layout: Layout | None = None) -> CorpusPlan:
        """The plan that a manifest keeps, as ``to_dict`` wrote it; its versions are those that are installed now.

        Args:
            values: what ``to_dict`` returned.
            where: the file that errors name.
            layout: the one that it was made with, of which the manifest keeps a digest.

        Raises:
            InputError: it is no such plan, or it needs a layout.
        """
        if "layout" in values and layout is None:
            raise InputError("--layout", "its manifest keeps a digest of the layout alone", "give the layout's file")
        plain = ("generator", "num_scenes", "seed", "scenes_per_shard", "micro_batch", "threads", "labels", "container")
        try:
            return cls(
                **{name: values[name] for name in plain},
                columns=tuple(values["columns"]),
                command=values["command"] if values["trajectory"] is None else None,
                trajectory=None if values["trajectory"] is None else np.array(values["trajectory"], np.float64),
                layout=layout,
                fingerprint_of_generator=dict(values["fingerprint_of_generator"]),
                config=from_dict(Config, values["config"], where, "plan.config"),
            )
        except InputError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise InputError(where, f"its plan is none of this version ({error})", "make the corpus anew") from None

    def fingerprint(self) -> str:
        """sha256 of ``to_dict()`` in canonical JSON: all that decides the bytes of the shards."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _layout_facts(layout: Layout) -> dict[str, Any]:
    """The classes that a layout asks for, a digest of its maps, and one of the agents that they were drawn from."""
    asked = np.ascontiguousarray(layout.maps & layout.given[:, None, None, None])
    facts = {
        "classes": [name for name, given in zip(LAYOUT_CLASSES, layout.given, strict=True) if given],
        "sha256": hashlib.sha256(np.packbits(asked).tobytes()).hexdigest(),
    }
    if layout.agents:  # the contradictions among them go into the scenes' provenance
        agents = json.dumps([[agent.kind, agent.size, agent.path.tolist()] for agent in layout.agents])
        facts["agents_sha256"] = hashlib.sha256(agents.encode()).hexdigest()
    return facts


def default_scenes_per_shard(num_scenes: int, frames: int, grid: GridSpec) -> int:
    """Scenes of a shard: about 64 MiB of raw voxels, and at least 4 shards of a small corpus."""
    by_bytes = _SHARD_BYTES // (frames * grid.voxels)
    return max(1, min(by_bytes, -(-num_scenes // _SHARDS_AT_LEAST)))


def difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str | None:
    """The first value that two plans differ in, as ``seed is 0, not 1``; None where they agree."""
    for key in [*new, *(k for k in old if k not in new)]:
        name = f"{prefix}{key}"
        if key not in old or key not in new:
            return f"{name} is in one of them only"
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            inner = difference(old[key], new[key], f"{name}.")
            if inner is not None:
                return inner
        elif old[key] != new[key]:
            return f"{name} is {_short(old[key])}, not {_short(new[key])}"
    return None


def _short(value: object) -> str:
    """A value in at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(option, f"found {value}", f"give a whole number from {least}")


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(option, f"found {value!r}", f"use one of {', '.join(allowed)}")
