"""The command line: parse, call, show. What the verbs do lives in the packages, imported inside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from dyncity.errors import InputError
from dyncity.exit_codes import run
from dyncity.options import (
    Address,
    Checkpoint,
    Columns,
    ConfigFile,
    Container,
    Corpus,
    DryRun,
    Gpus,
    Labels,
    MadeColumns,
    OptionalPreset,
    OutPlace,
    Overwrite,
    PerShard,
    Resume,
    Seed,
    Settings,
    Strict,
    StuckAfter,
    Workers,
    before_verbs,
    closing,
    made_columns,
    not_for,
    only_with,
    words,
    worker_range,
)
from dyncity.verbs import convert, encode, evaluate, train
from dyncity.watchdog import STUCK_AFTER
from exporters.verbs import export, info, verify, view

if TYPE_CHECKING:
    from dyncity.object_storage import ObjectPath
    from exporters.base import SceneExporter

# Plain help: it is quick, and readable in a pipe.
app = typer.Typer(
    name="dyncity",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def generate(
    context: typer.Context,
    out: OutPlace,
    num_scenes: Annotated[int, typer.Option(metavar="N", help="How many scenes.")] = 16,
    seed: Seed = 0,
    generator: Annotated[str, typer.Option(metavar="NAME", help="diffusion or procedural.")] = "diffusion",
    checkpoint: Checkpoint = None,
    preset: OptionalPreset = None,
    config: ConfigFile = None,
    settings: Settings = None,
    frame: Annotated[str, typer.Option(metavar="ego|world", help="procedural: what grids are fixed to.")] = "ego",
    labels: Labels = "native",
    container: Container = "parquet",
    columns: MadeColumns = "",
    command: Annotated[str, typer.Option(metavar="NAME", help="static, forward, left, right or mixed.")] = "mixed",
    trajectory: Annotated[Path | None, typer.Option(metavar="FILE", help=".json, .npy, .csv: x, y, yaw.")] = None,
    layout: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture, array, JSON or scene: what is where.")
    ] = None,
    chunks: Annotated[int, typer.Option(metavar="N", min=1, help="diffusion: longer scenes, N clips on end.")] = 1,
    strict: Strict = False,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="diffusion: euler, heun, ab2; of DDPM ancestral, ddim, dpmpp_2m; else the checkpoint's.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="diffusion: steps of the solver; else the checkpoint's.")
    ] = None,
    cfg_scale: Annotated[
        float | None, typer.Option(metavar="S", help="diffusion: guidance scale, 1 is none; else the checkpoint's.")
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(metavar="N", help="Scenes made at a time; else the configuration's.")
    ] = None,
    scenes_per_shard: PerShard = None,
    workers: Workers = None,
    gpus_per_worker: Gpus = 0.0,
    address: Address = "local",
    stuck_after: StuckAfter = STUCK_AFTER,
    resume: Resume = False,
    overwrite: Overwrite = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make what is damaged in DIR again, by its own manifest.")
    ] = False,
    dry_run: DryRun = False,
    price_per_gpu_hour: Annotated[float | None, typer.Option(metavar="P", help="--dry-run: of one GPU.")] = None,
    price_per_cpu_hour: Annotated[float | None, typer.Option(metavar="P", help="--dry-run: of one CPU.")] = None,
    scenes_per_second: Annotated[
        float | None, typer.Option(metavar="R", help="--dry-run: of one worker; else measured.")
    ] = None,
) -> None:
    """Make a corpus of labelled scenes.

    \b
    Examples:
      dyncity generate --num-scenes 16 --out corpus
      dyncity generate --command left --num-scenes 4 --labels semantickitti --out left-turns
      dyncity generate --generator procedural --num-scenes 100 --out city
      dyncity generate --repair --out city
      dyncity generate --num-scenes 1000000 --dry-run --price-per-cpu-hour 0.05 --out corpus
    """
    if repair:
        execution = ("workers", "gpus_per_worker", "address", "stuck_after")
        only_with("--repair", context, "repair", "out", "checkpoint", "layout", *execution)
        _repair(out, checkpoint, layout, _execution(workers, gpus_per_worker, address, stuck_after))
        return
    from dyncity.layout_file import read_layout
    from dyncity.trajectory_file import read_trajectory
    from generators import sources
    from generators.cost import Prices

    prices = Prices(price_per_gpu_hour, price_per_cpu_hour, scenes_per_second)
    if generator == "diffusion":
        not_for(generator, {"--frame": frame != "ego"})
        sampling = {"sampler": sampler, "steps": steps, "cfg_scale": cfg_scale, "micro_batch": micro_batch}
        sampling["cfg_scale_layout"] = None if cfg_scale is None else 0.0  # what is asked for holds for all scenes
        source = sources.diffusion(checkpoint, preset, config, settings or [], chunks, **sampling)
    elif generator == "procedural":
        not_for(
            generator,
            {
                "--checkpoint": checkpoint,
                "--chunks": chunks != 1,
                "--layout": layout,
                "--sampler": sampler,
                "--steps": steps,
                "--cfg-scale": cfg_scale,
            },
        )
        if frame not in ("ego", "world"):
            raise InputError("--frame", f"found {frame!r}", "use one of ego, world")
        fixed: Literal["ego", "world"] = "world" if frame == "world" else "ego"
        source = sources.procedural(preset, config, settings or [], fixed, micro_batch)
    else:
        raise InputError("--generator", f"found {generator!r}", "use one of diffusion, procedural")
    _make(
        out,
        generator=source.build(),
        source=source,
        request={
            "num_scenes": num_scenes,
            "seed": seed,
            "scenes_per_shard": scenes_per_shard,
            "labels": labels,
            "container": container,
            "columns": made_columns(columns),
            "command": command,
            "trajectory": None
            if trajectory is None
            else read_trajectory(trajectory, source.config.clip.frames, source.config.grid.frame_rate, num_scenes),
            "layout": read_layout(layout, source.config, longer=chunks != 1) if layout else None,
        },
        execution=_execution(workers, gpus_per_worker, address, stuck_after, resume=resume, overwrite=overwrite),
        dry_run=dry_run,
        strict=strict,
        prices=prices,
    )


def import_logs(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="av2 (logs), semantickitti, occ3d-nuscenes, occ3d-waymo or carlasc.")
    ],
    logs: Annotated[Path, typer.Argument(metavar="SOURCE", help="A log, a folder of logs, or a tree.")],
    out: OutPlace,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="av2: the grid, by default tiny.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    frames: Annotated[int | None, typer.Option(metavar="N", help="Frames of a scene; else whole drives.")] = None,
    labels: Labels = "native",
    container: Container = "parquet",
    columns: Columns = "",
    scenes_per_shard: Annotated[int, typer.Option(metavar="N", help="Scenes of a shard.")] = 1,
    workers: Workers = None,
    address: Address = "local",
    stuck_after: StuckAfter = STUCK_AFTER,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Turn driving logs or a data set's tree into a corpus.

    \b
    Examples:
      dyncity import av2 logs --preset tiny --out recorded
      dyncity import semantickitti kitti --frames 100 --out recorded
    """
    from generators import sources
    from generators.recorded_trees import TREES

    if kind == "av2":
        source = sources.recorded(logs, preset or "tiny", config, settings or [], frames)
    elif kind in TREES:
        not_for(kind, {"--config": config, "--set": settings})
        source = sources.trees(kind, logs, preset, frames, labels)
    else:
        raise InputError("KIND", f"found {kind!r}", f"use one of av2, {', '.join(TREES)}")
    recordings = source.build()
    recordings.check()
    _make(
        out,
        generator=recordings,
        source=source._replace(build=partial(source.build, content=recordings.content)),  # which is found once
        request={
            "num_scenes": recordings.scenes,
            "scenes_per_shard": scenes_per_shard,
            "labels": labels,
            "container": container,
            "columns": words(columns) or recordings.columns,
        },
        execution=_execution(workers, 0.0, address, stuck_after, resume=resume, overwrite=overwrite),
        dry_run=dry_run,
    )


