"""Evaluating a corpus: its scenes through ``dyncity.metrics``, with progress, and the values as a JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from dyncity.datasets.corpus import open_corpus
from dyncity.errors import InputError
from dyncity.metrics.adherence import Adherence, Rows
from dyncity.object_storage import ObjectPath


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


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON in one step: all of the file or nothing."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
