"""Native trees by the command: exported, imported, exported again; what is refused leaves nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dyncity.datasets.corpus import open_corpus

KINDS = ("semantickitti", "carlasc", "occ3d-nuscenes", "occ3d-waymo")


@pytest.fixture(scope="module")
def trees(dyncity, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus of one short scene of the city, exported by the command to each of the trees."""
    folder = tmp_path_factory.mktemp("trees")
    city = ("generate", "--generator", "procedural", "--num-scenes", 1, "--command", "forward", "--workers", 0)
    done = dyncity(*city, "--set", "clip.frames=2", "--out", folder / "corpus")
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        done = dyncity("export", folder / "corpus", "--format", kind, "--out", folder / kind)
        assert done.returncode == 0, done.stderr
    return {kind: folder / kind for kind in KINDS}


def imported(dyncity, kind: str, source: Path, out: Path, *more: object) -> str:
    done = dyncity("import", kind, source, "--out", out, "--workers", 0, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_is_imported_and_exported_and_imported_the_same(dyncity, trees, tmp_path: Path, kind: str) -> None:
    imported(dyncity, kind, trees[kind], tmp_path / "a")
    done = dyncity("export", tmp_path / "a", "--format", kind, "--out", tmp_path / "tree")
    assert done.returncode == 0, done.stderr
    imported(dyncity, kind, tmp_path / "tree", tmp_path / "b")
    assert dyncity("verify", tmp_path / "b").returncode == 0
    (once,), (again,) = (list(open_corpus(tmp_path / name).scenes()) for name in ("a", "b"))
    assert (once.scene_id, once.frames) == (again.scene_id, 2)
    np.testing.assert_array_equal(again.semantics, once.semantics)
    np.testing.assert_array_equal(again.mask_lidar, once.mask_lidar)
    assert (once.mask_camera is None) == (kind in ("semantickitti", "carlasc"))
    if once.mask_camera is not None:
        np.testing.assert_array_equal(again.mask_camera, once.mask_camera)
    np.testing.assert_allclose(again.poses, once.poses, atol=1e-6)


def test_an_imported_corpus_says_what_it_is_and_that_its_terms_are_not_known(dyncity, trees, tmp_path: Path) -> None:
    imported(dyncity, "carlasc", trees["carlasc"], tmp_path / "a", "--frames", 1, "--labels", "carlasc")
    corpus = open_corpus(tmp_path / "a")
    assert (corpus.taxonomy, corpus.columns, corpus.grid.shape) == ("carlasc", ("mask_lidar",), (128, 128, 8))
    assert corpus.grid.frame_rate == 5.0
    assert len(corpus.scene_ids) == 2
    card = (tmp_path / "a" / "README.md").read_text()
    assert "license: unknown" in card
    assert "the data set that was imported" in card
    assert "dyncity import carlasc SOURCE --out DIR --frames 1" in card
    assert "carlasc" in dyncity("info", tmp_path / "a").stdout


def test_a_dry_run_writes_nothing(dyncity, trees, tmp_path: Path) -> None:
    assert "scenes" in imported(dyncity, "occ3d-waymo", trees["occ3d-waymo"], tmp_path / "a", "--dry-run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--labels", "semantickitti"), "no map leads from 'carlasc'"),
        (("--preset", "tiny"), "--preset"),
        (("--set", "grid.frame_rate=5"), "--set"),
        (("--frames", "0"), "--frames"),
        (("--columns", "mask_camera"), "mask_camera"),
    ],
)
def test_what_means_nothing_to_a_tree_is_refused(dyncity, trees, tmp_path: Path, more, word: str) -> None:
    done = dyncity("import", "carlasc", trees["carlasc"], "--workers", 0, *more, "--out", tmp_path / "a")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_damaged_tree_is_one_line_and_leaves_nothing(dyncity, trees, tmp_path: Path) -> None:
    path = sorted(trees["carlasc"].glob("Cartesian/*/*/cartesian/evaluation/000001.bin"))[-1]
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    try:
        done = dyncity("import", "carlasc", trees["carlasc"], "--workers", 0, "--out", tmp_path / "a")
    finally:
        path.write_bytes(data)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: it has 524284 bytes, not 524288; ")
    assert not list(tmp_path.iterdir())
