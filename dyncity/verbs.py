"""The verbs that need the method alone: train, encode, convert-checkpoint, evaluate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dyncity.errors import InputError
from dyncity.options import (
    Address,
    ConfigFile,
    Corpus,
    DryRun,
    Gpus,
    OptionalPreset,
    Out,
    Overwrite,
    Preset,
    Resume,
    Settings,
    StuckAfter,
    check_file,
    closing,
    not_for,
    warn_unfinished,
    worker_range,
)
from dyncity.places import local_path, place
from dyncity.watchdog import STUCK_AFTER


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="vae or dit: which of the two models.")],
    data: Annotated[
        Path, typer.Option(metavar="DIR", parser=local_path, help="vae: a corpus; dit: latents made by encode.")
    ],
    out: Out,
    vae: Annotated[Path | None, typer.Option(metavar="RUN", help="dit: the VAE that encoded the data.")] = None,
    start_from: Annotated[Path | None, typer.Option(metavar="CHECKPOINT", help="Train its weights further.")] = None,
    preset: OptionalPreset = None,
    config: ConfigFile = None,
    settings: Settings = None,
    workers: Annotated[
        str, typer.Option(metavar="N|MIN:MAX", help="Worker processes of Ray Train; 0: this one, without Ray.")
    ] = "1",
    gpus_per_worker: Gpus = 0.0,
    address: Address = "local",
    stuck_after: StuckAfter = STUCK_AFTER,
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
    from dyncity.checkpoint import check_is_checkpoint
    from dyncity.config_file import override, read_config
    from dyncity.presets import preset as named
    from dyncity.terminal import ProgressLine, show_table
    from dyncity.training.clips import Clips
    from dyncity.training.latents import open_latents
    from dyncity.training.launch import train_dit, train_vae
    from dyncity.training.run_folder import check_run

    follow: tuple[object, ...]
    least_most = worker_range(workers, 1, address)
    if model == "vae":
        not_for("train vae", {"--vae": vae})
        warn_unfinished(data)
        if start_from is not None:
            check_is_checkpoint(start_from)
        begun = start_from / "config.json" if start_from is not None and preset is None else None
        start = read_config(begun) if begun is not None else named(preset or "tiny")
        resolved, fit = override(start, settings or [], config), train_vae
        schedule, follow = resolved.train_vae, ("encode", "--data", data, "--vae", out, "--out", "latents")
    elif model == "dit":
        if vae is None:
            raise InputError("--vae", "it is missing", "give the run of train vae that encoded --data")
        for given in (vae, start_from):
            if given is not None:
                check_is_checkpoint(given)
        start = named(preset) if preset is not None else read_config((start_from or vae) / "config.json")
        resolved, fit = override(start, settings or [], config), partial(train_dit, vae=vae)
        schedule, follow = resolved.train_dit, ("generate", "--checkpoint", out, "--out", "corpus")
    else:
        raise InputError("MODEL", f"found {model!r}", "use one of vae, dit")
    if dry_run:
        check_run(out, resolved, resume=resume, overwrite=overwrite)
        clips = len(Clips(data, resolved)) if model == "vae" else len(open_latents(data).rollout)
        rows = [("model", model), ("preset", resolved.preset), ("data", data), ("clips", clips), ("run", out)]
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
            workers=least_most,
            gpus_per_worker=gpus_per_worker,
            address=address,
            stuck_after=stuck_after,
            resume=resume,
            overwrite=overwrite,
            start=start_from,
            report=report,
            say=typer.echo,
        )
    closing(*follow)


def encode(
    data: Annotated[Path, typer.Option(metavar="DIR", parser=local_path, help="A corpus.")],
    vae: Annotated[Path, typer.Option(metavar="RUN", help="A run of train vae, or a checkpoint.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Encode a corpus to latents. They are what the DiT is trained on.

    \b
    Example:
      dyncity encode --data corpus --vae vae --out latents
    """
    from dyncity.checkpoint import check_is_checkpoint
    from dyncity.terminal import ProgressLine, show_table
    from dyncity.training.latents import encode_corpus

    check_is_checkpoint(vae)
    warn_unfinished(data)
    with ProgressLine("encode", "clips") as progress:
        clips = encode_corpus(data, vae, out, overwrite=overwrite, report=progress.update, say=typer.echo)
    show_table([("clips", clips), ("latents", out)])
    closing("train", "dit", "--data", out, "--vae", vae, "--out", "dit")


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
    """Convert released checkpoints of DynamicCity. What is written is a folder that generate reads.

    \b
    Example:
      dyncity convert-checkpoint --vae vae.ckpt --dit dit.ckpt --out published
    """
    from dyncity.config_file import override
    from dyncity.presets import preset as named
    from dyncity.released import convert_checkpoint
    from dyncity.terminal import show_table

    written = convert_checkpoint(vae, dit, override(named(preset), settings or [], config), out)
    known = [name for name in ("command", "trajectory", "previous", "layout") if getattr(written.dit, name)]
    rows = [("grid", "x".join(map(str, written.grid.shape))), ("frames", written.clip.frames)]
    show_table([*rows, ("conditions", ", ".join(known) if dit is not None and known else "none")], title=str(out))
    closing(*(("info", out) if dit is None else ("generate", "--checkpoint", out, "--out", "corpus")))


def evaluate(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="conditions: how scenes obey what they were asked; samples: how like real ones they are.",
        ),
    ],
    corpus: Corpus,
    real: Annotated[
        Any, typer.Option("--real", metavar="CORPUS", parser=place, help="samples: real scenes to compare with.")
    ] = None,
    scenes: Annotated[int | None, typer.Option(metavar="N", min=1, help="The first N scenes; else all.")] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the values to this file too.")
    ] = None,
) -> None:
    """Measure the scenes of a corpus. How well they obey what they were asked, or how like real scenes they are.

    \b
    Examples:
      dyncity evaluate conditions corpus --json conditions.json
      dyncity evaluate samples corpus --real city --scenes 256
    """
    from dyncity.evaluation import evaluate_conditions, evaluate_samples, write_values
    from dyncity.metrics.likeness import farthest_apart
    from dyncity.terminal import ProgressLine, show_columns, show_table

    if json is not None:
        check_file("--json", json)
    if kind == "conditions":
        not_for("evaluate conditions", {"--real": real})
        warn_unfinished(corpus)
        with ProgressLine("evaluate", "scenes") as progress:
            rows = evaluate_conditions(corpus, scenes, report=progress.update)
        show_table([(name, f"{value:.4g}") for name, value in rows.items()], title=str(corpus))
        values: dict[str, Any] = {"corpus": str(corpus), "conditions": rows}
    elif kind == "samples":
        if real is None:
            raise InputError("--real", "it is missing", "give a corpus of real scenes on the same grid")
        for given in (corpus, real):
            warn_unfinished(given)
        with ProgressLine("evaluate", "clips") as progress:
            found = evaluate_samples(corpus, real, scenes, report=progress.update)
        show_columns(found.sets, title=f"{corpus} beside {real}")
        if found.classes:
            show_columns(found.classes, title="classes seen from above")
        if apart := farthest_apart(found.commands):
            show_columns(apart, title="classes that chance does not keep apart, by command")
        tables = {"sets": found.sets, "classes": found.classes, "commands": found.commands}
        values = {"corpus": str(corpus), "real": str(real), **tables}
    else:
        raise InputError("KIND", f"found {kind!r}", "use conditions or samples")
    if json is not None:
        write_values(json, values)
