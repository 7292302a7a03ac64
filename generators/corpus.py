"""The engine: a plan becomes a corpus, in this process or by Ray Data actors on one machine or many.

Only shard numbers travel through Ray. An actor samples its shard, writes it, and answers with the record of
what it wrote; this process keeps the manifest. This is one of the two files that import Ray, and it does
so inside functions: without workers Ray is not needed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate, islice, takewhile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dyncity.config_file import to_dict
from dyncity.datasets.corpus import Corpus
from dyncity.datasets.manifest import FailedScene, Manifest, ShardRecord
from dyncity.errors import InputError
from dyncity.last_words import last_words
from dyncity.object_storage import ObjectPath
from dyncity.ray_settings import RAY_ENDED, attempts_unsaid, end_ray, not_joined, settle_environment, sigterm_kept
from dyncity.scene import OccupancyScene
from dyncity.watchdog import STUCK_AFTER
from exporters.base import SceneExporter
from exporters.shard_digests import Compared
from generators.begun import Say
from generators.card import card
from generators.corpus_folder import OpenFolder, open_folder
from generators.corpus_prefix import OpenPrefix, open_prefix
from generators.journal import is_device_lost
from generators.ledger import Report, open_ledger
from generators.plan import CorpusPlan
from generators.shard_worker import BuildGenerator, ShardWorker
from generators.this_process import made_here, threads_for, workers_for

__all__ = ["CorpusPlan", "CorpusResult", "make_corpus", "on_worker", "ray_session"]

Preview = Callable[[list[OccupancyScene], Path], None]
Answer = TypeVar("Answer")

PREVIEW_SCENES = 16
CARD_SCENES = 64  # read back for the class shares of the card
_CARD_BYTES = 2**28  # no more of them than so many bytes of labels, but one: whole drives are long
# Ray Data keeps every block of a data set in this process's memory from its beginning to its end.
POOL_SHARDS = 10_000
_OBJECT_STORE_BYTES = 150 * 2**20  # no voxels pass through it


@dataclass(frozen=True, slots=True)
class CorpusResult:
    """What a run did.

    Attributes:
        out: the corpus folder, or its place in object storage.
        requested, written, failed: scenes; ``requested == written + failed``.
        resumed: scenes of those that an earlier run had settled.
        seconds: how long this run took.
        bytes: size of all shards.
        failures: the scenes that could not be made.
    """

    out: Path | ObjectPath
    requested: int
    written: int
    failed: int
    resumed: int
    seconds: float
    bytes: int
    failures: tuple[FailedScene, ...]

    @property
    def scenes_per_second(self) -> float:
        """Scenes that this run settled, by its time."""
        return (self.written + self.failed - self.resumed) / max(self.seconds, 1e-9)


def make_corpus(
    plan: CorpusPlan,
    build_generator: BuildGenerator,
    exporter: SceneExporter,
    out: Path | ObjectPath,
    *,
    workers: tuple[int, int] | None = (0, 0),
    gpus_per_worker: float = 0.0,
    address: str = "local",
    stuck_after: float = STUCK_AFTER,
    resume: bool = False,
    overwrite: bool = False,
    preview: Preview | None = None,
    report: Report | None = None,
    say: Say | None = None,
    compared: Compared | None = None,
) -> CorpusResult:
    """Make a corpus, or the rest of it.

    Args:
        plan: what is asked for.
        build_generator: builds the source of scenes; called in each worker, so it has to be picklable.
        exporter: writes the shards; picklable too.
        out: the folder, on a file system that all workers see, or a place in object storage.
        workers: fewest and most worker processes; (0, 0): this process, without Ray; None: one a core, or threads of
            this process for so little that Ray would take longer to start.
        gpus_per_worker: GPUs that Ray sets aside for each worker.
        address: "local" for a Ray of its own, "auto" or HOST:PORT for a running cluster.
        stuck_after: seconds after which a worker process that is still at the same micro-batch, or at writing the same
            shard, is ended as if it had died; 0: never.
        resume: go on with an interrupted run of the same plan, or start where there is none.
        overwrite: replace the corpus that is there.
        preview: draws up to 16 scenes into a file.
        report: called at least every second or so with scenes settled, scenes in all, and a note.
        say: told in one line what ``overwrite`` is going to delete, before anything is touched.
        compared: told how many shards of how many ``resume`` has compared with the manifest, before any is made.

    Raises:
        InputError: the request, the folder, the disk or the cluster is at fault. What was committed
            before stays and can be resumed; where nothing was, nothing stays.
    """
    check_execution(workers, gpus_per_worker, stuck_after)
    if exporter.container != plan.container:
        raise InputError("--container", f"found {plan.container!r}", f"the exporter writes {exporter.container!r}")
    begun = time.monotonic()
    with _opened(plan, out, resume=resume, overwrite=overwrite, say=say, compared=compared) as folder:
        made_of: dict[str, Any] = {
            "plan": plan,
            "build_generator": build_generator,
            "exporter": exporter,
            "out": folder.out,
            "journals": folder.journals,
        }
        left = [n for n in range(len(plan.shards)) if n not in folder.records]
        with open_ledger(plan, folder, report) as ledger:
            resumed = ledger.settled
            outcomes = make_shards(made_of, left, workers, gpus_per_worker, address, stuck_after)
            with closing(outcomes):  # before the folder is given up: nothing may write to it any more
                for number, record in outcomes:
                    ledger.add(number, record)
        manifest = _finish(plan, folder, preview)
    return CorpusResult(
        out=folder.out,
        requested=plan.num_scenes,
        written=manifest.written,
        failed=manifest.failed,
        resumed=resumed,
        seconds=time.monotonic() - begun,
        bytes=sum(s.bytes for s in manifest.shards),
        failures=tuple(f for s in manifest.shards for f in s.failures),
    )


def _opened(
    plan: CorpusPlan, out: Path | ObjectPath, **options: Any
) -> AbstractContextManager[OpenFolder | OpenPrefix]:
    """The place of the corpus, held by this process while it is open."""
    if isinstance(out, ObjectPath):
        return open_prefix(plan, out, **options)
    return open_folder(plan, Path(out).absolute(), **options)


def check_execution(workers: tuple[int, int] | None, gpus_per_worker: float, stuck_after: float) -> None:
    """Raise InputError unless there can be so many workers with so many GPUs and so much patience."""
    if workers and workers != (0, 0) and not 1 <= workers[0] <= workers[1]:
        found = f"found {workers[0]}:{workers[1]}"
        raise InputError("--workers", found, "give N or MIN:MAX with 1 <= MIN <= MAX")
    if not 0 <= gpus_per_worker < float("inf"):
        raise InputError("--gpus-per-worker", f"found {gpus_per_worker}", "give a number from 0")
    if not 0 <= stuck_after < float("inf"):
        raise InputError("--stuck-after", f"found {stuck_after}", "give seconds; 0: never")


def make_shards(
    made_of: dict[str, Any],
    numbers: Sequence[int],
    workers: tuple[int, int] | None,
    gpus_per_worker: float,
    address: str,
    stuck_after: float,
) -> Generator[tuple[int, ShardRecord]]:
    """Number and record of each shard as it is committed, in any order.

    Args:
        made_of: the arguments of ``ShardWorker``.
        numbers: of the shards to make.
        workers, gpus_per_worker, address, stuck_after: as for ``make_corpus``.
    """
    of_ray = workers_for(workers, made_of["plan"], numbers)
    if of_ray == (0, 0):
        return made_here(made_of, numbers, threads_for(made_of["plan"], numbers) if workers is None else 1)
    made_of = made_of | {"stuck_after": stuck_after or None}
    return _on_ray(made_of, numbers, of_ray, gpus_per_worker, address)


class _ShardActor:
    """A ShardWorker as Ray Data calls it: a shard's number a row in; its record, or an InputError, as JSON out."""

    def __init__(self, **made_of: Any) -> None:
        self._worker, self._shards = ShardWorker(**made_of), made_of["plan"].shards

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        shard = self._shards[int(batch["number"][0])]
        answer: dict[str, Any]
        try:
            answer = {"record": to_dict(self._worker.make(shard))}
        except InputError as error:
            answer = {"error": [error.where, error.found, error.fix]}
        except Exception as error:
            if is_device_lost(error):
                os._exit(1)  # Ray starts a new process, with a device that works
            raise
        return {"number": [shard.number], "answer": [json.dumps(answer)]}


