"""The command line: parse, call, show. What the verbs do lives in the packages, imported inside them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from dyncity.errors import InputError
from dyncity.exit_codes import run
from exporters.formats import FORMATS

if TYPE_CHECKING:
    from generators.base import SceneGenerator
    from generators.sources import Source

# Plain help: it is quick, and readable in a pipe.
app = typer.Typer(
    name="dyncity",
    help="Labelled 4D semantic occupancy, generated, for training driving perception.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")]
Preset = Annotated[str, typer.Option(metavar="NAME", help="tiny, carlasc, occ3d-nuscenes, occ3d-waymo, semantickitti.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML or JSON laid over the preset.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c", help="One value laid over all others; may be repeated."),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Root seed: decides every scene.")]
Labels = Annotated[
    str, typer.Option(metavar="NAME", help="native, semantickitti, occ3d-nuscenes, occ3d-waymo or carlasc.")
]
Container = Annotated[str, typer.Option(metavar="parquet|numpy", help="What the shards are.")]
Columns = Annotated[str, typer.Option(metavar="A,B", help="More columns: mask_lidar, mask_camera, instances, boxes.")]
PerShard = Annotated[int | None, typer.Option(metavar="N", help="Scenes of a shard; by default a few seconds of work.")]
Workers = Annotated[
    str | None,
    typer.Option(metavar="N|MIN:MAX", help="Worker processes, by default by the cores; 0: this one, without Ray."),
]
Gpus = Annotated[float, typer.Option("--gpus-per-worker", metavar="G", help="GPUs of a worker; 0: CPU.")]
Address = Annotated[str, typer.Option(metavar="local|auto|HOST:PORT", help="The Ray cluster; local: this machine.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")]
Corpus = Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a corpus.")]
OptionalPreset = Annotated[
    str | None, typer.Option("--preset", metavar="NAME", help="A preset; by default what the input says.")
]


@app.command()
def generate(
    out: Out,
    num_scenes: Annotated[int, typer.Option(metavar="N", help="How many scenes.")] = 16,
    seed: Seed = 0,
    generator: Annotated[str, typer.Option(metavar="NAME", help="diffusion or procedural.")] = "diffusion",
    checkpoint: Annotated[Path | None, typer.Option(metavar="DIR", help="diffusion: else the shipped one.")] = None,
    preset: OptionalPreset = None,
    config: ConfigFile = None,
    settings: Settings = None,
    frame: Annotated[str, typer.Option(metavar="ego|world", help="procedural: what grids are fixed to.")] = "ego",
    labels: Labels = "native",
    container: Container = "parquet",
    columns: Columns = "",
    command: Annotated[str, typer.Option(metavar="NAME", help="static, forward, left, right or mixed.")] = "mixed",
    trajectory: Annotated[Path | None, typer.Option(metavar="FILE", help=".json, .npy, .csv of x, y, yaw.")] = None,
    layout: Annotated[Path | None, typer.Option(metavar="FILE", help=".png, .npy, .json of what is where.")] = None,
    chunks: Annotated[int, typer.Option(metavar="N", min=1, help="diffusion: longer scenes, N clips on end.")] = 1,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME", help="diffusion: euler, heun; for DDPM ancestral, ddim, dpmpp_2m.")
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="diffusion: steps of the solver.")] = None,
    cfg_scale: Annotated[float | None, typer.Option(metavar="S", help="diffusion: guidance scale; 1 is none.")] = None,
    micro_batch: Annotated[int | None, typer.Option(metavar="N", help="Scenes made at a time.")] = None,
    scenes_per_shard: PerShard = None,
    workers: Workers = None,
    gpus_per_worker: Gpus = 0.0,
    address: Address = "local",
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Make a corpus of labelled scenes.

    \b
    Examples:
      dyncity generate --num-scenes 16 --out corpus
      dyncity generate --command left --num-scenes 4 --labels semantickitti --out left-turns
      dyncity generate --generator procedural --num-scenes 100 --out city
    """
    from dyncity.layout_file import read_layout
    from dyncity.trajectory_file import read_trajectory
    from generators import sources

    if generator == "diffusion":
        if layout is not None and chunks != 1:
            raise InputError("--layout", "was given beside --chunks", "ask for a layout of one clip, or for chunks")
        _not_for(generator, {"--frame": frame != "ego"})
        sampling = {"sampler": sampler, "steps": steps, "cfg_scale": cfg_scale, "micro_batch": micro_batch}
        source = sources.diffusion(checkpoint, preset, config, settings or [], chunks, **sampling)
    elif generator == "procedural":
        _not_for(
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
        source.build(),
        source,
        out,
        request={
            "num_scenes": num_scenes,
            "seed": seed,
            "scenes_per_shard": scenes_per_shard,
            "labels": labels,
            "container": container,
            "columns": _words(columns),
            "command": command,
            "trajectory": read_trajectory(trajectory, source.config.clip.frames) if trajectory else None,
            "layout": read_layout(layout, source.config) if layout else None,
        },
        execution={
            "workers": _range(workers, os.cpu_count() or 1),
            "gpus_per_worker": gpus_per_worker,
            "address": address,
            "resume": resume,
            "overwrite": overwrite,
        },
        dry_run=dry_run,
    )


