"""A run is killed at each step of its work on files: what goes on with it ends in the same bytes, and redoes little."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# How many points; ``DYNCITY_KILL_POINTS=all`` takes every one there is (a minute or two).
POINTS = os.environ.get("DYNCITY_KILL_POINTS", "20")
IN_FLIGHT = 2  # shards that one process is at


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """What came of each point, as ``killed_steps.py`` prints it."""
    place = tmp_path_factory.mktemp("points")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "killed_steps.py"), str(place), POINTS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_so_many_runs_were_killed_in_the_middle(points):
    assert len(points) >= (20 if POINTS == "all" else int(POINTS))
    # Threads take turns: now and then the step at which to die does not come again.
    assert sum(point["killed"] for point in points) >= 0.8 * len(points)
    steps = {point["step"][0].split()[0] for point in points}
    assert steps >= {"open", "fsync", "os.rename"}


def test_whatever_was_killed_ends_in_the_same_tree(points):
    assert [point for point in points if not (point["status"] in (0, -9) and point.get("same"))] == []


def test_no_more_is_made_twice_than_was_in_flight(points):
    remade = [point["remade"] for point in points if point.get("remade") is not None]
    assert remade
    assert max(remade) <= IN_FLIGHT
