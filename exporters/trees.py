"""From a corpus to a tree in the layout of a data set: all of it or nothing.

The tree grows in a hidden folder next to its place and is renamed when it is complete. Nothing but the
data set's own files lies in it; which scene became which folder is written NEXT to it, as
``<out>.scenes.json``, because several official tools fail on files they do not know; so is what else
belongs to a tree and not in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from exporters.formats import FORMATS, tree_format
from exporters.native_tree import NativeTree, TreeFormat, TreeOptions

__all__ = ["FORMATS", "ExportResult", "TreeOptions", "export_tree"]

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    Attributes:
        scenes, frames, bytes: how much.
        paths: the roots that loaders take.
        scene_list: the file that says which scene became which folder.
        notes: what the user should know, one line each.
    """

    scenes: int
    frames: int
    bytes: int
    paths: tuple[Path, ...]
    scene_list: Path
    notes: tuple[str, ...]


def export_tree(
    corpus_path: Path,
    format: str,
    out: Path,
    *,
    overwrite: bool = False,
    report: Report | None = None,
    options: TreeOptions | None = None,
) -> ExportResult:
    """Write the scenes of a corpus as a tree in the layout of a data set.

    The same corpus gives the same bytes. On any failure, an interrupt too, nothing is left behind and
    what was at ``out`` is still there.

    Args:
        corpus_path: a corpus folder with native labels, or with those of the format.
        format: one of ``FORMATS``.
        out: the folder to make; its parents are made as needed.
        overwrite: replace an earlier export at ``out``.
        report: called with (scenes done, scenes in all) after each scene.
        options: what the user chose.

    Raises:
        InputError: on an unknown format, an option that means nothing to it, a bad corpus, labels that do not
            map, numbers that do not fit,
            a place that is taken or cannot be written, a full disk.
    """
    out = Path(os.path.abspath(out))
    chosen = tree_format(format)
    options = options or TreeOptions()
    for field in fields(TreeOptions):
        if field.name not in chosen.takes and getattr(options, field.name) != field.default:
            raise InputError(f"--{field.name}", f"means nothing to {format}", "leave it out")
    corpus = open_corpus(Path(corpus_path))
    if not corpus.scene_ids:
        raise InputError(corpus_path, "it holds no scenes", "export a corpus that has some")
    if corpus.taxonomy not in ("native", chosen.labels):
        raise InputError(
            corpus_path,
            f"its labels are {corpus.taxonomy!r}",
            f"export a corpus with native or {chosen.labels} labels",
        )
    if out.is_relative_to(os.path.abspath(corpus_path)):
        raise InputError(out, "it lies inside the corpus", "choose a folder outside")
    notes = chosen.check(out)
    if not corpus.manifest.complete:
        notes = [*notes, f"{corpus_path} is not complete: {corpus.manifest.written} of its scenes are there"]
    listing = out.with_name(f"{out.name}.scenes.json")
    _check_place(out, listing, chosen, overwrite)
    partial = out.with_name(f".{out.name}.partial")
    made = _make_folder(partial, overwrite)
    try:
        tree = chosen.build(partial, len(corpus.scene_ids), options)
        rows, frames = _write(corpus, tree, report)
        roots = tree.finish()
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        listed = json.dumps({"format": format, "scenes": rows}, indent=1) + "\n"
        beside = {out.with_name(f"{out.name}.{ending}"): text for ending, text in tree.beside().items()}
        _put_in_place(partial, out, {**beside, listing: listed})
    except OSError as error:
        raise InputError(
            error.filename or out, error.strerror or str(error), "make room or choose another place"
        ) from error
    finally:
        _clear(partial, made, keep=out)
    return ExportResult(
        scenes=len(rows),
        frames=frames,
        bytes=size,
        paths=tuple(out / root for root in roots),
        scene_list=listing,
        notes=(*notes, *tree.notes()),
    )


def _write(corpus: Corpus, tree: NativeTree, report: Report | None) -> tuple[list[dict[str, str | int]], int]:
    """Add every scene; returns a row a scene for the listing, and the number of frames."""
    rows: list[dict[str, str | int]] = []
    frames = 0
    for scene in corpus.scenes():
        rows.append({"scene_id": scene.scene_id, "folder": tree.add(scene), "frames": scene.frames})
        frames += scene.frames
        if report is not None:
            report(len(rows), len(corpus.scene_ids))
    return rows, frames


def _check_place(out: Path, listing: Path, chosen: TreeFormat, overwrite: bool) -> None:
    """Raise InputError unless a tree may be put at ``out``; only a tree of the same kind is ever replaced."""
    for path in (out, listing):
        if not os.path.lexists(path):
            continue
        if not overwrite:
            raise InputError(path, "it exists already", "choose another folder or use --overwrite")
    if not os.path.lexists(out):
        return
    foreign = [] if out.is_dir() else [out.name]
    if out.is_dir():
        foreign = [p.name for p in out.iterdir() if not re.fullmatch(chosen.entries, p.name)]
    if out.is_symlink() or foreign:
        raise InputError(out, "it is not an export of this format", "choose another folder or remove it")


def _make_folder(partial: Path, overwrite: bool) -> list[Path]:
    """Make the folder that the tree grows in; returns the parents that had to be made, lowest first."""
    missing = [parent for parent in partial.parents if not parent.exists()]
    if overwrite and partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial)
    try:
        for parent in reversed(missing):
            parent.mkdir()
        partial.mkdir()
    except FileExistsError:
        raise InputError(
            partial,
            "another export is writing there, or one was killed",
            "wait for it, or remove that folder or use --overwrite",
        ) from None
    except OSError as error:
        _clear(partial, missing, keep=partial)
        raise InputError(error.filename, error.strerror or str(error), "choose another place") from None
    return missing


def _put_in_place(partial: Path, out: Path, beside: dict[Path, str]) -> None:
    """Rename the finished tree to ``out`` and write the files next to it; what was there goes away last."""
    old = out.with_name(f".{out.name}.old")
    before = {path: path.read_bytes() if path.exists() else None for path in beside}
    written = {path: path.with_name(f".{path.name}.partial") for path in beside}
    try:
        for path, text in beside.items():
            written[path].write_text(text, encoding="ascii")
        if out.exists():
            os.replace(out, old)
        os.replace(partial, out)
        for path, temporary in written.items():
            os.replace(temporary, path)
    except BaseException:
        if not partial.exists():
            os.replace(out, partial)
        if old.exists():
            os.replace(old, out)
        for path, content in before.items():
            written[path].unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            else:
                path.unlink(missing_ok=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear(partial: Path, made: list[Path], keep: Path) -> None:
    """Remove an unfinished tree, and the parents made for it unless ``keep`` came to lie there."""
    shutil.rmtree(partial, ignore_errors=True)
    if keep.exists():
        return
    for parent in made:
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
