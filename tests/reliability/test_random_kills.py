"""Drivers, actors and raylets are killed at random times: what goes on with it ends in the same bytes.

``--random-kills N`` says how many runs of a driver are killed (twice each); a sixth as many runs have two of their
actors killed, and a raylet. The seed is drawn anew every time, and told where a test fails; ``--random-kills-seed``
repeats it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from killed_drivers import ROOT, SCENES, actors_of, drive, raylet_of, shards_of, wait_for
from killed_steps import whole
from numbered_scenes import contents, small_plan, source

from exporters.manifest import digest
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus

IN_FLIGHT = 2  # shards that one process is at


@pytest.fixture
def runs(request):
    return request.config.getoption("--random-kills")


@pytest.fixture
def seed(request):
    given = request.config.getoption("--random-kills-seed")
    return random.SystemRandom().randrange(2**32) if given is None else given


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The corpus of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("reference") / "out"
    make_corpus(small_plan(SCENES), source(), ParquetExporter(), out)
    return out


def resume(out):
    return make_corpus(small_plan(SCENES), source(), ParquetExporter(), out, resume=True)


def test_a_driver_that_is_killed_whenever_it_may_be_costs_what_was_in_flight(tmp_path, runs, seed):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "random_kills.py"), str(tmp_path), str(runs), str(seed)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (seed, done.stderr)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == runs
    assert [result for result in results if not (result["same"] and result["remade"] <= IN_FLIGHT)] == [], seed
    assert sum(result["killed"] for result in results) >= runs / 2, "most were killed before they had ended"


def test_actors_that_are_killed_whenever_they_may_be_change_nothing(tmp_path, reference, runs, seed):
    pytest.importorskip("ray")
    allowed = {path.name: {digest(path)} for path in (reference / "shards").iterdir()}
    draws = random.Random(seed)
    for number in range(max(1, runs // 6)):
        out, killed = tmp_path / str(number) / "out", 0
        out.parent.mkdir()
        driver = drive(out.parent / "drive.py", out, 0.3, 2)
        try:
            for _ in range(2):  # three deaths in one scene would be recorded as its fault
                wait_for(lambda: actors_of(driver.pid) or driver.poll() is not None, 300)  # noqa: B023
                end = time.monotonic() + draws.uniform(0, 1.5)
                while time.monotonic() < end:
                    whole(out, allowed)
                    time.sleep(0.02)
                if actors := actors_of(driver.pid):
                    os.kill(draws.choice(sorted(actors)), signal.SIGKILL)
                    killed += 1
            _, said = driver.communicate(timeout=300)
        finally:
            driver.kill()
        assert driver.returncode == 0, (seed, said)
        assert killed, seed
        assert contents(out) == contents(reference), seed


@pytest.mark.slow
def test_a_raylet_that_is_killed_whenever_it_may_be_costs_a_resume(tmp_path, reference, runs, seed):
    pytest.importorskip("ray")
    draws = random.Random(seed)
    for number in range(max(1, runs // 6)):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        driver = drive(out.parent / "drive.py", out, 1.0, 2)
        try:
            wait_for(lambda: actors_of(driver.pid), 300)  # noqa: B023
            time.sleep(draws.uniform(0, 4))
            raylet = raylet_of(driver.pid)
            assert raylet is not None
            os.kill(raylet, signal.SIGKILL)
            driver.communicate(timeout=300)
        finally:
            driver.kill()
        there = len(shards_of(out))
        result = resume(out)  # at once: workers may still be writing
        assert there - result.resumed // 8 <= 2 * IN_FLIGHT, seed
        time.sleep(5)
        assert contents(out) == contents(reference), seed
