"""Options that several verbs share, how their values are read, and the line that a verb ends with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import dyncity
from dyncity.errors import InputError
from dyncity.places import check_outside_corpora, local_path, place

if TYPE_CHECKING:
    from dyncity.object_storage import ObjectPath


Out = Annotated[Path, typer.Option("--out", metavar="DIR", parser=local_path, help="Folder to write.")]
OutPlace = Annotated[
    Any, typer.Option("--out", metavar="DIR|URI", parser=place, help="Folder to write, or s3://bucket/prefix.")
]
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
MadeColumns = Annotated[str, typer.Option("--columns", metavar="A,B", help="More columns: instances, boxes.")]
PerShard = Annotated[int | None, typer.Option(metavar="N", help="Scenes of a shard; by default a few seconds of work.")]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|MIN:MAX", help="Worker processes, else one a core, none for a few scenes; 0: none, no Ray."
    ),
]
Gpus = Annotated[float, typer.Option("--gpus-per-worker", metavar="G", help="GPUs of a worker; 0: CPU.")]
StuckAfter = Annotated[
    float, typer.Option(metavar="S", help="A worker so many seconds at the same scenes or step is ended; 0: never.")
]
Address = Annotated[str, typer.Option(metavar="local|auto|HOST:PORT", help="The Ray cluster; local: this machine.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse conditions that contradict themselves: exit 2.")]
Corpus = Annotated[Any, typer.Argument(metavar="CORPUS", parser=place, help="Folder of a corpus, or its URI.")]
Checkpoint = Annotated[
    Any, typer.Option("--checkpoint", metavar="DIR|URI", parser=place, help="diffusion: else the shipped one.")
]
OptionalPreset = Annotated[
    str | None, typer.Option("--preset", metavar="NAME", help="A preset; by default what the input says.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dyncity {dyncity.__version__}")
        raise typer.Exit


def before_verbs(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Labelled 4D semantic occupancy, generated, for training driving perception."""


def words(text: str) -> tuple[str, ...]:
    """The words of a list that is divided by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def made_columns(text: str) -> tuple[str, ...]:
    """Optional columns of scenes that are made: who is who in them. Nobody has looked at them yet.

    However they are typed they are one plan: each once, instances before boxes, as shards have them.

    Raises:
        InputError: others, among them masks, which say what a sensor saw.
    """
    for name in words(text):
        if name not in ("instances", "boxes"):
            masks = name in ("mask_lidar", "mask_camera")
            fix = "use instances, boxes" + ("; what sensors see is cast when the corpus is exported" if masks else "")
            raise InputError("--columns", f"found {name!r}", fix)
    return tuple(sorted(set(words(text)), reverse=True))


def not_for(what: str, given: dict[str, Any]) -> None:
    """Refuse options that would be ignored."""
    for option, value in given.items():
        if value is not None and value is not False:
            raise InputError(option, f"means nothing to {what}", "leave it out")


def only_with(what: str, context: typer.Context, *names: str) -> None:
    """Refuse options typed beside ``what``, but for the parameters ``names`` of the verb."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in names and source is not None and source.name == "COMMANDLINE":
            raise InputError(parameter.opts[-1], f"means nothing to {what}", "leave it out")


def check_file(option: str, path: Path) -> None:
    """Refuse a file that could not be written, before the work that is to fill it."""
    if not path.parent.is_dir():
        raise InputError(option, f"there is no folder {path.parent}", "name a file in one that there is")
    if path.is_dir():
        raise InputError(option, f"{path} is a folder", "name a file")
    check_outside_corpora(path)


def warn_unfinished(corpus: Path | ObjectPath) -> None:
    """Say on stderr, before the work, that a corpus is the part of one that was made so far.

    Raises:
        InputError: as ``read_manifest``.
    """
    from dyncity.datasets.manifest import read_manifest  # numpy and pyarrow: not for every --help

    manifest = read_manifest(corpus)
    if not manifest.complete:
        there = f"{manifest.written} of {manifest.requested} scenes are there"
        typer.echo(f"warning: {corpus} is not finished: {there}; its command with --resume makes the others", err=True)


def worker_range(text: str | None, default: int, address: str = "local") -> tuple[int, int]:
    """``N`` or ``MIN:MAX`` as (least, most).

    Raises:
        InputError: neither; none beside the address of a cluster, which would not be asked.
    """
    least, _, most = (str(default) if text is None else text).partition(":")
    try:
        found = int(least), int(most or least)
    except ValueError:
        raise InputError("--workers", f"found {text!r}", "give N or MIN:MAX, e.g. 2 or 1:8") from None
    if not 0 <= found[0] <= found[1]:
        raise InputError("--workers", f"found {text!r}", "give N or MIN:MAX with MIN at most MAX")
    if address != "local" and found == (0, 0):
        raise InputError("--address", f"found {address!r} beside --workers 0, which asks no cluster", "leave one out")
    return found


def closing(*words: object) -> None:
    """The last line of a verb: what to type next after ``dyncity``, quoted for a shell."""
    typer.echo(f"next: {shlex.join(['dyncity', *map(str, words)])}")
