"""From a corpus to a tree in the layout of a data set: all of it or nothing.

The tree grows next to its place (``partial_tree.py``) and is renamed when it is complete. Nothing but the
data set's own files lies in it; what became of which scene, and every file's digest, is written NEXT to it,
as ``<out>.scenes.json``, because several official tools fail on files they do not know; so is what else
belongs to a tree and not in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dyncity
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.datasets.manifest import manifest_json
from dyncity.errors import InputError
from dyncity.places import check_outside_corpora
from dyncity.taxonomy import label_map
from exporters.formats import FORMATS, tree_format
from exporters.losses import told
from exporters.manifest import flush, settle
from exporters.native_tree import NativeTree, TreeFormat, TreeOptions
from exporters.partial_tree import PartialTree, open_partial, partial_tree
from exporters.scene_writer import SceneWriter, write_scenes
from exporters.tree_listing import LISTING, files_below, listing_path, read_head, write_listing

__all__ = ["FORMATS", "ExportResult", "TreeOptions", "export_tree"]

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    Attributes:
        scenes, frames, bytes: how much.
        paths: the roots that loaders take.
        scene_list: the file that says which scene became which folder.
        losses: what it has not of the scenes: a heading, and what.
        notes: what the user should know, one line each.
    """

    scenes: int
    frames: int
    bytes: int
    paths: tuple[Path, ...]
    scene_list: Path
    losses: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def export_tree(
    corpus_path: Path,
    format: str,
    out: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    workers: int = 0,
    report: Report | None = None,
    options: TreeOptions | None = None,
) -> ExportResult:
    """Write the scenes of a corpus as a tree in the layout of a data set.

    The same corpus gives the same bytes, whatever the number of workers and however often it was
    interrupted. On any failure, an interrupt too, what was at ``out`` is still there; what is done stays
    for ``resume`` where a scene is finished, else nothing is left behind. Memory holds a scene a worker.

    Args:
        corpus_path: a corpus folder with native labels, or with those of the format if it has labels of its own.
        format: one of ``FORMATS``.
        out: the folder to make; its parents are made as needed.
        overwrite: replace an earlier export at ``out``, and what an interrupted one left.
        resume: go on with an interrupted export of the same corpus with the same options.
        workers: processes that write scenes; 0 or 1: this process. They are spawned: the script that
            asks for them needs its ``if __name__ == "__main__":``.
        report: called with (scenes done, scenes in all) after each scene, and once at the start of a resume.
        options: what the user chose.

    Raises:
        InputError: on an unknown format, an option that means nothing to it, a bad corpus, labels that do not
            map, numbers that do not fit,
            a place that is taken or cannot be written, a full disk, nothing that ``resume`` could go on with.
    """
    out = Path(os.path.abspath(out))
    chosen = tree_format(format)
    options = options or TreeOptions()
    for field in fields(TreeOptions):
        if field.name not in chosen.takes and getattr(options, field.name) != field.default:
            raise InputError(f"--{field.name}", f"means nothing to {format}", "leave it out")
    if resume and overwrite:
        raise InputError("--resume", "given together with --overwrite", "choose one of them")
    corpus = open_corpus(corpus_path)
    scene_ids = corpus.scene_ids
    if not scene_ids:
        raise InputError(corpus_path, "it holds no scenes", "export a corpus that has some")
    labels = dict.fromkeys(("native", chosen.labels or corpus.taxonomy))
    if corpus.taxonomy not in labels:
        raise InputError(
            corpus_path, f"its labels are {corpus.taxonomy!r}", f"export a corpus with {' or '.join(labels)} labels"
        )
    if isinstance(corpus_path, Path) and os.path.realpath(out) == os.path.realpath(corpus_path):
        raise InputError(out, "it is the corpus", "choose a folder outside")
    check_outside_corpora(out)
    notes = chosen.check(out)
    if not corpus.manifest.complete:
        made = f"{corpus.manifest.written} of {corpus.manifest.requested}"
        notes = [*notes, f"{corpus_path} is not finished: the tree has {made} scenes"]
    if not {"instances", "boxes"} & set(corpus.columns):
        notes = [*notes, "who is who, and who moves, is estimated from connected voxels: the corpus does not say"]
    tree = chosen.build([corpus.frames(scene_id) for scene_id in scene_ids], options)
    plan = _plan(corpus, format, options)
    partial = partial_tree(out)
    if resume and not partial.plan() and _is_complete(out, plan):
        return _result(out, [*notes, "it was complete already"])
    if not (resume and partial.is_placed()):
        _check_place(out, chosen, overwrite or (resume and partial.replaces()))
    try:
        with open_partial(out, plan, resume=resume, overwrite=overwrite):
            if not partial.beside.exists():
                _write(SceneWriter(corpus, tree, partial, chosen.covers), scene_ids, workers, report)
                _finish(partial, tree, plan, len(scene_ids), _classes(chosen, corpus.taxonomy), corpus.taxonomy)
            _put_in_place(partial, out)
    except OSError as error:
        fix = "make room, then go on with --resume" if partial.plan() else "make room or choose another place"
        raise InputError(error.filename or out, error.strerror or str(error), fix) from error
    return _result(out, notes)


