"""ShardWorker: makes one shard at a time, whatever single scenes do."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from dyncity.datasets.manifest import FailedScene, ShardRecord
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.patience import patiently
from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.watchdog import Watchdog
from exporters.base import SceneExporter
from exporters.manifest import commit_shard
from exporters.stored import store_shard
from generators.base import SceneGenerator
from generators.corpus_prefix import is_taken_over
from generators.degenerate import degenerate
from generators.installation import installation
from generators.journal import Journal, is_device_lost
from generators.plan import CorpusPlan, ShardRange, difference

BuildGenerator = Callable[[], SceneGenerator]

# How often a worker may die in the same piece of work. A death need not be its fault (a preempted
# node), so a micro-batch gets a second try as it is, then its scenes get three by themselves.
BATCH_DEATHS = 2
SCENE_DEATHS = 3
COMMIT_DEATHS = 3

# What Python, an accelerator and torch on a CPU say, as ``reason`` has it.
_NO_MEMORY = re.compile(r"MemoryError|OutOfMemoryError|RuntimeError: .*DefaultCPUAllocator")
_LESS = "make fewer scenes at a time (--micro-batch, --scenes-per-shard), or use a machine with more memory"

_REASON_BYTES = 180  # a million of which can still be read


class ShardWorker:
    """Samples and commits shards with one generator, built on first use.

    Args:
        plan: what is made.
        build_generator: builds the source of scenes in this process.
        exporter: writes the scenes.
        out: the corpus folder, or its place in object storage.
        journals: folder of the journals of this run; beside object storage each machine has its own.
        wanted: in object storage, by number, the records of shards that are there and damaged: they are replaced, by
            the same bytes alone.
        stuck_after: seconds that one piece of work may take before this process is ended; None: as long as it likes.
    """

    def __init__(
        self,
        plan: CorpusPlan,
        build_generator: BuildGenerator,
        exporter: SceneExporter,
        out: Path | ObjectPath,
        journals: Path,
        wanted: Mapping[int, ShardRecord] | None = None,
        stuck_after: float | None = None,
    ) -> None:
        self._watched = nullcontext if stuck_after is None else Watchdog(stuck_after).watch
        self._wanted = wanted or {}
        self._plan, self._build, self._exporter = plan, build_generator, exporter
        self._out, self._journals = out, journals
        if isinstance(out, ObjectPath):
            journals.mkdir(exist_ok=True)
        self._generator: SceneGenerator | None = None
        # One thread samples, whoever calls: meanwhile other calls compress and write their shards.
        self._sampler = ThreadPoolExecutor(1)
        self._stopped = False

    def stop(self) -> None:
        """End the work in hand at the next micro-batch; ``make`` raises CancelledError."""
        self._stopped = True
        self._sampler.shutdown(wait=False, cancel_futures=True)

    def generator(self) -> SceneGenerator:
        """The generator, built now if it is not yet.

        Raises:
            InputError: it cannot be built, or what it builds here is not what the plan says.
        """
        if self._generator is None:
            generator = self._built()
            planned = {**self._plan.fingerprint_of_generator, "versions": self._plan.versions}
            different = difference(planned, {**generator.fingerprint(), "versions": installation()})
            if different is not None:
                raise InputError(
                    "generator",
                    f"on a worker, {different}".replace(" is ", " in the plan is ", 1),
                    "give all workers the same kind of device and CPU and the same versions",
                )
            if generator.micro_batch != self._plan.micro_batch:
                raise InputError(
                    "--micro-batch", f"found {self._plan.micro_batch}", f"the generator takes {generator.micro_batch}"
                )
            self._generator = generator
        return self._generator

    def _built(self) -> SceneGenerator:
        """A new generator.

        Raises:
            InputError: it cannot be built, or there is no memory for it.
        """
        try:
            return patiently(self._build)  # which may read from a storage that this process has not met
        except Exception as error:
            if not _NO_MEMORY.match(reason(error)):
                raise
            fix = "use fewer workers on a machine or a GPU, or a machine with more memory"
            raise InputError("generator", f"there was no memory for it on a worker ({reason(error)})", fix) from error

    def make(self, shard: ShardRange) -> ShardRecord:
        """Make and commit one shard; may be called from several threads at once.

        Raises:
            InputError: the generator refuses the request, the disk or another file refuses the shard.
        """
        journal = Journal(self._journals / f"{shard.number:05d}", self._watched)
        try:
            scenes, failures = self._sampler.submit(self._sample, shard, journal).result()
            if journal.deaths("commit") == 0:
                return self._commit(shard, scenes, failures, journal)
            # It died here before: now with nothing else going on that could be the reason.
            return self._sampler.submit(self._commit, shard, scenes, failures, journal).result()
        except MemoryError:
            raise InputError(f"shard {shard.number}", "there was no memory to write it", _LESS) from None
        except OSError as error:  # of no scene: those are recorded
            where, found = error.filename or f"shard {shard.number}", error.strerror or str(error)
            fix = "make room, or see that it can be read and written, then go on with --resume"
            raise InputError(where, f"on a worker: {found}", fix) from error
        finally:
            journal.close()

    def _sample(self, shard: ShardRange, journal: Journal) -> tuple[list[OccupancyScene], tuple[FailedScene, ...]]:
        """The scenes of a shard, and those that cannot be made."""
        generator = self.generator()
        torch = sys.modules.get("torch")  # set only where the generator uses it: importing it takes seconds
        if torch is not None:
            torch.set_num_threads(self._plan.threads)
        scenes: list[OccupancyScene] = []
        failures: list[FailedScene] = []
        for number, (specs, wanted) in enumerate(self._plan.micro_batches(shard)):
            if self._stopped:
                raise CancelledError
            made = self._batch(generator, specs, wanted, f"batch {number}", journal)
            for position, spec in enumerate(specs[:wanted]):
                result = made[position] or self._alone(generator, spec, position, journal)
                if isinstance(result, FailedScene):
                    failures.append(result)
                else:
                    scenes.append(result)
        if len(failures) > 1 and not scenes and all(_NO_MEMORY.match(failure.reason) for failure in failures):
            found = f"there was no memory for any of its {len(failures)} scenes ({failures[0].reason})"
            raise InputError(f"shard {shard.number}", found, _LESS)
        return scenes, tuple(failures)

    def _batch(
        self, generator: SceneGenerator, specs: list[SceneSpec], wanted: int, work: str, journal: Journal
    ) -> list[OccupancyScene | None]:
        """The wanted scenes of a micro-batch; None for those that have to be tried alone, all where it fails."""
        if journal.deaths(work) >= BATCH_DEATHS:
            return [None] * wanted
        try:
            with journal.entry(work):
                made = _generate(generator, specs)[:wanted]
        except InputError:
            raise
        except Exception as error:  # a scene's own trouble: each is tried alone, and what fails is recorded
            if is_device_lost(error):
                raise
            return [None] * wanted
        sound = [None if self._fault(generator, scene) else scene for scene in made]
        journal.settle(sum(scene is not None for scene in sound))
        return sound

    @staticmethod
    def _fault(generator: SceneGenerator, scene: OccupancyScene) -> str | None:
        """Why a scene of a network is none (``generators.degenerate``), or None."""
        return degenerate(scene) if getattr(generator, "sampled", False) else None

    def _alone(
        self, generator: SceneGenerator, spec: SceneSpec, position: int, journal: Journal
    ) -> OccupancyScene | FailedScene:
        """One scene in a micro-batch of copies of itself, at its own place: the same bytes as ever."""
        work = f"scene {spec.index}"
        if journal.deaths(work) >= SCENE_DEATHS:
            journal.settle(1)
            return FailedScene(spec.index, spec.seed, f"its worker died {SCENE_DEATHS} times")
        scene: OccupancyScene | FailedScene
        try:
            with journal.entry(work):
                made = _generate(generator, [spec] * self._plan.micro_batch)[position]
            fault = self._fault(generator, made)
            scene = made if fault is None else FailedScene(spec.index, spec.seed, f"degenerate: {fault}")
        except InputError:
            raise
        except Exception as error:
            if is_device_lost(error):
                raise
            scene = FailedScene(spec.index, spec.seed, reason(error))
        journal.settle(1)
        return scene

    def _commit(
        self,
        shard: ShardRange,
        scenes: list[OccupancyScene],
        failures: tuple[FailedScene, ...],
        journal: Journal,
    ) -> ShardRecord:
        if journal.deaths("commit") >= COMMIT_DEATHS:
            raise InputError(
                f"shard {shard.number}",
                f"its worker died {COMMIT_DEATHS} times while writing it",
                "check memory and disk, use fewer --scenes-per-shard",
            )
        out = self._out
        if (isinstance(out, ObjectPath) and is_taken_over(out, self._journals)) or not self._journals.exists():
            found = "it is gone, or another run has taken it over"
            raise InputError(out, found, "see that it stays, or wait for that run, then go on with --resume")
        with journal.entry("commit"):
            record = self._written(shard, scenes, failures)
            journal.commit(record)
            return record

    def _written(
        self, shard: ShardRange, scenes: list[OccupancyScene], failures: tuple[FailedScene, ...]
    ) -> ShardRecord:
        """The shard, committed; without the scenes that the exporter refuses alone too, which are recorded."""
        try:
            return self._committed(shard, scenes, failures)
        except Exception as error:
            if isinstance(error.__cause__, OSError):  # the disk, not a scene
                raise
            failed = {f.index for f in failures}
            specs = [spec for spec in self._plan.specs(shard) if spec.index not in failed]
            refused = {spec.index: self._refusal(scene) for spec, scene in zip(specs, scenes, strict=True)}
            # Bad input that no scene is to blame for, or all of them, is the request's own; so is a lack of memory.
            if isinstance(error, InputError | MemoryError) and len({why is None for why in refused.values()}) < 2:
                raise
        more = [FailedScene(s.index, s.seed, why) for s in specs if (why := refused[s.index])]
        kept = [scene for spec, scene in zip(specs, scenes, strict=True) if not refused[spec.index]]
        return self._committed(shard, kept, [*failures, *more])

    def _committed(
        self, shard: ShardRange, scenes: list[OccupancyScene], failures: Sequence[FailedScene]
    ) -> ShardRecord:
        """The shard, under its name in the folder or in object storage."""
        made = shard.number, scenes, failures, self._exporter, shard.first
        if isinstance(self._out, ObjectPath):
            return store_shard(self._out, *made, self._wanted.get(shard.number))
        return commit_shard(self._out, *made)

    def _refusal(self, scene: OccupancyScene) -> str | None:
        """Why the exporter does not write a scene by itself, or None."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._exporter.write([scene], Path(folder) / self._exporter.shard_name(0))
            except OSError:
                raise
            except Exception as error:
                return reason(error)
        return None


def _generate(generator: SceneGenerator, specs: list[SceneSpec]) -> list[OccupancyScene]:
    """A micro-batch; a generator that returns another number of scenes is at fault."""
    scenes = generator.generate(specs)
    if len(scenes) != len(specs):
        raise RuntimeError(f"{len(scenes)} scenes came for {len(specs)} specs")
    return scenes


def reason(error: Exception) -> str:
    """Why a scene failed, on one line that takes at most 180 bytes in a manifest, without addresses and paths.

    What differs between two machines stays out: the reason is part of the manifest.
    """
    text = " ".join(str(error).split())
    text = re.sub(r"0x[0-9a-fA-F]+", "0x...", text)
    text = re.sub(r"(?<![\w.])(/[^\s:'\",;)]+)+", "...", text)
    shown = f"{type(error).__name__}: {text}".rstrip(": ")[:_REASON_BYTES]
    while len(json.dumps(shown)) - 2 > _REASON_BYTES:  # what is no ASCII takes six bytes a character
        shown = shown[:-1]
    return shown