@app.command("import")
def import_logs(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="av2: what the logs are: Argoverse 2 sensor logs.")],
    logs: Annotated[Path, typer.Argument(metavar="SOURCE", help="A log, a folder of logs, or of splits.")],
    out: Out,
    preset: Preset = "tiny",
    config: ConfigFile = None,
    settings: Settings = None,
    frames: Annotated[int | None, typer.Option(metavar="N", help="Frames of a scene; else whole logs.")] = None,
    labels: Labels = "native",
    container: Container = "parquet",
    columns: Columns = "",
    scenes_per_shard: PerShard = 1,
    workers: Workers = None,
    address: Address = "local",
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Turn recorded driving logs into a corpus.

    \b
    Example:
      dyncity import av2 logs --preset tiny --out recorded
    """
    from generators import sources

    if kind != "av2":
        raise InputError("KIND", f"found {kind!r}", "use av2")
    source = sources.recorded(logs, preset, config, settings or [], frames)
    recordings = source.build()
    recordings.check()
    _make(
        recordings,
        source,
        out,
        request={
            "num_scenes": recordings.scenes,
            "scenes_per_shard": scenes_per_shard,
            "labels": labels,
            "container": container,
            "columns": _words(columns),
        },
        execution={
            "workers": _range(workers, os.cpu_count() or 1),
            "gpus_per_worker": 0.0,
            "address": address,
            "resume": resume,
            "overwrite": overwrite,
        },
        dry_run=dry_run,
    )


@app.command()
def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="vae or dit: which of the two models.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="vae: a corpus; dit: latents made by encode.")],
    out: Out,
    vae: Annotated[Path | None, typer.Option(metavar="RUN", help="dit: the VAE that encoded the data.")] = None,
    start_from: Annotated[Path | None, typer.Option(metavar="CHECKPOINT", help="Train its weights further.")] = None,
    preset: OptionalPreset = None,
    config: ConfigFile = None,
    settings: Settings = None,
    workers: Workers = None,
    gpus_per_worker: Gpus = 0.0,
    address: Address = "local",
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Train the VAE on a corpus, or the DiT on its latents.

    \b
    Examples:
      dyncity train vae --data corpus --out vae --set train_vae.steps=2000
      dyncity train dit --data latents --vae vae --out dit --set train_dit.steps=2000
      dyncity train vae --data logs --start-from vae --out adapted --set train_vae.lr=5e-4
    """
    from dyncity.config import override, read_config
    from dyncity.presets import preset as named
    from dyncity.terminal import ProgressLine, show_table
    from dyncity.training.launch import train_dit, train_vae

    if model == "vae":
        _not_for("train vae", {"--vae": vae})
        begun = start_from / "config.json" if start_from is not None and preset is None else None
        start = read_config(begun) if begun is not None else named(preset or "tiny")
        resolved, fit = override(start, settings or [], config), train_vae
        schedule, follow = resolved.train_vae, f"dyncity encode --data {data} --vae {out} --out latents"
    elif model == "dit":
        if vae is None:
            raise InputError("--vae", "it is missing", "give the run of train vae that encoded --data")
        start = named(preset) if preset is not None else read_config(vae / "config.json")
        resolved, fit = override(start, settings or [], config), partial(train_dit, vae=vae)
        schedule, follow = resolved.train_dit, f"dyncity generate --checkpoint {out} --out corpus"
    else:
        raise InputError("MODEL", f"found {model!r}", "use one of vae, dit")
    if dry_run:
        rows = [("model", model), ("preset", resolved.preset), ("data", data), ("run", out)]
        rows += [(name, getattr(schedule, name)) for name in ("steps", "batch", "lr", "checkpoint_every")]
        show_table(rows, title="would train")
        return
    with ProgressLine(f"train {model}", "steps", schedule.steps) as progress:

        def report(metrics: dict[str, float | int]) -> None:
            shown = [f"{k} {metrics[k]:.3g}" for k in ("loss", "miou", "held_out_loss") if k in metrics]
            progress.update(int(metrics["step"]), note=", ".join(shown))

        fit(
            config=resolved,
            data=data,
            out=out,
            workers=_range(workers, 1),
            gpus_per_worker=gpus_per_worker,
            address=address,
            resume=resume,
            overwrite=overwrite,
            start=start_from,
            report=report,
        )
    _closing(follow)


