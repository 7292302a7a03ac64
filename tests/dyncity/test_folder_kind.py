"""What lies where something else was wanted is said, in every reader: a checkpoint, a shard, latents, a tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyncity.checkpoint import load_checkpoint, shipped_checkpoint
from dyncity.datasets.corpus import open_corpus
from dyncity.datasets.manifest import read_manifest
from dyncity.errors import InputError
from dyncity.inventory import describe
from dyncity.training.latents import open_latents
from exporters.verification import verify_corpus
from generators import sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one of each, as far as their names go."""
    for name in ("corpus/manifest.json", "corpus/config.json", "corpus/shards/00000.parquet", "corpus/shards/1/a.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    for name in (
        "latents/latents.json",
        "run/checkpoints/x",
        "run/config.json",
        "kitti/dataset/x",
        "kitti.scenes.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "checkpoint").symlink_to(shipped_checkpoint())
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("checkpoint", "it is a checkpoint; give the folder of a corpus"),
        ("latents", "it holds latents; give the folder of a corpus"),
        ("run", "it is a training run that has no weights yet; give the folder of a corpus"),
        ("kitti", "it is an exported tree; give the folder of a corpus"),
        ("corpus/shards/00000.parquet", "it is a part of a corpus; give the corpus, {folder}/corpus"),
        ("corpus/shards/1/a.npz", "it is a part of a corpus; give the corpus, {folder}/corpus"),
        ("corpus/shards", "it is a part of a corpus; give the corpus, {folder}/corpus"),
        ("kitti.scenes.json", "it is a file, not a folder; give the folder of a corpus"),
        ("empty", "there is no manifest.json in it; give the folder of a corpus"),
        ("none", "there is no such folder; give the folder of a corpus"),
    ],
)
def test_a_corpus_was_wanted(folder: Path, name: str, found: str) -> None:
    with pytest.raises(InputError) as refused:
        open_corpus(folder / name)
    assert str(refused.value) == f"{folder / name}: {found.format(folder=folder)}"


@pytest.mark.parametrize(("name", "found"), [("corpus", "it is a corpus"), ("latents", "it holds latents")])
def test_a_checkpoint_was_wanted(folder: Path, name: str, found: str) -> None:
    for wanted in (load_checkpoint, lambda path: sources.diffusion(path, None, None, [])):
        with pytest.raises(InputError, match=f"{name}: {found}; give a"):
            wanted(folder / name)


def test_a_corpus_that_is_written_meanwhile_is_not_called_what_was_wanted(folder: Path, monkeypatch) -> None:
    late = folder / "empty"
    missing = Path.lstat

    def begins(path: Path):
        """The run writes its manifest just after a reader found none."""
        try:
            return missing(path)
        finally:
            if path == late / "manifest.json":
                (late / "shards").mkdir()
                path.write_text("{}")

    monkeypatch.setattr(Path, "lstat", begins)
    with pytest.raises(InputError, match=r"there is no manifest\.json in it"):
        read_manifest(late)


def test_other_readers_say_it_too(folder: Path) -> None:
    with pytest.raises(InputError, match="corpus: it is a corpus; make it by dyncity encode"):
        open_latents(folder / "corpus")
    with pytest.raises(InputError, match="it is a checkpoint; give a corpus, or an exported tree"):
        verify_corpus(folder / "checkpoint")
    with pytest.raises(InputError, match="it is a part of a corpus; give the corpus"):
        describe(folder / "corpus/shards/00000.parquet")
