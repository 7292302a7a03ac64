"""From a corpus to a tree: all of it or nothing, the same bytes, and lines that say what is wrong."""

from __future__ import annotations

import errno
import json
import os
import re

import numpy as np
import pytest
from written_tree import digests

import exporters.trees
from dyncity.errors import InputError
from exporters.formats import tree_format
from exporters.manifest import flush, settle
from exporters.tree_listing import listing_path, verify_tree
from exporters.trees import FORMATS, TreeOptions, export_tree

# Where what is tested is the same for all formats: one with and one without files next to the tree.
QUICK = ("carlasc", "semantickitti")


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
    lists = [
        *("bevdetv2-nuscenes_infos_{}.pkl", "occ_infos_temporal_{}.pkl", "nuscenes_infos_{}_temporal_v3_scene.pkl")
    ]
    infos = {"occ3d-nuscenes": lists, "openoccupancy": ["nuscenes_occ_infos_{}.pkl"]}.get(format, [])
    own = [name.format(split) for name in infos for split in ("train", "val")]
    own += ["semantic-kitti.yaml"] if format == "semantickitti" else []
    assert beside == sorted(f"{out}.{ending}" for out in "ab" for ending in ["scenes.json", *own])


def test_everything_is_on_the_disk_before_the_tree_is_in_its_place_and_that_before_the_end(
    tmp_path, make_corpus, monkeypatch
):
    """A power cut after the last line must not take files."""
    corpus, out, steps = make_corpus(2), tmp_path / "out", []

    def settled(folder):
        steps.append(("settled", folder, out.exists(), (folder / "beside").exists()))
        settle(folder)

    def flushed(folder):
        steps.append(("flushed", folder, out.exists(), listing_path(out).exists()))
        flush(folder)

    monkeypatch.setattr(exporters.trees, "settle", settled)
    monkeypatch.setattr(exporters.trees, "flush", flushed)
    export_tree(corpus, "semantickitti", out)
    assert steps == [("settled", tmp_path / ".out.partial", False, False), ("flushed", tmp_path, True, True)]


def test_what_cannot_reach_the_disk_is_told_and_stays_for_a_resume(tmp_path, make_corpus, monkeypatch):
    corpus = make_corpus(1)

    def broken(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))

    with monkeypatch.context() as patched:
        patched.setattr(exporters.trees, "settle", broken)
        with pytest.raises(InputError, match=r"out\.partial: Input/output error; .*--resume"):
            export_tree(corpus, "openoccupancy", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_tree(corpus, "openoccupancy", tmp_path / "out", resume=True)
    assert verify_tree(tmp_path / "out") == []


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
    for root, names in zip(result.paths, numbers, strict=True):
        assert sorted(p.name for p in (root / "dataset/poses").iterdir()) == [f"{name}.txt" for name in names]
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
    with pytest.raises(InputError, match=r"export a corpus with native labels$"):
        export_tree(make_corpus(1, labels="carlasc"), "uniocc", tmp_path / "uniocc")


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
    assert any("not finished" in note for note in result.notes)


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