def edit(
    corpus: Corpus,
    out: OutPlace,
    inpaint: Annotated[Path | None, typer.Option(metavar="FILE", help="A region (JSON) to generate anew.")] = None,
    frame: Annotated[int | None, typer.Option(metavar="K", help="Keep frame K alone, generate the others.")] = None,
    outpaint: Annotated[
        str | None, typer.Option(metavar="METRES", help="Make scenes larger: 60, or ahead=60,left=20.")
    ] = None,
    at: Annotated[int, typer.Option(metavar="N", help="--frame: as which frame; 0 makes what follows it.")] = 0,
    checkpoint: Checkpoint = None,
    settings: Settings = None,
    num_scenes: Annotated[int | None, typer.Option(metavar="N", help="By default one for each of CORPUS.")] = None,
    strict: Strict = False,
    seed: Seed = 0,
    labels: Labels = "native",
    container: Container = "parquet",
    scenes_per_shard: PerShard = None,
    workers: Workers = None,
    gpus_per_worker: Gpus = 0.0,
    address: Address = "local",
    stuck_after: StuckAfter = STUCK_AFTER,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Generate a part of each scene anew. The rest is kept, voxel for voxel.

    \b
    Examples:
      dyncity edit corpus --inpaint region.json --out edited
      dyncity edit corpus --frame 0 --out futures
      dyncity edit corpus --frame 7 --at 7 --out pasts
      dyncity edit corpus --outpaint 65 --out large
    """
    from dyncity.regions import read_region
    from generators import sources
    from generators.outpainting import read_margins

    edits = {"--inpaint": inpaint, "--frame": frame, "--outpaint": outpaint}
    asked = [option for option, value in edits.items() if value is not None]
    if isinstance(corpus, Path) and isinstance(out, Path) and out.resolve().is_relative_to(corpus.resolve()):
        raise InputError("--out", f"{out} is in the corpus that is edited", "give another folder")
    if len(asked) != 1:
        found = " and ".join(asked) or "nothing"
        raise InputError("dyncity edit", f"found {found} to edit", f"give one of {', '.join(edits)}")
    if frame is None:
        not_for(asked[0], {"--at": at != 0})
    if outpaint is not None:
        source = sources.outpainting(corpus, checkpoint, settings or [], read_margins(outpaint))
    else:
        region = None if inpaint is None else read_region(inpaint)
        source = sources.edits(corpus, checkpoint, settings or [], region, frame, at)
    editor = source.build()
    if inpaint is not None:
        editor.check()
    _make(
        out,
        generator=editor,
        source=source,
        request={
            "num_scenes": editor.scenes if num_scenes is None else num_scenes,
            "seed": seed,
            "scenes_per_shard": scenes_per_shard,
            "labels": labels,
            "container": container,
        },
        execution=_execution(workers, gpus_per_worker, address, stuck_after, resume=resume, overwrite=overwrite),
        dry_run=dry_run,
        strict=strict,
    )


def doctor() -> None:
    """Say what this machine and installation can do.

    \b
    Example:
      dyncity doctor
    """
    from dyncity.doctor import examine
    from dyncity.terminal import show_table
    from generators.smoke import smoke

    checks = list(examine(smoke))
    show_table(checks, header=("what", "status", "found"))
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _execution(
    workers: str | None, gpus_per_worker: float, address: str, stuck_after: float, **folder: bool
) -> dict[str, Any]:
    """How a corpus is made, as ``make_corpus`` takes it; ``folder``: resume, overwrite."""
    asked = workers is not None or address != "local" or gpus_per_worker > 0
    return {
        "workers": worker_range(workers, os.cpu_count() or 1, address) if asked else None,
        "gpus_per_worker": gpus_per_worker,
        "address": address,
        "stuck_after": stuck_after,
        **folder,
    }


def _exporters() -> dict[str, Callable[..., SceneExporter]]:
    """The exporter of each container."""
    from exporters.numpy import NumpyExporter
    from exporters.parquet import ParquetExporter

    return {"parquet": ParquetExporter, "numpy": NumpyExporter}


def _repair(
    out: Path | ObjectPath, checkpoint: Path | ObjectPath | None, layout: Path | None, execution: dict[str, Any]
) -> None:
    """Repair a corpus; leaves with exit code 1 where something is left that is no part of it."""
    from exporters.sheets import contact_sheet
    from generators.make import repair

    left = repair(out, checkpoint, layout, execution, exporters=_exporters(), preview=contact_sheet)
    closing("verify", out)
    if left:
        raise typer.Exit(1)


def _make(out: Path | ObjectPath, dry_run: bool, **what: Any) -> None:
    """Make a corpus in ``out`` as ``generators.make`` does; leaves with exit code 1 where scenes failed."""
    from exporters.sheets import contact_sheet
    from generators.make import make

    failed = make(out=out, dry_run=dry_run, exporters=_exporters(), preview=contact_sheet, **what)
    if not dry_run:
        closing("view", out, "--out", f"{out.name}.gif")
    if failed:
        raise typer.Exit(1)


for _name, _verb in (
    ("generate", generate),
    ("import", import_logs),
    ("edit", edit),
    ("train", train),
    ("encode", encode),
    ("convert-checkpoint", convert),
    ("export", export),
    ("verify", verify),
    ("info", info),
    ("evaluate", evaluate),
    ("view", view),
    ("doctor", doctor),
):
    app.command(_name)(_verb)
app.callback()(before_verbs)


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script: ``arguments``, by default those of the process; leaves with an exit code."""
    run(app, arguments)


if __name__ == "__main__":
    main()
