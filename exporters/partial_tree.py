"""A tree while it grows: a folder next to its place, under a lock, which a later run can go on with.

``.<name>.partial`` holds ``plan.json`` (what is exported, and how), ``tree/``, ``writing/`` (scenes that are not
whole yet), ``done/`` (a file a finished scene: its record, and the size and digest of its files) and, when all
scenes are there, ``beside/`` (what goes next to the tree). It is gone when the tree is in its place.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyncity.errors import InputError
from exporters.manifest import LOCK, RunLock
from exporters.tree_listing import files_below

_PLAN = "plan.json"
_OVERWRITE = "overwrite"


@dataclass(frozen=True, slots=True)
class PartialTree:
    """The folder of an export that is not finished.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @property
    def tree(self) -> Path:
        """The tree: whole scenes only."""
        return self.folder / "tree"

    @property
    def beside(self) -> Path:
        """What goes next to the tree, by ending; it is there when everything is written."""
        return self.folder / "beside"

    @property
    def replaced(self) -> Path:
        """What lay in the place of the tree."""
        return self.folder / "replaced"

    def plan(self) -> dict[str, Any]:
        """What it was begun with; empty where there is nothing to go on with.

        Raises:
            InputError: it is damaged.
        """
        try:
            plan = json.loads((self.folder / _PLAN).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(self.folder / _PLAN, f"it is damaged ({error})", "start over with --overwrite") from None
        if not isinstance(plan, dict) or not plan:
            raise InputError(self.folder / _PLAN, "it is damaged", "start over with --overwrite")
        return plan

    def replaces(self) -> bool:
        """Whether it was begun to replace what lies in the place of the tree."""
        return bool(self.plan().get(_OVERWRITE))

    def is_placed(self) -> bool:
        """Whether the tree is in its place already, and something next to it perhaps not."""
        return bool(self.plan()) and self.beside.exists() and not self.tree.exists()

    def scratch(self, name: str) -> Path:
        """A new empty folder to write in."""
        path = self.folder / "writing" / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def move_in(self, scratch: Path) -> dict[str, tuple[int, str]]:
        """Move the files of a scratch folder to their places in the tree; returns their sizes and digests."""
        files = files_below(scratch)
        for parent in {Path(name).parent for name in files}:
            (self.tree / parent).mkdir(parents=True, exist_ok=True)
        for name in files:
            os.replace(scratch / name, self.tree / name)
        shutil.rmtree(scratch)
        return files

    def note(self, number: int, entry: dict[str, Any]) -> None:
        """Write down that a scene is finished: all of the line or none."""
        temporary = self.folder / "writing" / f"{number}.json"
        temporary.write_text(json.dumps(entry) + "\n", encoding="ascii")
        os.replace(temporary, self._entry(number))

    def entry(self, number: int) -> dict[str, Any]:
        """What was written down of a scene."""
        return json.loads(self._entry(number).read_bytes())

    def entries(self, scenes: int) -> Iterator[dict[str, Any]]:
        """What was written down of each scene, in order, one at a time."""
        return map(self.entry, range(scenes))

    def finished(self) -> set[int]:
        """Numbers of the scenes whose files are all there in full size; of others what was written down goes."""
        numbers = {int(path.stem) for path in (self.folder / "done").glob("*.json") if path.stem.isdecimal()}
        for number in sorted(numbers):
            try:
                whole = all(
                    (self.tree / name).lstat().st_size == size
                    for name, (size, _) in self.entry(number)["files"].items()
                )
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                whole = False
            if not whole:
                numbers.discard(number)
                self._entry(number).unlink()
        return numbers

    def _entry(self, number: int) -> Path:
        return self.folder / "done" / f"{number}.json"


def partial_tree(out: Path) -> PartialTree:
    """Where the tree of ``out`` grows."""
    return PartialTree(out.with_name(f".{out.name}.partial"))


@contextmanager
def open_partial(out: Path, plan: dict[str, Any], *, resume: bool, overwrite: bool) -> Iterator[PartialTree]:
    """The folder that the tree of ``out`` grows in, under a lock.

    It goes when the block ends; where the block fails and a scene is finished, it stays for a resume.

    Args:
        out: the place of the tree; its parents are made as needed.
        plan: what is exported, and how: JSON values.
        resume: go on with what is there, under the same plan.
        overwrite: remove what is there.

    Raises:
        InputError: what is there was left by an interrupted export, or begun under another plan;
            another run is at work in it; it cannot be made.
    """
    partial = partial_tree(out)
    made = _make(partial.folder)
    try:
        with RunLock(partial.folder):
            if not (made or resume or overwrite):
                raise InputError(
                    partial.folder, "an interrupted export left it", "use --resume, or --overwrite to start over"
                )
            begun = partial.plan() if resume else {}
            if begun:
                _check_plan(partial.folder, begun, plan)
            _prepare(partial, {**plan, _OVERWRITE: overwrite}, fresh=not begun)
            try:
                yield partial
            except BaseException:
                if not any((partial.folder / "done").iterdir()):
                    shutil.rmtree(partial.folder, ignore_errors=True)
                raise
            (partial.folder / _PLAN).unlink()  # first: without it the rest is rubbish, also for a resume
            shutil.rmtree(partial.folder, ignore_errors=True)
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()  # only where nothing was kept in it


def _make(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were missing, innermost first."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    if folder.is_symlink() or (not missing and not folder.is_dir()):
        raise InputError(folder, "it is not a folder of an export", "remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        raise InputError(error.filename, error.strerror or str(error), "choose another place") from None
    return missing


def _prepare(partial: PartialTree, plan: dict[str, Any], *, fresh: bool) -> None:
    """Empty the folder where it is to be fresh, and make what has to be in it."""
    for path in partial.folder.iterdir():
        if path.name != LOCK and (fresh or path.name == "writing"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in ("writing", "done"):
        (partial.folder / name).mkdir(exist_ok=True)
    if fresh:
        partial.tree.mkdir()
        temporary = partial.folder / "writing" / _PLAN
        temporary.write_text(json.dumps(plan) + "\n", encoding="ascii")
        os.replace(temporary, partial.folder / _PLAN)


def _check_plan(folder: Path, begun: dict[str, Any], plan: dict[str, Any]) -> None:
    """Raise InputError unless the folder was begun under this plan."""
    for key, value in json.loads(json.dumps(plan)).items():
        if key not in begun or begun[key] != value:
            known = f" ({begun[key]})" if isinstance(begun.get(key), str) else ""
            raise InputError(
                folder, f"it was begun with another {key}{known}", "give the same, or start over with --overwrite"
            )
