"""An exported tree against its listing: every damage is found, a line each; nothing outside it is looked at."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from street_scene import street

from dyncity.datasets.manifest import Manifest
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from dyncity.terminal import size_text
from exporters.manifest import commit_shard, write_manifest
from exporters.native_tree import TreeOptions
from exporters.parquet import ParquetExporter
from exporters.tree_listing import describe_tree, is_tree, read_head, read_listing, verify_tree, write_listing
from exporters.trees import export_tree

GRID = GridSpec((16, 16, 6), (0.8, 0.8, 0.8), (-6.4, -6.4, -1.2), 5.0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A folder with a SemanticKITTI tree of two scenes, ``kitti``, and what lies next to it."""
    folder = tmp_path_factory.mktemp("listing")
    corpus = folder / "corpus"
    corpus.mkdir()
    record = commit_shard(corpus, 0, [street("a", frames=1), street("b", frames=1)], (), ParquetExporter(), 0)
    write_manifest(corpus, Manifest({"num_scenes": 2}, "test", (record,)))
    export_tree(corpus, "semantickitti", folder / "exports/kitti", options=TreeOptions(scans=False))
    return folder / "exports"


@pytest.fixture
def tree(exported, tmp_path) -> Path:
    """A copy of the tree that may be damaged."""
    shutil.copytree(exported, tmp_path / "exports")
    return tmp_path / "exports/kitti"


def test_an_undamaged_tree_has_no_findings_wherever_it_is_moved(tree):
    listing = tree.with_name("kitti.scenes.json")
    assert verify_tree(tree) == verify_tree(listing) == []
    assert is_tree(tree)
    assert is_tree(listing)
    assert not is_tree(tree / "dataset")
    for path in sorted(tree.parent.iterdir()):
        path.rename(path.with_name(path.name.replace("kitti", "moved", 1)))
    assert verify_tree(tree.with_name("moved")) == []


def test_a_tree_and_its_listing_are_described(tree):
    listing = tree.with_name("kitti.scenes.json")
    rows = dict(describe_tree(tree))
    assert rows == dict(describe_tree(listing))
    assert (rows["kind"], rows["format"], rows["scenes"], rows["frames"]) == (
        "exported tree",
        "semantickitti",
        "2",
        "2",
    )
    assert rows["files"] == size_text(sum(p.stat().st_size for p in tree.rglob("*") if p.is_file()))
    listing.write_text("{" * 2**25)
    with pytest.raises(InputError, match="it does not list a tree"):
        describe_tree(tree)


def test_the_listing_has_every_file_of_the_tree_with_its_size(tree):
    listing = read_listing(tree.with_name("kitti.scenes.json"))
    files = {p.relative_to(tree).as_posix(): p.stat().st_size for p in tree.rglob("*") if p.is_file()}
    assert {name: size for name, (size, _) in listing.files.items()} == files
    head = read_head(tree.with_name("kitti.scenes.json"))
    assert (head["format"], head["count"], head["frames"]) == ("semantickitti", 2, 2)
    assert head["bytes"] == sum(files.values())


@settings(max_examples=12)
@given(data=st.data())
def test_a_flipped_bit_is_found_in_any_file(exported, data):
    files = sorted(p for p in exported.rglob("*") if p.is_file() and p.stat().st_size)
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(original)
    changed[place] ^= 1 << bit
    path.write_bytes(changed)
    try:
        (finding,) = verify_tree(exported / "kitti")
        assert str(path) in finding
        assert "changed" in finding or path.name.endswith(".scenes.json")
    finally:
        path.write_bytes(original)


def cut(tree: Path) -> Path:
    path = tree / "dataset/sequences/00/voxels/000000.label"
    os.truncate(path, 100)
    return path


def remove(tree: Path) -> Path:
    path = tree / "dataset/sequences/08/poses.txt"
    path.unlink()
    return path


def add(tree: Path) -> Path:
    path = tree / "dataset/notes.txt"
    path.write_text("mine")
    return path


def add_folder(tree: Path) -> Path:
    path = tree / "dataset/sequences/99"
    path.mkdir()
    return path


def link(tree: Path) -> Path:
    path = tree / "dataset/sequences/00/calib.txt"
    path.rename(tree.parent / "calib.txt")
    path.symlink_to(tree.parent / "calib.txt")
    return path


