"""Exports that fail, are killed or meet another one: what stays, and how they go on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written_tree import digests

from dyncity.errors import InputError
from exporters.formats import tree_format
from exporters.manifest import RunLock
from exporters.partial_tree import PartialTree
from exporters.trees import TreeOptions, export_tree

# Where what is tested is the same for all formats: one with and one without files next to the tree.
QUICK = ("carlasc", "semantickitti")


def fails_at(number: int, failure: BaseException, original: Callable[..., Any]) -> Callable[..., Any]:
    """A writer of scenes that fails when a scene is written, and not noted yet."""

    def write(self, out, which, scene):
        record = original(self, out, which, scene)
        if which == number:
            raise failure
        return record

    return write


def writer_of(format: str) -> type:
    """The class that writes scenes in a format."""
    return type(tree_format(format).build([1], TreeOptions()))


def interrupted_export(
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    number: int,
    corpus: Path,
    format: str,
    out: Path,
    *,
    raised: type[BaseException] = KeyboardInterrupt,
    **options: Any,
) -> None:
    """An export that fails in a scene; its writer writes again as ever afterwards."""
    writer = writer_of(format)
    with monkeypatch.context() as patched:
        patched.setattr(writer, "write", fails_at(number, failure, writer.write))
        with pytest.raises(raised):
            export_tree(corpus, format, out, **options)


FAILURES = [(OSError(errno.ENOSPC, "No space left on device"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)]


@pytest.mark.parametrize(("failure", "raised"), FAILURES, ids=["disk", "interrupt"])
@pytest.mark.parametrize("format", QUICK)
def test_a_failure_in_the_first_scene_leaves_nothing_and_keeps_what_was_there(
    tmp_path, make_corpus, monkeypatch, failure, raised, format
):
    corpus, out = make_corpus(2), tmp_path / "deep/out"
    interrupted_export(monkeypatch, failure, 0, corpus, format, out, raised=raised)
    assert [p.name for p in tmp_path.iterdir()] == [corpus.name]

    export_tree(corpus, format, out)
    before = digests(tmp_path)
    interrupted_export(monkeypatch, failure, 0, corpus, format, out, raised=raised, overwrite=True)
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    ("format", "failure", "raised"),
    [
        ("openoccupancy", *FAILURES[0]),
        ("kitti-boxes", *FAILURES[1]),
        ("occ3d-nuscenes", *FAILURES[1]),
        ("semantickitti", *FAILURES[1]),
    ],
    ids=["openoccupancy", "kitti-boxes", "occ3d-nuscenes", "semantickitti"],
)
def test_a_failure_after_a_scene_can_be_resumed_to_the_same_bytes(
    tmp_path, make_corpus, monkeypatch, failure, raised, format
):
    corpus, out = make_corpus(3), tmp_path / "deep/out"
    interrupted_export(monkeypatch, failure, 1, corpus, format, out, raised=raised)
    assert [p.name for p in out.parent.iterdir()] == [".out.partial"]
    with pytest.raises(InputError, match="--resume"):
        export_tree(corpus, format, out)

    writer = writer_of(format)
    original = writer.write

    def notes(self, out, number, scene):
        written.append(number)
        return original(self, out, number, scene)

    written: list[int] = []
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(writer, "write", notes)
    export_tree(corpus, format, out, resume=True, report=lambda n, of: done.append((n, of)))
    assert written == [1, 2]
    assert done == [(1, 3), (2, 3), (3, 3)]
    monkeypatch.setattr(writer, "write", original)
    export_tree(corpus, format, tmp_path / "whole/out")
    assert digests(out.parent) == digests(tmp_path / "whole")
    again = export_tree(corpus, format, out, resume=True)
    assert (again.scenes, again.frames) == (3, 4)
    assert any("complete already" in note for note in again.notes)


def test_an_interrupted_replacement_keeps_the_old_tree_and_is_resumed(tmp_path, make_corpus, monkeypatch):
    old, new, out = make_corpus(1), make_corpus(2), tmp_path / "out"
    export_tree(old, "openoccupancy", out)
    before = digests(out)
    interrupted_export(monkeypatch, KeyboardInterrupt(), 1, new, "openoccupancy", out, overwrite=True)
    assert digests(out) == before
    export_tree(new, "openoccupancy", out, resume=True)
    assert len(list(out.glob("*/occupancy"))) == 2
    assert not (tmp_path / ".out.partial").exists()


def test_what_another_export_left_is_refused_by_name_and_a_cut_file_is_written_again(
    tmp_path, make_corpus, monkeypatch
):
    corpus, out = make_corpus(2), tmp_path / "out"
    interrupted_export(monkeypatch, KeyboardInterrupt(), 1, corpus, "openoccupancy", out)
    left = digests(tmp_path / ".out.partial")
    with pytest.raises(InputError, match=r"another --format \(openoccupancy\)"):
        export_tree(corpus, "kitti-boxes", out, resume=True)
    with pytest.raises(InputError, match="another corpus"):
        export_tree(make_corpus(3), "openoccupancy", out, resume=True)
    assert digests(tmp_path / ".out.partial") == left
    (cut,) = (tmp_path / ".out.partial/tree").rglob("*.npy")
    cut.write_bytes(cut.read_bytes()[:-1])
    export_tree(corpus, "openoccupancy", out, resume=True)
    export_tree(corpus, "openoccupancy", tmp_path / "whole")
    assert digests(out) == digests(tmp_path / "whole")


def test_options_of_an_interrupted_export_are_those_of_its_resume(tmp_path, make_corpus, monkeypatch):
    corpus, out = make_corpus(2), tmp_path / "out"
    interrupted_export(
        monkeypatch, KeyboardInterrupt(), 1, corpus, "kitti-boxes", out, options=TreeOptions(scans=False)
    )
    with pytest.raises(InputError, match="another --scans"):
        export_tree(corpus, "kitti-boxes", out, resume=True)
    with pytest.raises(InputError, match="choose one"):
        export_tree(corpus, "kitti-boxes", out, resume=True, overwrite=True)
    export_tree(corpus, "kitti-boxes", out, resume=True, options=TreeOptions(scans=False))
    assert not (out / "training/velodyne").exists()


def refuses_the_listing(source, target):
    """``os.replace`` that does not put a listing in its place."""
    if str(source).endswith("beside/scenes.json"):
        raise OSError(errno.EACCES, "Permission denied", str(target))
    REPLACE(source, target)


REPLACE = os.replace


@pytest.mark.parametrize("format", ["openoccupancy", "semantickitti"])
def test_a_folder_that_cannot_be_renamed_into_place_leaves_the_old_tree(tmp_path, make_corpus, monkeypatch, format):
    corpus, out = make_corpus(1), tmp_path / "out"
    export_tree(corpus, format, out)
    before = digests(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuses_the_listing)
        with pytest.raises(InputError, match="Permission denied"):
            export_tree(corpus, format, out, overwrite=True)
    assert {k: v for k, v in digests(tmp_path).items() if not k.startswith(".out.partial/")} == before
    export_tree(corpus, format, out, resume=True)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_a_run_that_was_killed_while_it_put_things_in_place_goes_on(tmp_path, make_corpus, monkeypatch, moved):
    """After each of its renames: the old tree away, the new tree there, a file next to it there."""
    old, new, out = make_corpus(1), make_corpus(2), tmp_path / "out"
    export_tree(old, "semantickitti", out, options=TreeOptions(scans=False))
    export_tree(new, "semantickitti", tmp_path / "whole/out", options=TreeOptions(scans=False))
    renames: list[Path] = []

    def dies(source, target):
        if (tmp_path in Path(target).parents and "replaced" in str(target)) or out.parent == Path(target).parent:
            if len(renames) == moved:
                os._exit(9)
            renames.append(target)
        REPLACE(source, target)

    child = os.fork()
    if not child:
        monkeypatch.setattr(os, "replace", dies)
        export_tree(new, "semantickitti", out, overwrite=True, options=TreeOptions(scans=False))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    export_tree(new, "semantickitti", out, resume=True, options=TreeOptions(scans=False))
    beside = ["out", "out.scenes.json", "out.semantic-kitti.yaml"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".out", "out"))) == beside
    assert {k: v for k, v in digests(tmp_path).items() if k.startswith("out")} == digests(tmp_path / "whole")


def test_a_folder_that_a_killed_export_left_is_told_of_and_can_be_replaced(tmp_path, make_corpus):
    corpus, out = make_corpus(1), tmp_path / "out"
    (tmp_path / ".out.partial").mkdir()
    with pytest.raises(InputError, match="interrupted export"):
        export_tree(corpus, "semantickitti", out)
    assert (tmp_path / ".out.partial").is_dir()
    export_tree(corpus, "semantickitti", out, overwrite=True)
    assert not (tmp_path / ".out.partial").exists()


def test_two_exports_to_one_place_do_not_meet(tmp_path, make_corpus):
    corpus, out = make_corpus(1), tmp_path / "out"
    (tmp_path / ".out.partial").mkdir()
    with RunLock(tmp_path / ".out.partial"):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(InputError, match="another run is writing"):
                export_tree(corpus, "openoccupancy", out, **options)
    assert not out.exists()


DEEP = "[" * 10**5


def test_what_is_no_note_of_a_scene_counts_for_none(tmp_path):
    """In a folder that somebody else may have written to."""
    partial = PartialTree(tmp_path)
    for name in ("done", "tree"):
        (tmp_path / name).mkdir()
    (partial.tree / "a.bin").write_bytes(b"four")
    notes = {"x": "{}", "0": DEEP, "1": '{"files": []}', "2": '{"files": {"a.bin": [4, "0"]}}'}
    for name, text in notes.items():
        (tmp_path / "done" / f"{name}.json").write_text(text)
    assert partial.finished() == {2}
    (tmp_path / "plan.json").write_text(DEEP)
    with pytest.raises(InputError, match=r"plan\.json: it is damaged"):
        partial.plan()
