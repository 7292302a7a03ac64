"""From options to a source of scenes: its resolved configuration, and what builds it in a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dyncity.checkpoint import check_is_checkpoint, shipped_checkpoint
from dyncity.config import Config
from dyncity.config_file import override, read_config
from dyncity.errors import InputError
from dyncity.fetched_checkpoint import fetched
from dyncity.object_storage import ObjectPath
from dyncity.options import not_for
from dyncity.presets import preset as named
from dyncity.regions import Region
from dyncity.taxonomy import label_map
from generators.diffusion import LatentDiffusion
from generators.edited_corpus import corpus_to_edit
from generators.from_frame import FromFrame
from generators.inpainting import Inpainting
from generators.inpainting_large import LargeInpainting
from generators.long_scenes import lengthened, long_scenes
from generators.outpainting import Margins, Outpainting
from generators.plan import CorpusPlan
from generators.procedural.city import ProceduralCity
from generators.recorded import RecordedLogs
from generators.recorded_trees import RecordedTrees
from generators.sampling_checked import check_sampling


class Source(NamedTuple):
    """A source of scenes.

    Attributes:
        config: all that decides its scenes besides the specs.
        build: makes the generator; a partial of a class, so that it travels to workers.
    """

    config: Config
    build: Callable[..., Any]


def procedural(
    preset: str | None,
    file: Path | None,
    settings: list[str],
    frame: Literal["ego", "world"] = "ego",
    micro_batch: int | None = None,
) -> Source:
    """The procedural city on the grid of a preset.

    Raises:
        InputError: an unknown preset or key, a wrong type.
    """
    config = override(named(preset or "tiny"), settings, file)
    given = {} if micro_batch is None else {"micro_batch": micro_batch}
    return Source(config, partial(ProceduralCity, config, frame=frame, **given))


def edits(
    corpus: Path | ObjectPath,
    checkpoint: Path | ObjectPath | None,
    settings: list[str],
    region: Region | None,
    frame: int | None,
    at: int,
) -> Source:
    """Scenes of a corpus, generated anew inside ``region``, or from frame ``frame`` as frame ``at``.

    Raises:
        InputError: no checkpoint, or a setting that training has fixed.
    """
    config, folder = _trained(checkpoint, None, None, settings)
    if region is not None:
        kind = Inpainting if corpus_to_edit(corpus).anchor is None else LargeInpainting
        return Source(config, partial(kind, folder, config.sampling, corpus.absolute(), region))
    assert frame is not None
    return Source(config, partial(FromFrame, folder, config.sampling, corpus.absolute(), frame, at))


def outpainting(
    corpus: Path | ObjectPath, checkpoint: Path | ObjectPath | None, settings: list[str], margins: Margins
) -> Source:
    """Scenes of a corpus made larger by ``margins``.

    Raises:
        InputError: no checkpoint, or a setting that training has fixed.
    """
    config, folder = _trained(checkpoint, None, None, settings)
    return Source(config, partial(Outpainting, folder, config.sampling, corpus.absolute(), margins))


def recorded(source: Path, preset: str, file: Path | None, settings: list[str], frames: int | None) -> Source:
    """Driving logs on the grid of a preset.

    Raises:
        InputError: an unknown preset or key, a wrong type.
    """
    config = override(named(preset), settings, file)
    return Source(config, partial(RecordedLogs, source.absolute(), config, frames=frames))


def trees(kind: str, source: Path, preset: str | None, frames: int | None, labels: str) -> Source:
    """A native tree of a data set, on its own grid and in its own label space.

    Args:
        kind: one of ``generators.recorded_trees.TREES``.
        preset: if given, ``kind``.
        labels: the label space that is asked for; "native" is the tree's own.

    Raises:
        InputError: another preset, a label space that no map leads to.
    """
    if preset not in (None, kind):
        raise InputError("--preset", f"found {preset!r}, the tree has the grid of {kind}", "leave it out")
    if labels != "native":
        label_map(kind, labels)
    return Source(named(kind), partial(RecordedTrees, kind, source.absolute(), frames=frames))


def diffusion(
    checkpoint: Path | ObjectPath | None,
    preset: str | None,
    file: Path | None,
    settings: list[str],
    chunks: int = 1,
    **sampling: int | float | str | None,
) -> Source:
    """A checkpoint, by default the shipped one.

    Args:
        checkpoint: its folder, or its place in object storage, from which each machine fetches it.
        preset: if given, the preset whose grid the checkpoint has to have.
        file, settings: laid over the checkpoint's configuration; they may change ``sampling`` alone.
        chunks: more than one makes longer scenes (``generators.long_scenes``).
        sampling: fields of ``SamplingConfig``; None keeps the checkpoint's.

    Raises:
        InputError: no checkpoint, one of another grid, a setting that training has fixed.
    """
    config, folder = _trained(checkpoint, preset, file, settings, **sampling)
    return Source(lengthened(config, chunks), _network(folder, config, chunks))


def _network(folder: Path | ObjectPath, config: Config, chunks: int) -> Callable[[], Any]:
    """Builds the diffusion of a checkpoint, for scenes of so many chunks."""
    if chunks == 1:
        return partial(LatentDiffusion, folder, sampling=config.sampling)
    return partial(long_scenes, folder, config.sampling, chunks)


def of_plan(plan: CorpusPlan, checkpoint: Path | ObjectPath | None) -> Source:
    """The source that a corpus was made from, by its own plan.

    Args:
        plan: from the manifest.
        checkpoint: of a corpus that a network drew, by default the shipped one.

    Raises:
        InputError: it was made from files that the manifest does not name; no such checkpoint.
    """
    said, config = plan.fingerprint_of_generator, plan.config
    if plan.generator == "procedural":
        not_for(plan.generator, {"--checkpoint": checkpoint})
        frame = said.get("frame", "ego")
        return Source(config, partial(ProceduralCity, config, frame=frame, micro_batch=plan.micro_batch))
    if plan.generator == "diffusion" and "edited_corpus_sha256" not in said:
        folder = (checkpoint or shipped_checkpoint()).absolute()
        return Source(config, _network(folder, config, said.get("chunks", 1)))
    verb = "edit" if "edited_corpus_sha256" in said else "import"
    fix = f"repeat the dyncity {verb} that made it with --resume, which makes damaged shards anew"
    raise InputError("--repair", f"the manifest does not say where its {plan.generator} scenes are from", fix)


def _trained(
    checkpoint: Path | ObjectPath | None,
    preset: str | None,
    file: Path | None,
    settings: list[str],
    **sampling: int | float | str | None,
) -> tuple[Config, Path | ObjectPath]:
    """The configuration of a checkpoint with its sampling changed, and its folder."""
    folder = (checkpoint or shipped_checkpoint()).absolute()
    copy = fetched(folder)
    check_is_checkpoint(copy, "give a run of dyncity train dit")
    trained = read_config(copy / "config.json")
    if preset is not None and named(preset).grid != trained.grid:
        shape = "x".join(map(str, trained.grid.shape))
        fix = f"leave it out, or give a --checkpoint trained at {preset}"
        raise InputError("--preset", f"{preset!r}, but the checkpoint has another grid ({shape})", fix)
    given: dict[str, Any] = {name: value for name, value in sampling.items() if value is not None}
    config = override(trained, settings, file)
    if replace(config, sampling=trained.sampling) != trained:
        raise InputError("--set", "changes what the checkpoint was trained as", "set sampling.* only")
    chosen = replace(config.sampling, **given)
    check_sampling(chosen, trained.dit.objective)
    return replace(config, sampling=chosen), folder
