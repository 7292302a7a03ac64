"""A corpus whose run did not end is used as far as it is, and before the work every verb says how far that is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dyncity.checkpoint import shipped_checkpoint
from dyncity.datasets.manifest import read_manifest
from exporters.manifest import write_manifest


@pytest.fixture
def unfinished(corpus: Path, tmp_path: Path) -> Path:
    """The corpus of four scenes, of which nine were asked for."""
    shutil.copytree(corpus, tmp_path / "part")
    shutil.copytree(corpus, tmp_path / "real")
    manifest = read_manifest(corpus)
    write_manifest(tmp_path / "part", replace(manifest, plan=manifest.plan | {"num_scenes": 9}))
    return tmp_path / "part"


@pytest.mark.parametrize(
    "words",
    [
        ("view", "part", "--out", "a.png"),
        ("export", "part", "--format", "openoccupancy", "--workers", "0", "--out", "tree"),
        ("evaluate", "conditions", "part", "--scenes", "1"),
        ("evaluate", "samples", "part", "--real", "real", "--scenes", "1"),
        ("encode", "--data", "part", "--vae", str(shipped_checkpoint()), "--out", "latents"),
        ("train", "vae", "--data", "part", "--dry-run", "--out", "vae"),
    ],
)
def test_it_is_said_how_much_is_there(dyncity, unfinished: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = dyncity(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = "warning: part is not finished: 4 of 9 scenes are there; its command with --resume makes the others"
    assert set(done.stderr.splitlines()) == {said}


def test_a_finished_one_is_passed_over_in_silence(dyncity, corpus: Path, tmp_path: Path) -> None:
    assert dyncity("view", corpus, "--out", tmp_path / "a.png").stderr == ""


def test_a_dry_run_of_training_reads_the_data(dyncity, corpus: Path, tmp_path: Path) -> None:
    done = dyncity("train", "vae", "--data", corpus, "--dry-run", "--out", tmp_path / "vae")
    assert any(line.split() == ["clips", "4"] for line in done.stdout.splitlines()), done.stdout
    done = dyncity("train", "vae", "--data", corpus, "--dry-run", "--out", corpus)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "already exists; use --resume or --overwrite" in done.stderr
    for model, more in (("vae", ()), ("dit", ("--vae", shipped_checkpoint()))):
        done = dyncity("train", model, "--data", tmp_path / "none", *more, "--dry-run", "--out", tmp_path / "run")
        assert done.returncode == 2
        assert "none: there is no such folder" in done.stderr
    assert not list(tmp_path.iterdir())