def _on_ray(
    made_of: dict[str, Any],
    numbers: Sequence[int],
    workers: tuple[int, int],
    gpus_per_worker: float,
    address: str,
) -> Generator[tuple[int, ShardRecord]]:
    """By pools of actors that Ray Data keeps alive and scales."""
    if not numbers:
        return
    least, most = (min(n, len(numbers)) for n in workers)
    cpus = made_of["plan"].threads
    with ray_session(address, cpus * most, gpus_per_worker * least) as ray:
        for first in range(0, len(numbers), POOL_SHARDS):
            some = numbers[first : first + POOL_SHARDS]
            # One operator and no read task: actors that hold every CPU would wait for ever for a second one.
            dataset = ray.data.from_items([{"number": n} for n in some], override_num_blocks=len(some)).map_batches(
                _ShardActor,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(
                    min_size=min(least, len(some)),
                    max_size=min(most, len(some)),
                    # A second call compresses and writes its shard while the first one samples.
                    max_concurrent_calls_per_actor=2,
                    # No more wait there: of few shards the first actor to start would take all.
                    max_tasks_in_flight_per_actor=2,
                    enable_true_multi_threading=True,
                ),
                num_cpus=cpus,
                num_gpus=gpus_per_worker or None,
                fn_constructor_kwargs=made_of,
            )
            for row in dataset.iter_rows():
                yield int(row["number"]), _record(json.loads(row["answer"]))