@app.command()
def encode(
    data: Annotated[Path, typer.Option(metavar="DIR", help="A corpus.")],
    vae: Annotated[Path, typer.Option(metavar="RUN", help="A run of train vae, or a checkpoint.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Encode a corpus to latents, which is what the DiT is trained on.

    \b
    Example:
      dyncity encode --data corpus --vae vae --out latents
    """
    from dyncity.terminal import ProgressLine, show_table
    from dyncity.training.latents import encode_corpus

    with ProgressLine("encode", "clips") as progress:
        clips = encode_corpus(data, vae, out, overwrite=overwrite, report=progress.update)
    show_table([("clips", clips), ("latents", out)])
    _closing(f"dyncity train dit --data {out} --vae {vae} --out dit")


@app.command("convert-checkpoint")
def convert(
    vae: Annotated[Path, typer.Option(metavar="FILE", help="Released VAE: .ckpt, .pt or .safetensors.")],
    out: Out,
    dit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Released DiT; without it nothing to sample.")
    ] = None,
    preset: Preset = "carlasc",
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Convert released checkpoints of DynamicCity to a folder that generate reads.

    \b
    Example:
      dyncity convert-checkpoint --vae vae.ckpt --dit dit.ckpt --out published
    """
    from dyncity.config import override
    from dyncity.presets import preset as named
    from dyncity.released import convert_checkpoint
    from dyncity.terminal import show_table

    written = convert_checkpoint(vae, dit, override(named(preset), settings or [], config), out)
    known = [name for name in ("command", "trajectory", "previous", "layout") if getattr(written.dit, name)]
    rows = [("grid", "x".join(map(str, written.grid.shape))), ("frames", written.clip.frames)]
    show_table([*rows, ("conditions", ", ".join(known) if dit is not None and known else "none")], title=str(out))
    _closing(f"dyncity generate --checkpoint {out} --out corpus" if dit is not None else f"dyncity info {out}")


@app.command()
def export(
    corpus: Corpus,
    out: Out,
    kind: Annotated[str, typer.Option("--format", metavar="NAME", help=f"One of {', '.join(FORMATS)}.")],
    sequences: Annotated[str | None, typer.Option(metavar="N,N", help="Numbers of the scenes in the tree.")] = None,
    scans: Annotated[bool, typer.Option("--scans/--no-scans", help="Write simulated LiDAR scans.")] = True,
    images: Annotated[bool, typer.Option("--images", help="semantickitti: write black image_2 placeholders.")] = False,
    cameras: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON of a camera rig for the masks.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a corpus in the folder layout of a public data set.

    \b
    Examples:
      dyncity export corpus --format semantickitti --out kitti
      dyncity export corpus --format occ3d-nuscenes --out occ3d
    """
    from dyncity.terminal import ProgressLine, show_table
    from exporters.cameras import read_cameras
    from exporters.native_tree import TreeOptions, read_numbers
    from exporters.trees import export_tree

    rig = read_cameras(cameras) if cameras else None
    options = TreeOptions(read_numbers(sequences) if sequences else None, scans, images, rig)
    with ProgressLine("export", "scenes") as progress:
        result = export_tree(corpus, kind, out, overwrite=overwrite, report=progress.update, options=options)
    rows = [
        ("scenes", result.scenes),
        ("frames", result.frames),
        ("MB", round(result.bytes / 1e6, 1)),
        *(("root", path) for path in result.paths),
        ("which is which", result.scene_list),
        *(("note", note) for note in result.notes),
    ]
    show_table(rows, title=str(out))


@app.command()
def verify(corpus: Corpus) -> None:
    """Check every byte of a corpus; one line a finding.

    \b
    Example:
      dyncity verify corpus
    """
    from exporters.manifest import verify_corpus

    findings = verify_corpus(corpus)
    for finding in findings:
        typer.echo(finding)
    if findings:
        raise typer.Exit(1)
    typer.echo(f"{corpus}: undamaged")


@app.command()
def info(folder: Annotated[Path, typer.Argument(metavar="CORPUS|CHECKPOINT|RUN", help="What to describe.")]) -> None:
    """Say what a folder holds.

    \b
    Example:
      dyncity info corpus
    """
    from dyncity.inventory import describe
    from dyncity.terminal import show_table

    show_table(describe(folder), title=str(folder))


@app.command()
def edit(
    corpus: Corpus,
    out: Out,
    inpaint: Annotated[Path | None, typer.Option(metavar="FILE", help="A region (JSON) to generate anew.")] = None,
    frame: Annotated[int | None, typer.Option(metavar="K", help="Keep frame K alone, generate the others.")] = None,
    at: Annotated[int, typer.Option(metavar="N", help="--frame: as which frame; 0 makes what follows it.")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(metavar="DIR", help="Else the shipped one.")] = None,
    settings: Settings = None,
    num_scenes: Annotated[int | None, typer.Option(metavar="N", help="By default one for each of CORPUS.")] = None,
    seed: Seed = 0,
    labels: Labels = "native",
    container: Container = "parquet",
    scenes_per_shard: PerShard = None,
    workers: Workers = None,
    gpus_per_worker: Gpus = 0.0,
    address: Address = "local",
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Generate a part of each scene anew and keep the rest, voxel for voxel.

    \b
    Examples:
      dyncity edit corpus --inpaint region.json --out edited
      dyncity edit corpus --frame 0 --out futures
      dyncity edit corpus --frame 7 --at 7 --out pasts
    """
    from dyncity.regions import read_region
    from generators import sources

    if (inpaint is None) == (frame is None):
        raise InputError("dyncity edit", "what to edit is not said", "give one of --inpaint and --frame")
    if frame is None:
        _not_for("--inpaint", {"--at": at != 0})
    region = None if inpaint is None else read_region(inpaint)
    source = sources.edits(corpus, checkpoint, settings or [], region, frame, at)
    editor = source.build()
    _make(
        editor,
        source,
        out,
        request={
            "num_scenes": editor.scenes if num_scenes is None else num_scenes,
            "seed": seed,
            "scenes_per_shard": scenes_per_shard,
            "labels": labels,
            "container": container,
        },
        execution={
            "workers": _range(workers, os.cpu_count() or 1),
            "gpus_per_worker": gpus_per_worker,
            "address": address,
            "resume": resume,
            "overwrite": overwrite,
        },
        dry_run=dry_run,
    )


@app.command()
def view(
    corpus: Corpus,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .png or a .gif.")],
    scene: Annotated[str | None, typer.Option(metavar="ID", help="Which scene; by default the first.")] = None,
    scenes: Annotated[int | None, typer.Option(metavar="N", min=1, help="The first N scenes on one sheet.")] = None,
    beside: Annotated[
        Path | None, typer.Option(metavar="CORPUS", help="As many of another corpus beside them.")
    ] = None,
) -> None:
    """Draw a scene, or many on one sheet: as frames side by side (.png), or over time (.gif).

    \b
    Examples:
      dyncity view corpus --out scene.png
      dyncity view corpus --out scene.gif
      dyncity view corpus --scenes 16 --beside real --out sheet.gif
    """
    from exporters.sheets import draw_corpus, draw_scene

    if out.suffix.lower() not in (".png", ".gif"):
        raise InputError("--out", f"found {out.name!r}", "name a .png or a .gif")
    if scene is not None and (scenes is not None or beside is not None):
        raise InputError("--scene", "was given beside --scenes or --beside", "draw one scene, or many")
    many = scenes is not None or beside is not None
    drawn = draw_corpus(corpus, out, scenes or 16, beside) if many else draw_scene(corpus, out, scene)
    typer.echo(f"{drawn} drawn in {out}")


@app.command()
def doctor() -> None:
    """Say what this machine and installation can do.

    \b
    Example:
      dyncity doctor
    """
    from dyncity.doctor import examine
    from dyncity.terminal import show_table

    checks = list(examine(_smoke))
    show_table(checks, header=("what", "status", "found"))
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _make(
    generator: SceneGenerator,
    source: Source,
    out: Path,
    request: dict[str, Any],
    execution: dict[str, Any],
    dry_run: bool,
) -> None:
    """Plan a corpus, make it, show what came of it."""
    from dyncity.terminal import ProgressLine, show_table
    from exporters.numpy import NumpyExporter
    from exporters.parquet import ParquetExporter
    from exporters.sheets import contact_sheet
    from generators.corpus import CorpusPlan, make_corpus
    from generators.dry_run import dry_run as estimate

    plan = CorpusPlan(
        generator=generator.name,
        config=generator.config,
        micro_batch=generator.micro_batch,
        fingerprint_of_generator=generator.fingerprint(),
        **request,
    )
    container = ParquetExporter if plan.container == "parquet" else NumpyExporter
    exporter = container(labels=plan.labels, columns=plan.columns)
    if dry_run:
        rows = estimate(plan, source.build, exporter, execution["workers"])
        show_table(list(rows.items()), title=f"would write {out}")
        return
    with ProgressLine(plan.generator, "scenes", plan.num_scenes) as progress:
        result = make_corpus(
            plan, source.build, exporter, out, preview=contact_sheet, report=progress.update, **execution
        )
    table = [
        ("scenes", f"{result.written} written, {result.failed} failed of {result.requested}"),
        ("shards", f"{len(plan.shards)}, {result.bytes / 1e6:.1f} MB"),
        ("time", f"{result.seconds:.1f} s, {result.scenes_per_second:.2f} scenes/s"),
        ("picture", str(out / "preview.png")),
        *((f"failed scene {f.index}", f.reason) for f in result.failures[:5]),
    ]
    show_table(table, title=str(out))
    _closing(f"dyncity view {out} --out {out.name}.gif")
    if result.failed:
        raise typer.Exit(1)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _not_for(what: str, given: dict[str, Any]) -> None:
    """Refuse options that would be ignored."""
    for option, value in given.items():
        if value is not None and value is not False:
            raise InputError(option, f"means nothing to {what}", "leave it out")


def _range(text: str | None, default: int) -> tuple[int, int]:
    """``N`` or ``MIN:MAX`` as (least, most)."""
    if text is None:
        return default, default
    least, _, most = text.partition(":")
    try:
        found = int(least), int(most or least)
    except ValueError:
        raise InputError("--workers", f"found {text!r}", "give N or MIN:MAX, e.g. 2 or 1:8") from None
    if not 0 <= found[0] <= found[1]:
        raise InputError("--workers", f"found {text!r}", "give N or MIN:MAX with MIN at most MAX")
    return found


def _closing(command: str) -> None:
    """The last line of a verb: what to type next."""
    typer.echo(f"next: {command}")


def _smoke() -> str:
    """One scene from the shipped checkpoint, in a single step."""
    import time

    from dyncity.checkpoint import shipped_checkpoint
    from dyncity.config import SamplingConfig
    from dyncity.scene import SceneSpec
    from generators.diffusion import LatentDiffusion

    quick = SamplingConfig(sampler="euler", steps=1)
    source = LatentDiffusion(shipped_checkpoint(), quick)
    start = time.perf_counter()
    (scene,) = source.generate([SceneSpec(0, 0)])
    seconds = time.perf_counter() - start
    digest = source.fingerprint()["checkpoint_sha256"]
    return f"shipped checkpoint {str(digest)[:16]}: {scene.frames} frames in {seconds:.1f} s, one solver step"


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script: ``arguments``, by default those of the process; leaves with an exit code."""
    run(app, arguments)


if __name__ == "__main__":
    main()
