"""The command in a card makes the corpus that the card lies in: nothing is left to do for its resume."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "words",
    [
        (),  # what the checkpoint does by itself
        ("--steps", "2", "--cfg-scale", "2"),
        ("--steps", "2", "--set", "sampling.smallest_vehicle=[0,0,0]", "--set", "sampling.upright=false"),
    ],
)
def test_it_goes_on_with_the_corpus(dyncity, tmp_path: Path, words: tuple[str, ...]) -> None:
    base = ("generate", "--workers", "0", "--num-scenes", "1", "--micro-batch", "1", "--out", "made")
    assert dyncity(*base, *words, cwd=tmp_path).returncode == 0
    card = (tmp_path / "made" / "README.md").read_text()
    line = next(line for line in card.splitlines() if line.startswith("dyncity generate"))
    again = shlex.split(line.replace("DIR", "made"))[1:]
    done = dyncity(*again, "--workers", "0", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_grid_of_a_simulated_city_is_said_too(dyncity, tmp_path: Path) -> None:
    words = ("--generator", "procedural", "--set", "clip.frames=3", "--set", "grid.frame_rate=10")
    assert (
        dyncity("generate", *words, "--workers", "0", "--num-scenes", "1", "--out", "made", cwd=tmp_path).returncode
        == 0
    )
    line = next(s for s in (tmp_path / "made" / "README.md").read_text().splitlines() if s.startswith("dyncity gen"))
    done = dyncity(*shlex.split(line.replace("DIR", "made"))[1:], "--workers", "0", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
