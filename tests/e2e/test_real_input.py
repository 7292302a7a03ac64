"""The documented way from driving logs to labelled shards, every step of it, at the smallest size."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOGS = ROOT.parent / "shared" / "data" / "av2"
SMALLEST = {"VAE_STEPS": "4", "DIT_STEPS": "4", "DIT_BATCH": "2", "SCENES": "2", "SAMPLING_STEPS": "2", "WORKERS": "0"}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The script after its run on the smallest of the logs."""
    logs = [p for p in LOGS.iterdir() if p.is_dir()] if LOGS.is_dir() else []
    if not logs:
        pytest.skip(f"no Argoverse 2 logs in {LOGS}")
    folder = tmp_path_factory.mktemp("real")
    smallest = min(logs, key=lambda log: sum(p.stat().st_size for p in log.rglob("*") if p.is_file()))
    (folder / "logs").mkdir()
    (folder / "logs" / smallest.name).symlink_to(smallest)
    tools = folder / "bin"
    tools.mkdir()
    script = Path(sys.executable).with_name("dyncity")
    start = f'exec "{script}"' if script.exists() else f'exec "{sys.executable}" -c "import cli; cli.main()"'
    (tools / "dyncity").write_text(f'#!/bin/sh\n{start} "$@"\n')
    (tools / "dyncity").chmod(0o755)
    environment = {**os.environ, **SMALLEST, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", str(ROOT / "docs" / "real-input.sh"), str(folder / "logs"), str(folder / "out")],
        capture_output=True,
        text=True,
        timeout=1800,
        env=environment,
        check=False,
    )
    yield done, folder / "out"
    shutil.rmtree(folder / "out", ignore_errors=True)


def test_logs_become_labelled_shards_in_both_trees(outcome) -> None:
    done, out = outcome
    assert done.returncode == 0, done.stderr[-4000:]
    assert (out / "corpus" / "manifest.json").exists()
    assert len(list((out / "kitti" / "dataset" / "sequences").iterdir())) == 2
    assert len(list((out / "occ3d" / "gts").rglob("labels.npz"))) == 2 * 8
    for name in ("recorded.gif", "generated.gif", "recorded/preview.png", "corpus/preview.png"):
        assert (out / name).stat().st_size > 1000, name


def test_what_each_step_leaves_can_be_described(outcome, dyncity) -> None:
    _, out = outcome
    for folder, word in (
        ("recorded", "argoverse2"),
        ("vae", "VAE alone"),
        ("latents", "held out"),
        ("dit", "VAE and DiT"),
        ("corpus", "2 written"),
    ):
        done = dyncity("info", out / folder)
        assert done.returncode == 0, done.stderr
        assert word in done.stdout


def test_a_finished_training_is_neither_repeated_nor_overwritten_by_mistake(outcome, dyncity) -> None:
    _, out = outcome
    done = dyncity("train", "vae", "--data", out / "recorded", "--out", out / "vae", "--set", "train_vae.steps=4")
    assert done.returncode == 2
    assert "--resume" in done.stderr


def test_a_vae_alone_does_not_generate(outcome, dyncity, tmp_path) -> None:
    _, out = outcome
    done = dyncity("generate", "--checkpoint", out / "vae", "--out", tmp_path / "c")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no DiT" in done.stderr
    assert not list(tmp_path.iterdir())
