"""The benchmark of the models runs, for every objective, and counts what it says it counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyncity.checkpoint import build_dit
from dyncity.hexplane import plane_shapes
from dyncity.presets import preset

ROOT = Path(__file__).parents[2]


def measured(tmp_path: Path, preset_name: str, stage: str) -> dict[str, float]:
    file = tmp_path / "figures.json"
    options = ["--dtype", "float32", "--skip-times", "--stage", stage, "--json", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "benchmarks/model.py", preset_name, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())["stages"][0]


@pytest.mark.parametrize("stage", ["decode to class ids", "VAE step, 2 of 8 frames", "DiT step"])
def test_the_stages_run_at_the_small_preset(tmp_path: Path, stage: str) -> None:
    line = measured(tmp_path, "tiny", stage)
    assert line["stage"] == stage
    assert line["gflop"] > 0.1


@pytest.mark.slow
def test_a_step_of_the_published_objective_runs(tmp_path: Path) -> None:
    """A training step costs thrice a forward pass; the count knows attention too."""
    forward = measured(tmp_path, "carlasc", "DiT forward")["gflop"]
    assert measured(tmp_path, "carlasc", "DiT step")["gflop"] == pytest.approx(3 * forward, rel=0.1)
    # Below the linear layers alone of padded tokens: the padding of the rollout costs nothing.
    config = preset("carlasc")
    tokens = sum(h * w for h, w in plane_shapes(config.latent_shape).values()) // config.dit.patch**2
    linear = sum(p.numel() for b in build_dit(config).blocks for m in (b.qkv, b.out, b.mlp) for p in m.parameters())
    assert 2 * tokens * linear / 1e9 < forward < 131
