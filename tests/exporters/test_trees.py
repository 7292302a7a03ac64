"""From a corpus to a tree: all of it or nothing, the same bytes, and lines that say what is wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyncity.datasets.manifest import Manifest, ShardRecord, manifest_json
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.formats import tree_format
from exporters.manifest import RunLock
from exporters.parquet import ParquetExporter
from exporters.trees import FORMATS, TreeOptions, export_tree

# Where what is tested is the same for all formats: one with and one without files next to the tree.
QUICK = ("carlasc", "semantickitti")
GRID = GridSpec((16, 16, 6), (0.8, 0.8, 0.8), (-6.4, -6.4, -1.2), 5.0)


@pytest.fixture
def make_corpus(tmp_path, make_scene: Callable[..., OccupancyScene]) -> Callable[..., Path]:
    """``make_corpus(scenes, labels="native", requested=None)``: one Parquet shard and its manifest."""

    def build(scenes: int, labels: str = "native", requested: int | None = None) -> Path:
        folder = tmp_path / f"corpus-{scenes}-{labels}"
        (folder / "shards").mkdir(parents=True)
        made = [make_scene(seed, frames=1 + seed % 2, grid=GRID, labels=labels) for seed in range(scenes)]
        records = []
        if made:
            path = folder / "shards/00000.parquet"
            ParquetExporter().write(made, path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            frames = sum(scene.frames for scene in made)
            records.append(ShardRecord(path.name, path.stat().st_size, digest, 0, scenes, frames))
        count = scenes if requested is None else requested
        manifest = Manifest({"num_scenes": count}, "test", tuple(records))
        (folder / "manifest.json").write_text(manifest_json(manifest))
        return folder

    return build


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_corpus_becomes_the_same_tree_each_time_and_only_its_own_files_lie_in_it(tmp_path, make_corpus, format):
    corpus = make_corpus(3)
    done: list[tuple[int, int]] = []
    first = export_tree(corpus, format, tmp_path / "a", report=lambda n, of: done.append((n, of)))
    export_tree(corpus, format, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert (first.scenes, first.frames) == (3, 4)
    assert first.bytes == sum(p.stat().st_size for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert first.paths == (tmp_path / "a",)
    entries = tree_format(format).entries
    assert all(re.fullmatch(entries, p.name) for p in (tmp_path / "a").iterdir())
    beside = sorted(p.name for p in tmp_path.iterdir() if p.name not in ("a", "b", corpus.name))
    own = {"semantickitti": ["semantic-kitti.yaml"]}.get(format, [])
    assert beside == sorted(f"{out}.{ending}" for out in "ab" for ending in ["scenes.json", *own])


@pytest.mark.parametrize("format", QUICK)
def test_the_listing_says_which_scene_became_which_folder(tmp_path, make_corpus, format):
    result = export_tree(make_corpus(3), format, tmp_path / "out")
    listing = json.loads(result.scene_list.read_text())
    assert listing["format"] == format
    assert [row["scene_id"] for row in listing["scenes"]] == [f"scene-{n:06d}" for n in range(3)]
    assert [row["frames"] for row in listing["scenes"]] == [1, 2, 1]
    assert all((tmp_path / "out" / row["folder"]).is_dir() for row in listing["scenes"])


def test_more_than_eleven_scenes_give_parts_each_of_which_is_a_data_set(tmp_path, make_corpus):
    result = export_tree(make_corpus(13), "semantickitti", tmp_path / "out", options=TreeOptions(scans=False))
    assert result.paths == (tmp_path / "out/part-000", tmp_path / "out/part-001")
    numbers = [sorted(p.name for p in (root / "dataset/sequences").iterdir()) for root in result.paths]
    assert numbers == [[f"{n:02d}" for n in range(11)], ["00", "08"]]
    assert any("01, 02" in note for note in result.notes)
    for root in result.paths:
        for sequence in (root / "dataset/sequences").iterdir():
            frames = len(list((sequence / "voxels").glob("*.label")))
            assert [len(list((sequence / "voxels").glob(f"*.{s}"))) for s in ("bin", "invalid", "occluded")] == [
                frames
            ] * 3
            assert len((sequence / "poses.txt").read_text().splitlines()) == frames
            assert len((sequence / "times.txt").read_text().splitlines()) == frames


def test_a_corpus_in_the_labels_of_the_format_is_taken_and_one_in_others_refused(tmp_path, make_corpus):
    corpus = make_corpus(1, labels="semantickitti")
    export_tree(corpus, "semantickitti", tmp_path / "a")
    with pytest.raises(InputError, match="semantickitti") as caught:
        export_tree(corpus, "occ3d-nuscenes", tmp_path / "b")
    assert "native or occ3d-nuscenes" in str(caught.value)
    assert not (tmp_path / "b").exists()


def test_bad_input_is_told_in_one_line_and_leaves_nothing(tmp_path, make_corpus):
    corpus = make_corpus(1)
    before = digests(tmp_path)
    (tmp_path / "file").write_text("x")
    cases = {
        "--format": (corpus, "kitti", tmp_path / "o", {}),
        "no such folder": (tmp_path / "nowhere", "semantickitti", tmp_path / "o", {}),
        "no scenes": (make_corpus(0), "semantickitti", tmp_path / "o", {}),
        "inside the corpus": (corpus, "semantickitti", corpus / "o", {}),
        "--sequences": (corpus, "semantickitti", tmp_path / "deep/er/o", {"options": TreeOptions(sequences=[1, 2])}),
        "label": (corpus, "semantickitti", tmp_path / "labels", {}),
        "it exists already": (corpus, "semantickitti", tmp_path / "file", {}),
        "--images": (corpus, "occ3d-nuscenes", tmp_path / "o", {"options": TreeOptions(images=True)}),
        "not an export": (corpus, "semantickitti", tmp_path / "file", {"overwrite": True}),
        "choose another place": (corpus, "semantickitti", tmp_path / "file/o", {}),
    }
    for text, (source, format, out, options) in cases.items():
        with pytest.raises(InputError, match=text) as caught:
            export_tree(source, format, out, **options)
        assert "\n" not in str(caught.value)
    (tmp_path / "file").unlink()
    (tmp_path / "corpus-0-native/manifest.json").unlink()
    (tmp_path / "corpus-0-native/shards").rmdir()
    (tmp_path / "corpus-0-native").rmdir()
    assert digests(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == [corpus.name]


@pytest.mark.parametrize("format", QUICK)
def test_overwrite_replaces_an_export_of_the_same_format_and_nothing_else(tmp_path, make_corpus, format):
    out = tmp_path / "out"
    export_tree(make_corpus(2), format, out)
    with pytest.raises(InputError, match="--overwrite"):
        export_tree(make_corpus(1), format, out)
    export_tree(tmp_path / "corpus-1-native", format, out, overwrite=True)
    export_tree(tmp_path / "corpus-1-native", format, tmp_path / "fresh")
    assert digests(out) == digests(tmp_path / "fresh")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not an export"):
        export_tree(tmp_path / "corpus-1-native", format, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


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


def test_two_workers_write_the_same_bytes_as_none(tmp_path, make_corpus):
    corpus = make_corpus(3)
    export_tree(corpus, "kitti-boxes", tmp_path / "none/out")
    done: list[tuple[int, int]] = []
    export_tree(corpus, "kitti-boxes", tmp_path / "two/out", workers=2, report=lambda n, of: done.append((n, of)))
    assert digests(tmp_path / "none") == digests(tmp_path / "two")
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_a_worker_tells_of_bad_input_as_this_process_would(tmp_path, make_corpus):
    corpus = make_corpus(2)
    shard = corpus / "shards/00000.parquet"
    data = bytearray(shard.read_bytes())
    data[200:260] = bytes(60)  # in the first page of the first column: names, lengths and the footer stay
    shard.write_bytes(bytes(data))
    said = []
    for workers in (0, 2):
        with pytest.raises(InputError) as caught:
            export_tree(corpus, "openoccupancy", tmp_path / "out", workers=workers)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert [p.name for p in tmp_path.iterdir()] == [corpus.name]


def test_an_unfinished_corpus_is_exported_and_said_to_be_unfinished(tmp_path, make_corpus):
    result = export_tree(make_corpus(2, requested=5), "occ3d-nuscenes", tmp_path / "out")
    assert result.scenes == 2
    assert any("not complete" in note for note in result.notes)


def test_voxels_of_both_trees_come_from_the_same_scene(tmp_path, make_corpus):
    """A voxel that is a car in one tree is a car at the same place in the other."""
    corpus = make_corpus(1)
    kitti = export_tree(corpus, "semantickitti", tmp_path / "k").paths[0] / "dataset/sequences/00"
    export_tree(corpus, "occ3d-nuscenes", tmp_path / "o")
    semantics = np.load(next((tmp_path / "o").glob("gts/*/*/labels.npz")), allow_pickle=False)["semantics"]
    labels = np.fromfile(kitti / "voxels/000000.label", "<u2").reshape(256, 256, 32)
    cars = np.argwhere(semantics == 4) * 0.4 + [-40 + 0.2, -40 + 0.2, -1 + 0.2]
    index = np.floor((cars - [0, -25.6, -2 + 1.73]) / 0.2).astype(int)
    index = index[((index >= 0) & (index < [256, 256, 32])).all(axis=1)]
    assert len(index) > 20
    assert (labels[tuple(index.T)] == 10).mean() > 0.9