def fifo(tree: Path) -> Path:
    path = tree / "dataset/sequences/00/calib.txt"
    path.unlink()
    os.mkfifo(path)
    return path


def configuration(tree: Path) -> Path:
    path = tree.with_name("kitti.semantic-kitti.yaml")
    path.unlink()
    return path


@pytest.mark.parametrize("damage", [cut, remove, add, add_folder, link, fifo, configuration], ids=lambda d: d.__name__)
def test_each_damage_is_one_line_that_names_the_file(tree, damage):
    path = damage(tree)
    (finding,) = verify_tree(tree)
    assert finding.startswith(f"{path}: ")
    assert "\n" not in finding


def test_two_files_that_changed_places_are_both_found(tree):
    voxels = tree / "dataset/sequences/00/voxels"
    a, b = voxels / "000000.bin", voxels / "000000.invalid"
    a.rename(tree.parent / "c")
    b.rename(a)
    (tree.parent / "c").rename(b)
    assert [finding.partition(": ")[0] for finding in verify_tree(tree)] == [str(a), str(b)]


def test_a_tree_that_is_gone_or_a_link_is_found(tree):
    (tree.parent / "elsewhere").mkdir()
    tree.rename(tree.parent / "elsewhere/kitti")
    assert any("not a folder" in finding for finding in verify_tree(tree))
    tree.symlink_to(tree.parent / "elsewhere/kitti")
    assert any("not a folder" in finding for finding in verify_tree(tree))


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    """Change what a listing says; its own sha256 is right."""
    values = json.loads(path.read_bytes())
    del values["sha256"]
    scenes = values.pop("scenes")
    tail = {name: values.pop(name) for name in ("shared", "beside")}
    values |= {"scenes": scenes, **tail}
    change(values)
    head = {name: value for name, value in values.items() if name not in ("scenes", "shared", "beside")}
    scenes = values["scenes"] if isinstance(values["scenes"], list) else [values["scenes"]]
    write_listing(path, head, scenes, {name: values[name] for name in tail if name in values})


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("shared"),
        lambda v: v.update(scenes=3),
        lambda v: v.update(scenes=[{"files": {"a": ["big", "00"]}}]),
        lambda v: v.update(scenes=[{"files": {"a": [1]}}]),
        lambda v: v.update(scenes=[{"files": {"a": "ab"}}]),
        lambda v: v.update(scenes=[[]]),
        lambda v: v["shared"].update(folders=[7]),
        lambda v: v.update(beside={"../../secret": [1, "0" * 64]}),
        lambda v: v.update(beside={"/etc/passwd": [1, "0" * 64]}),
    ],
)
def test_a_listing_that_does_not_list_is_one_finding(tree, change):
    path = tree.with_name("kitti.scenes.json")
    rewrite(path, change)
    (finding,) = verify_tree(tree)
    assert finding.startswith(f"{path}: ")


def test_names_in_a_listing_that_lead_out_of_the_tree_are_not_looked_up(tree):
    path = tree.with_name("kitti.scenes.json")
    secret = tree.parent / "secret"
    secret.write_text("x")
    rewrite(path, lambda v: v["scenes"][0]["files"].update({"../secret": [1, sha256(b"x").hexdigest()]}))
    (finding,) = verify_tree(tree)
    assert finding.endswith("it is missing")


def test_without_a_listing_there_is_nothing_to_check_against(tree):
    tree.with_name("kitti.scenes.json").unlink()
    with pytest.raises(InputError, match="no such listing"):
        verify_tree(tree)
    with pytest.raises(InputError, match="does not list"):
        read_head(tree)


def test_a_folder_that_holds_nothing_belongs_to_a_tree_where_the_format_makes_one(
    tmp_path, make_scene: Callable[..., OccupancyScene], write_corpus: Callable[..., Path]
):
    """Waymo's validation split of one scene."""
    scene = make_scene(0, frames=1, grid=GRID, columns=("mask_lidar", "mask_camera"))
    corpus = write_corpus(tmp_path / "corpus", [scene], columns=("mask_lidar", "mask_camera"))
    export_tree(corpus, "occ3d-waymo", tmp_path / "waymo")
    assert not list((tmp_path / "waymo/validation").iterdir())
    assert verify_tree(tmp_path / "waymo") == []