def _record(answer: dict[str, Any]) -> ShardRecord:
    """The record in an actor's answer; an InputError in it is raised here."""
    if "error" in answer:
        raise InputError(*answer["error"])
    values = answer["record"]
    failures = tuple(FailedScene(**f) for f in values.pop("failures"))
    return ShardRecord(**values, failures=failures)


def on_worker(work: Callable[[], Answer], address: str, *, cpus: int = 1, gpus: float = 0.0) -> Answer:
    """Call ``work`` in a process like those of the workers, on a node that has what they are given.

    The head of a cluster, where a driver runs, has no GPU: what decides the bytes there, and how fast scenes
    are made, only a worker can say. Waits until the cluster has such a node.

    Args:
        work: picklable, and what it returns as well.
        address: the cluster's, as ``make_corpus`` takes it.
        cpus, gpus: what a worker is given.

    Raises:
        InputError: no such cluster, or ``work`` raises it.
    """
    with ray_session(address, cpus, gpus) as ray:
        # A preempted node is no fault of the work: it is called again on another one.
        task = ray.remote(num_cpus=cpus, num_gpus=gpus or None, max_retries=-1)(_answer)
        answer = ray.get(task.remote(work))
    if isinstance(answer, InputError):
        raise answer
    return answer


def _answer(work: Callable[[], Answer]) -> Answer | InputError:
    """What the work returns, or the InputError that it raises."""
    try:
        return work()
    except InputError as error:
        return error


@contextmanager
def ray_session(address: str, cpus: int, gpus: float = 0.0) -> Iterator[Any]:
    """Ray, quiet: the one that runs in this process already, a cluster's, or a local one that ends here.

    Args:
        address: "local", "auto" or HOST:PORT.
        cpus: CPUs that a local Ray offers at the least.
        gpus: GPUs that a local Ray has to have.

    Raises:
        InputError: no cluster at that address, one that wants another token, Ray does not start, too few GPUs.
    """
    settle_environment(address)
    import ray
    import ray.data

    if ray.is_initialized():
        yield _settled(ray, address, gpus)
        return
    with last_words(RAY_ENDED):
        _start(ray, address, cpus)
        try:
            yield _settled(ray, address, gpus)
        finally:
            end_ray(ray.shutdown)


def _settled(ray: Any, address: str, gpus: float) -> Any:
    """Ray as it has to be for shards; raises InputError where a local one has too few GPUs."""
    if address == "local" and gpus > (found := ray.cluster_resources().get("GPU", 0)):
        raise InputError("--gpus-per-worker", f"{gpus:g} GPUs wanted, found {found:g}", "ask for fewer")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.max_consecutive_actor_init_deaths = 3
    return ray


def _start(ray: Any, address: str, cpus: int) -> None:
    """Start a local Ray or join a cluster's."""
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        # More CPUs than there are: workers that were asked for must never wait for one.
        options["num_cpus"] = max(os.cpu_count() or 1, cpus)
        options["object_store_memory"] = _OBJECT_STORE_BYTES
    try:
        with attempts_unsaid(), sigterm_kept():
            ray.init(address=address, **options)
    except Exception as error:  # Ray raises a bare Exception when it does not start in time
        raise not_joined(address, error) from error


def _finish(plan: CorpusPlan, folder: OpenFolder | OpenPrefix, preview: Preview | None) -> Manifest:
    """Preview, card and the manifest that digests them, all from what is in the shards."""
    folder.sweep()
    folder.save(folder.manifest(plan))
    sample = card_sample(Corpus(folder.out, _head(folder.manifest(plan))))
    picture = preview is not None and bool(sample)
    if picture and preview is not None:
        folder.replace("preview.png", lambda path: preview(sample[:PREVIEW_SCENES], path))
    manifest = folder.manifest(plan)
    folder.replace("README.md", lambda path: path.write_text(card(plan, manifest, sample, picture)))
    folder.save(manifest)
    return manifest


def _head(manifest: Manifest) -> Manifest:
    """The manifest of the first shards alone, with the scenes that card and picture look at: all take long to open."""
    before = accumulate((s.scenes for s in manifest.shards), initial=0)
    head = takewhile(lambda pair: pair[0] < CARD_SCENES, zip(before, manifest.shards, strict=False))
    return replace(manifest, shards=tuple(record for _, record in head))


def card_sample(corpus: Corpus) -> list[OccupancyScene]:
    """The first scenes, as many as the card and the picture look at."""
    sample: list[OccupancyScene] = []
    size = 0
    for scene in islice(corpus.scenes(), CARD_SCENES):
        size += scene.semantics.nbytes
        if sample and size > _CARD_BYTES:
            break
        sample.append(scene)
    return sample
