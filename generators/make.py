"""From a source of scenes to a corpus as a user asks for it: a plan, progress, a table of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dyncity.object_storage import ObjectPath
from dyncity.terminal import ProgressLine, show_table
from exporters.base import SceneExporter
from generators.base import SceneGenerator
from generators.corpus import Preview, make_corpus
from generators.dry_run import dry_run as estimate
from generators.plan import CorpusPlan
from generators.plan_check import check_plan
from generators.sources import Source

_FAILURES_SHOWN = 5


def make(
    generator: SceneGenerator,
    source: Source,
    out: Path | ObjectPath,
    request: Mapping[str, Any],
    execution: Mapping[str, Any],
    *,
    exporters: Mapping[str, Callable[..., SceneExporter]],
    preview: Preview,
    dry_run: bool = False,
    strict: bool = False,
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

    Raises:
        InputError: as ``make_corpus``, and as ``check_plan``.
    """
    plan = CorpusPlan(
        generator=generator.name,
        config=generator.config,
        micro_batch=generator.micro_batch,
        fingerprint_of_generator=generator.fingerprint(),
        **request,
    )
    exporter = exporters[plan.container](labels=plan.labels, columns=plan.columns)
    check_plan(plan, generator, strict)
    if dry_run:
        rows = estimate(plan, source.build, exporter, execution["workers"])
        show_table(list(rows.items()), title=f"would write {out}")
        return 0
    with ProgressLine(plan.generator, "scenes", plan.num_scenes) as progress:
        result = make_corpus(plan, source.build, exporter, out, preview=preview, report=progress.update, **execution)
    table = [
        ("scenes", f"{result.written} written, {result.failed} failed of {result.requested}"),
        ("shards", f"{len(plan.shards)}, {result.bytes / 1e6:.1f} MB"),
        ("time", f"{result.seconds:.1f} s, {result.scenes_per_second:.2f} scenes/s"),
        ("picture", str(out / "preview.png")),
        *((f"failed scene {f.index}", f.reason) for f in result.failures[:_FAILURES_SHOWN]),
    ]
    show_table(table, title=str(out))
    return result.failed