def _plan(corpus: Corpus, format: str, options: TreeOptions) -> dict[str, Any]:
    """What decides the bytes of a tree, as JSON values by the name that a user knows."""
    chosen, corpus_digest = asdict(options), sha256()
    for piece in manifest_json(corpus.manifest):
        corpus_digest.update(piece.encode())
    if options.sequences is not None:
        chosen["sequences"] = [int(number) for number in options.sequences]
    return {
        "corpus": corpus_digest.hexdigest(),
        "--format": format,
        "version of DynCity": dyncity.__version__,
        **{f"--{name}": value for name, value in chosen.items()},
    }


def _write(writer: SceneWriter, scene_ids: Sequence[str], workers: int, report: Report | None) -> None:
    """Write every scene that is not there yet."""
    there = writer.partial.finished()
    done = len(there)
    if done and report is not None:
        report(done, len(scene_ids))
    left = [(number, scene_id) for number, scene_id in enumerate(scene_ids) if number not in there]
    with closing(write_scenes(writer, left, workers)) as finished:
        for _ in finished:
            done += 1
            if report is not None:
                report(done, len(scene_ids))


def _classes(chosen: TreeFormat, labels: str) -> NDArray[np.uint8]:
    """uint8 ``[256]`` by class id of the corpus: which classes are one to the tree."""
    return label_map(labels, chosen.labels or labels) if chosen.classes is None else chosen.classes(labels)


def _finish(
    partial: PartialTree, tree: NativeTree, plan: dict[str, Any], scenes: int, classes: NDArray[np.uint8], labels: str
) -> None:
    """Write what needs all scenes, and what goes next to the tree, the listing among it."""
    scratch = partial.scratch("whole")
    end = tree.finish(scratch, (entry["record"] for entry in partial.entries(scenes)))
    folders = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_dir())
    for folder in folders:
        (partial.tree / folder).mkdir(parents=True, exist_ok=True)
    shared = partial.move_in(scratch)
    beside = partial.scratch("beside")
    for ending, content in end.beside.items():
        with open(beside / ending, "xb") as file:
            if isinstance(content, str):
                file.write(content.encode("ascii"))
            else:
                shutil.copyfileobj(content, file)
                content.close()
    totals = {"count": scenes, "frames": 0, "bytes": sum(size for size, _ in shared.values())}
    for entry in partial.entries(scenes):
        totals["frames"] += entry["frames"]
        totals["bytes"] += sum(size for size, _ in entry["files"].values())
    losses = told((entry["voxels"] for entry in partial.entries(scenes)), labels, classes)
    about = {"roots": end.roots, "losses": losses, "notes": end.notes}
    head = {"format": plan["--format"], "plan": plan, **about, **totals}
    rows = ({k: v for k, v in entry.items() if k not in ("record", "voxels")} for entry in partial.entries(scenes))
    tail = {"shared": {"folders": folders, "files": shared}, "beside": files_below(beside)}
    write_listing(beside / LISTING, head, rows, tail)
    settle(partial.folder)  # before anything says that the tree is complete
    os.replace(beside, partial.beside)


def _is_complete(out: Path, plan: dict[str, Any]) -> bool:
    """Whether the tree of this plan is in its place already."""
    listing = listing_path(out)
    return out.is_dir() and listing.is_file() and read_head(listing).get("plan") == json.loads(json.dumps(plan))


def _result(out: Path, notes: Sequence[str]) -> ExportResult:
    """What was written, from the listing next to it."""
    listing = listing_path(out)
    head = read_head(listing)
    return ExportResult(
        scenes=head["count"],
        frames=head["frames"],
        bytes=head["bytes"],
        paths=tuple(out / root for root in head["roots"]),
        scene_list=listing,
        losses=tuple((heading, what) for heading, what in head["losses"]),
        notes=(*notes, *head["notes"]),
    )


def _check_place(out: Path, chosen: TreeFormat, overwrite: bool) -> None:
    """Raise InputError unless a tree may be put at ``out``; only a tree of the same kind is ever replaced."""
    for path in (out, listing_path(out)):
        if os.path.lexists(path) and not overwrite:
            raise InputError(path, "it exists already", "choose another folder or use --overwrite")
    if not os.path.lexists(out):
        return
    foreign = [] if out.is_dir() else [out.name]
    if out.is_dir():
        foreign = [p.name for p in out.iterdir() if not re.fullmatch(chosen.entries, p.name)]
    if out.is_symlink() or foreign:
        raise InputError(out, "it is not an export of this format", "choose another folder or remove it")


def _put_in_place(partial: PartialTree, out: Path) -> None:
    """Rename the finished tree to ``out``, and the files next to it; where that fails, all is as before.

    What lay there goes into the partial folder, and with it. A run that was killed in between goes on.
    """
    moves: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        os.replace(source, target)
        moves.append((source, target))

    partial.replaced.mkdir(exist_ok=True)
    pairs = [(partial.tree, out)] if partial.tree.exists() else []
    pairs += [(path, out.with_name(f"{out.name}.{path.name}")) for path in sorted(partial.beside.iterdir())]
    try:
        for source, target in pairs:
            if os.path.lexists(target):
                move(target, partial.replaced / source.name)
            move(source, target)
        flush(out.parent)
    except BaseException:
        for source, target in reversed(moves):
            os.replace(target, source)
        raise
