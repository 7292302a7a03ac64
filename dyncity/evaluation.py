"""Evaluating a corpus: its scenes through ``dyncity.metrics``, with progress, and the values as a JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dyncity.anchoring import clip_of, ego_windows
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from dyncity.metrics.adherence import Adherence, Rows
from dyncity.metrics.likeness import Portrait, likeness, likeness_by_class, likeness_by_command
from dyncity.object_storage import ObjectPath
from dyncity.scene import OccupancyScene


def evaluate_conditions(
    folder: Path | ObjectPath, scenes: int | None = None, report: Callable[[int, int], None] | None = None
) -> Rows:
    """How well the scenes of a corpus obey what they were asked (``dyncity.metrics.adherence``).

    Args:
        folder: the corpus.
        scenes: the first so many; None: all.
        report: called after each scene with scenes done and scenes in all.

    Raises:
        InputError: no corpus, a damaged one, or one none of whose scenes carries a condition.
    """
    corpus = open_corpus(folder)
    total = min(corpus.manifest.written, scenes or corpus.manifest.written)
    adherence = Adherence()
    for number, scene in enumerate(islice(corpus.scenes(), total), start=1):
        adherence.add(scene)
        if report is not None:
            report(number, total)
    if not adherence.scenes:
        raise InputError(folder, "its scenes carry no conditions", "give a corpus made with conditions")
    return adherence.rows()


@dataclass(frozen=True, slots=True)
class Likeness:
    """What ``evaluate_samples`` finds: rows by set of scenes, by class, and by command and class."""

    sets: dict[str, Rows]
    classes: dict[str, Rows]
    commands: dict[str, Rows]


def evaluate_samples(
    folder: Path | ObjectPath,
    real: Path | ObjectPath,
    scenes: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Likeness:
    """How like real scenes the scenes of a corpus are (``dyncity.metrics.likeness``).

    Real scenes are cut into clips as long as the samples. Those of the first half of ``real`` are what samples are
    compared with, those of the second half are compared with them too: what chance alone does. All three sets have as
    many clips.

    Args:
        folder: the corpus of samples.
        real: a corpus with the same label space on the same grid, from which no sample was made.
        scenes: so many clips a set at most; None: as many as there are.
        report: called after each clip with clips done and clips in all.

    Raises:
        InputError: no corpus, a damaged one, one and the same, corpora that cannot be compared, or too few real scenes.
    """
    if _one_place(folder, real):
        raise InputError("--real", f"{real} is the corpus of the samples itself", "give a corpus of real scenes")
    samples, truth = open_corpus(folder), open_corpus(real)
    _check_alike(samples, truth)
    frames = samples.frames(samples.scene_ids[0])
    half = len(truth.scene_ids) // 2
    sets = {
        "samples": (samples, samples.scene_ids),
        "real": (truth, truth.scene_ids[:half]),
        "other real": (truth, truth.scene_ids[half:]),
    }
    counts = {name: sum(corpus.frames(i) // frames for i in ids) for name, (corpus, ids) in sets.items()}
    least = min(*counts.values(), scenes or counts["samples"])
    if least < 1:
        found = f"holds {len(truth.scene_ids)} scenes, cut into clips of {frames} frames {counts['real']} and "
        raise InputError(real, f"{found}{counts['other real']} of its halves", "give two scenes as long as samples")
    portraits = {name: Portrait(truth.taxonomy) for name in sets}
    done = 0
    for name, (corpus, ids) in sets.items():
        for clip in islice(_clips(corpus, ids, frames), least):
            portraits[name].add(clip)
            done += 1
            if report is not None:
                report(done, 3 * least)
    of = portraits["samples"], portraits["real"], portraits["other real"]
    rows = {name: portrait.rows() for name, portrait in portraits.items()}
    rows["samples"] |= likeness(*of)
    rows["other real"] |= likeness(of[2], of[1], of[2])
    return Likeness(rows, likeness_by_class(*of), likeness_by_command(*of[:2]))


def _one_place(folder: Path | ObjectPath, real: Path | ObjectPath) -> bool:
    """Whether two corpora are one, links followed: its scenes are as like each other as they can be."""
    if isinstance(folder, Path) and isinstance(real, Path):
        return os.path.realpath(folder) == os.path.realpath(real)
    return folder == real


def _check_alike(samples: Corpus, truth: Corpus) -> None:
    for corpus in (samples, truth):
        if not corpus.scene_ids:
            raise InputError(corpus.folder, "it holds no scene", "give a corpus with scenes")
    for what, found, wanted in (
        ("labels", truth.taxonomy, samples.taxonomy),
        ("voxels", truth.grid.voxel_size, samples.grid.voxel_size),
        ("frames a second", truth.grid.frame_rate, samples.grid.frame_rate),
    ):
        if found != wanted:
            fix = "give corpora with the same labels, voxels and frames a second"
            raise InputError(truth.folder, f"its {what} are {found}, those of the samples {wanted}", fix)


def _clips(corpus: Corpus, ids: Sequence[str], frames: int) -> Iterator[OccupancyScene]:
    """Clips of ``frames`` ego-centred frames, one after the other, of the scenes ``ids``."""
    wanted = set(ids)
    for scene in corpus.scenes():
        if scene.scene_id in wanted:
            whole = scene if scene.anchor is None else ego_windows(scene, scene.grid)
            for start in range(0, whole.frames - frames + 1, frames):
                yield clip_of(whole, start, frames)


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON in one step: all of the file or nothing."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
