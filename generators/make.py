"""From a source of scenes to a corpus as a user asks for it: a plan, progress, a table of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dyncity.config import Config
from dyncity.config_file import from_dict
from dyncity.datasets.manifest import MANIFEST
from dyncity.errors import InputError
from dyncity.layout_file import read_layout
from dyncity.object_storage import ObjectPath
from dyncity.terminal import ProgressLine, show_table, size_text
from exporters.base import SceneExporter
from generators.base import SceneGenerator
from generators.corpus import Preview, make_corpus, on_worker
from generators.cost import Prices
from generators.dry_run import dry_run as estimate
from generators.installation import installation
from generators.plan import CorpusPlan
from generators.plan_check import check_plan
from generators.repair import repair_corpus, repairable
from generators.shard_worker import BuildGenerator
from generators.sources import Source, of_plan

_FAILURES_SHOWN = 5
Exporters = Mapping[str, Callable[..., SceneExporter]]
Decisive = tuple[dict[str, str | int | float], dict[str, str]]


def make(
    generator: SceneGenerator,
    source: Source,
    out: Path | ObjectPath,
    request: Mapping[str, Any],
    execution: Mapping[str, Any],
    *,
    exporters: Exporters,
    preview: Preview,
    dry_run: bool = False,
    strict: bool = False,
    prices: Prices | None = None,
) -> int:
    """Make the corpus and show what came of it; the number of scenes that failed.

    Args:
        generator: what ``source`` builds, built here once.
        source: builds it in workers.
        out: the folder, or the place in object storage.
        request: fields of ``CorpusPlan``.
        execution: options of ``make_corpus``.
        exporters: the class of the exporter of each container.
        preview: draws scenes into a file.
        dry_run: show what it would come to, and write nothing.
        strict: conditions that contradict themselves are refused, not warned of.
        prices: for a dry run, what an hour costs.

    Raises:
        InputError: as ``make_corpus``, and as ``check_plan``.
    """
    address, gpus = execution["address"], execution["gpus_per_worker"]
    on_cluster = address != "local" and execution["workers"] != (0, 0)
    fingerprint, versions = _decisive_of_worker(source.build, address, gpus) if on_cluster else _decisive(generator)
    plan = CorpusPlan(
        generator=generator.name,
        config=generator.config,
        micro_batch=generator.micro_batch,
        fingerprint_of_generator=fingerprint,
        versions=versions,
        **request,
    )
    exporter = exporters[plan.container](labels=plan.labels, columns=plan.columns)
    check_plan(plan, generator, strict)
    if dry_run:
        measure = partial(estimate, plan, source.build, exporter, execution["workers"], gpus, prices)
        rows = on_worker(measure, address, cpus=plan.threads, gpus=gpus) if on_cluster else measure()
        show_table(list(rows.items()), title=f"would write {out}")
        return 0
    if prices is not None and prices != Prices():
        raise InputError("--dry-run", "it is missing", "prices and rates are for estimates alone")
    with ProgressLine(plan.generator, "scenes", plan.num_scenes) as progress:
        result = make_corpus(
            *(plan, source.build, exporter, out),
            preview=preview,
            report=progress.update,
            compared=progress.before("compare", "shards"),
            say=lambda line: print(line, flush=True),  # noqa: T201
            **execution,
        )
    table = [
        ("scenes", f"{result.written} written, {result.failed} failed of {result.requested}"),
        ("shards", f"{len(plan.shards)}, {size_text(result.bytes)}"),
        ("time", f"{result.seconds:.1f} s, {result.scenes_per_second:.2f} scenes/s"),
        ("picture", str(out / "preview.png")),
        *((f"failed scene {f.index}", f.reason) for f in result.failures[:_FAILURES_SHOWN]),
    ]
    show_table(table, title=str(out))
    return result.failed


def repair(
    out: Path | ObjectPath,
    checkpoint: Path | ObjectPath | None,
    layout: Path | None,
    execution: Mapping[str, Any],
    *,
    exporters: Exporters,
    preview: Preview,
) -> int:
    """Make what is damaged in a corpus again and show what was; how much ``dyncity verify`` still finds.

    Args:
        out: the corpus, in a folder or in object storage.
        checkpoint: that it was made with, where that is not the shipped one.
        layout: the file of the layout that it was made with.
        execution: workers, GPUs and address, as for ``make_corpus``.
        exporters, preview: as for ``make``.

    Raises:
        InputError: as ``repair_corpus``, ``CorpusPlan.from_dict`` and ``of_plan``.
    """
    values, where = repairable(out).plan, str(out / MANIFEST)
    config = from_dict(Config, values.get("config"), where, "plan.config")
    said = values.get("fingerprint_of_generator")
    longer = isinstance(said, dict) and "chunks" in said
    plan = CorpusPlan.from_dict(values, where, read_layout(layout, config, longer) if layout else None)
    source = of_plan(plan, checkpoint)
    exporter = exporters[plan.container](labels=plan.labels, columns=plan.columns)
    generator, fingerprint = source.build(), None
    if execution["address"] != "local" and execution["workers"] != (0, 0):
        address, gpus = execution["address"], execution["gpus_per_worker"]
        fingerprint, versions = _decisive_of_worker(source.build, address, gpus)
        plan = replace(plan, versions=versions)
    with ProgressLine("repair", "scenes") as progress:
        result = repair_corpus(
            *(plan, generator, source.build, exporter, out),
            fingerprint=fingerprint,
            preview=preview,
            report=progress.update,
            compared=progress.before("compare", "shards"),
            **execution,
        )
    table = [
        ("shards", f"{len(result.shards)} of {len(plan.shards)} made again, {result.scenes} scenes"),
        *(("shard", name) for name in result.shards),
        *(("file", name) for name in result.files),
        ("time", f"{result.seconds:.1f} s"),
        *(("left", finding) for finding in result.left),
    ]
    show_table(table, title=str(out))
    return len(result.left)


def _decisive(generator: SceneGenerator) -> Decisive:
    """What decides the bytes in this process besides what is asked for."""
    return generator.fingerprint(), installation()


def _decisive_of_worker(build: BuildGenerator, address: str, gpus: float) -> Decisive:
    """What decides them on a worker: the head of a cluster has no GPU and maybe another CPU."""
    show_table([("device", "asking a worker of the cluster, which may have to start one")])
    return on_worker(partial(_built_decisive, build), address, gpus=gpus)


def _built_decisive(build: BuildGenerator) -> Decisive:
    return _decisive(build())
