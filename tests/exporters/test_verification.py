"""verify: every kind of damage is found, and an undamaged corpus has no finding."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dyncity.datasets.corpus import FailedScene, read_manifest
from dyncity.datasets.manifest import ShardRecord
from dyncity.errors import InputError
from exporters.manifest import verify_corpus, write_manifest
from exporters.shard_digests import shard_faults

COLUMNS = ("mask_lidar", "instances", "boxes")
CONTAINERS = ("parquet", "numpy")


@pytest.fixture(params=CONTAINERS)
def corpus(request, make_scene, write_corpus, tmp_path):
    """A corpus of two shards and one failed scene, with a preview."""
    scenes = [make_scene(i, columns=COLUMNS) for i in range(4)]
    failures = (FailedScene(4, 0, "no road"),)
    folder = write_corpus(tmp_path / "c", scenes, request.param, failures=failures, columns=COLUMNS)
    (folder / "preview.png").write_bytes(b"\x89PNG")
    write_manifest(folder, read_manifest(folder))
    assert verify_corpus(folder) == []
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_every_file_is_guarded_against_a_flipped_bit(corpus):
    """In each file of the corpus: the first, a middle and the last byte."""
    for path in files(corpus):
        data = path.read_bytes()
        for place in (0, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            assert verify_corpus(corpus), (path.name, place)
        path.write_bytes(data)
    assert verify_corpus(corpus) == []


@pytest.mark.parametrize("decode", [True, False])
def test_a_bit_flipped_at_any_of_256_places_is_found(make_scene, write_corpus, tmp_path, decode):
    """Places are drawn over all bytes of all files, so that large files get most of them."""
    folder = write_corpus(tmp_path / "c", [make_scene(i) for i in range(4)])
    sizes = {path: path.stat().st_size for path in files(folder)}
    draw = random.Random(0)
    for path in draw.choices(list(sizes), list(sizes.values()), k=32 if decode else 256):
        data, place = path.read_bytes(), draw.randrange(sizes[path])
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :])
        assert any(path.name in finding for finding in verify_corpus(folder, decode=decode)), (path.name, place)
        path.write_bytes(data)
    assert verify_corpus(folder, decode=decode) == []


@pytest.mark.parametrize("change", ["scenes", "frames", "sha256", "first_scene", "drop", "files", "plan"])
def test_a_manifest_edited_by_someone_who_knows_how_is_found(corpus, change):
    """Its own digest is made to fit again: what it says is not what the files are."""
    path = corpus / "manifest.json"
    values = json.loads(path.read_text())
    record = values["shards"][0]
    if change == "drop":
        del values["shards"][0]
    elif change == "files":
        values["files"]["config.json"] = "0" * 64
    elif change == "plan":
        values["plan"]["num_scenes"] += 1
    elif change == "sha256":
        record["sha256"] = hashlib.sha256(b"another").hexdigest()
    else:
        record[change] += 1
    del values["sha256"]
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    values["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps(values, indent=1) + "\n")
    assert verify_corpus(corpus)


def test_a_swap_inside_a_shard_is_found(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(0), make_scene(1)], "numpy")
    a, b = sorted((folder / "shards/00000").iterdir())
    a.rename(folder / "x")
    b.rename(a)
    (folder / "x").rename(b)
    assert any("shards/00000" in finding for finding in verify_corpus(folder, decode=False))


def test_findings_come_in_the_order_of_the_shards(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(i) for i in range(9)], per_shard=1)
    for number in (7, 1, 4):
        (folder / f"shards/0000{number}.parquet").unlink()
    assert [Path(f.split(": ")[0]).name for f in verify_corpus(folder)] == [f"0000{n}.parquet" for n in (1, 4, 7)]


def test_every_bit_of_the_manifest_counts(make_scene, write_corpus, tmp_path):
    path = write_corpus(tmp_path / "c", [make_scene(0)]) / "manifest.json"
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert verify_corpus(path.parent), (place, data[place - 20 : place + 20])


@pytest.mark.parametrize("keep", [0, 1, -1])
def test_truncated_files_are_found(corpus, keep):
    for path in files(corpus):
        data = path.read_bytes()
        path.write_bytes(data[:keep])
        named = path.parent.name if path.suffix == ".npz" else path.name
        assert any(named in finding for finding in verify_corpus(corpus)), path
        path.write_bytes(data)


def test_missing_files_are_found(corpus):
    for path in files(corpus):
        data = path.read_bytes()
        path.unlink()
        named = path.parent.name if path.suffix == ".npz" else path.name
        assert any(named in finding for finding in verify_corpus(corpus)), path
        path.write_bytes(data)
    shutil.rmtree(corpus / "shards")
    assert len(verify_corpus(corpus)) >= 2


@pytest.mark.parametrize("name", ["notes.txt", "shards/00002.parquet", "shards/00009", "shards/.tmp-0", ".x"])
def test_extra_files_are_found(corpus, name):
    (corpus / name).write_text("x")
    assert [f for f in verify_corpus(corpus) if name in f and "does not belong" in f]


def test_extra_files_in_a_shard_folder_are_found(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(0)], "numpy")
    (folder / "shards/00000/scene-9.npz").write_bytes(b"")
    assert any("shards/00000" in f for f in verify_corpus(folder))


def test_swapped_shards_are_found(corpus):
    a, b = sorted((corpus / "shards").iterdir())
    a.rename(corpus / "x")
    b.rename(a)
    (corpus / "x").rename(b)
    findings = verify_corpus(corpus)
    assert all(any(path.name in finding for finding in findings) for path in (a, b))


def test_linked_shards_are_found(corpus, tmp_path):
    path = sorted((corpus / "shards").iterdir())[0]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert any(path.name in finding for finding in verify_corpus(corpus))


def test_a_corpus_that_is_named_by_a_link_is_checked_where_it_lies(corpus, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(corpus, target_is_directory=True)
    assert verify_corpus(link) == []
    (corpus / "shards").rename(tmp_path / "shards")
    (corpus / "shards").symlink_to(tmp_path / "shards", target_is_directory=True)
    assert any("it is a link" in finding for finding in verify_corpus(link))


def test_a_run_that_did_not_end_is_found(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(i) for i in range(4)])
    manifest = read_manifest(folder)
    os.unlink(folder / "shards/00001.parquet")
    write_manifest(folder, replace(manifest, shards=manifest.shards[:1]))
    (finding,) = verify_corpus(folder)
    assert "4 scenes were asked for, 2 are written and 0 failed" in finding


def test_of_a_killed_run_nothing_is_said_but_that_it_did_not_end(make_scene, write_corpus, tmp_path):
    """It has no card yet, and the journals that a resume reads; both are strange in a corpus that is whole."""
    folder = write_corpus(tmp_path / "c", [make_scene(i) for i in range(4)])
    manifest = read_manifest(folder)
    (folder / ".progress").mkdir()
    (folder / "README.md").unlink()
    whole = verify_corpus(folder)
    assert any(".progress: it does not belong" in finding for finding in whole)
    assert any("README.md: it is missing" in finding for finding in whole)
    os.unlink(folder / "shards/00001.parquet")
    files = {name: digest for name, digest in manifest.files.items() if name != "README.md"}
    write_manifest(folder, replace(manifest, shards=manifest.shards[:1], files=files))
    (finding,) = verify_corpus(folder)
    assert "the run did not end; go on with --resume" in finding


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"semantics": np.full((4, 8, 6, 4), 29, np.uint8)}, "class ids [29] have no class"),
        ({"poses": np.tile(np.diag([1.0, -1, -1, 1]), (4, 1, 1))}, "first pose is not the identity"),
        ({"mask_lidar": np.full((4, 8, 6, 4), 2, np.uint8)}, "mask_lidar holds other values"),
    ],
)
def test_scenes_that_break_the_contract_are_found(make_scene, write_corpus, tmp_path, container, changes, text):
    scene = make_scene(0, columns=("mask_lidar",), **changes)
    folder = write_corpus(tmp_path / "c", [scene], container, columns=("mask_lidar",))
    (finding,) = verify_corpus(folder, decode=True)
    assert text in finding


def test_scenes_of_one_name_in_two_shards_are_found(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(0), make_scene(0)], per_shard=1)
    (finding,) = verify_corpus(folder, decode=True)
    assert "scene-000000 is there twice" in finding


def test_counts_that_the_shard_does_not_bear_out_are_found(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(0)])
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, shards=(replace(manifest.shards[0], frames=9),)))
    (finding,) = verify_corpus(folder, decode=True)
    assert "holds 1 scenes of 4 frames, recorded are 1 of 9" in finding


def test_what_is_no_corpus_is_bad_input(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="give a corpus, or an exported tree"):
            verify_corpus(folder)


def test_many_shards_do_not_all_wait_in_memory(tmp_path):
    records = tuple(ShardRecord(f"{n:05d}.parquet", 9, "0" * 64, n, 1, 1) for n in range(20_000))
    tracemalloc.start()
    try:
        found = sum(fault is not None for _, fault in shard_faults(tmp_path, records))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == 20_000
    assert peak < 16 * 2**20  # all at once are 50 MB; threads of other tests may be counted as well
