"""Ray's autoscaler at work, with the node types of cluster.yaml: nodes come, work, die and go; the bytes stay."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numbered_scenes import contents
from simulated_cloud import Cloud, children, cloud, wait_for

import cli
from exporters.manifest import verify_corpus

pytest.importorskip("ray")

CITY = [
    *("generate", "--generator", "procedural", "--scenes-per-shard", 1, "--command", "forward"),
    *("--set", "clip.frames=2", "--set", "grid.shape=[16,16,8]", "--set", "grid.origin=[-6.4,-6.4,-1.2]"),
]
DIFFUSION = ["generate", "--num-scenes", 4, "--micro-batch", 2, "--steps", 2, "--scenes-per-shard", 2]
GPUS = ["--gpus-per-worker", 1]
SIMD = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    """One cluster for the module: starting it is much of the time that these tests take."""
    with cloud() as started:
        yield started


def local(out: Path, *words: object) -> dict[str, bytes]:
    """The corpus as one process makes it, without Ray."""
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, words), "--workers", "0", "--out", str(out)])
    assert end.value.code == 0
    return contents(out)


def finish(job: subprocess.Popen[str], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait for a job that has to end well."""
    wait_for(lambda: (meanwhile(), job.poll() is not None)[1], "the end of a job")
    said = job.communicate()
    assert job.returncode == 0, said


def shards(out: Path) -> int:
    """How many are committed."""
    return len(list((out / "shards").glob("0*.parquet")))


def test_nodes_come_for_the_work_and_go_when_it_is_done(running: Cloud, tmp_path: Path) -> None:
    wait_for(lambda: not running.nodes(), "no nodes before there is work")
    asked = [*CITY, "--num-scenes", 4]
    words = (*asked, *GPUS, "--address", running.address, "--workers", "2:2", "--out", tmp_path / "out")
    # The node that was asked for its device is there already: it would do all before the other one is.
    job = running.dyncity(*words, RAY_DATA_DEFAULT_WAIT_FOR_MIN_ACTORS_S="1200")
    counts = [0]
    finish(job, lambda: counts.append(len(running.nodes())))
    assert max(counts) == 2, "a GPU a worker, and a GPU a node"
    wait_for(lambda: not running.nodes(), "no nodes after the work")
    assert contents(tmp_path / "out") == local(tmp_path / "local", *asked)


@pytest.mark.slow
def test_another_token_than_the_clusters_is_one_line(running: Cloud, tmp_path: Path) -> None:
    asked = [*CITY, "--address", running.address, "--workers", 1, "--out", tmp_path / "out"]
    job = running.dyncity(*asked, RAY_AUTH_TOKEN="another")
    _, said = job.communicate(timeout=1500)
    assert job.returncode == 2, said
    assert said.count("\n") == 1
    assert said.startswith("error: --address: no Ray at ")
    assert "RAY_AUTH_MODE=token" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_node_killed_while_it_works_is_replaced_and_changes_nothing(running: Cloud, tmp_path: Path) -> None:
    asked = [*CITY, "--num-scenes", 400]
    out = tmp_path / "out"
    job = running.dyncity(*asked, *GPUS, "--address", running.address, "--workers", "1:2", "--out", out)

    def working() -> set[int]:
        return {node for node in running.nodes() if children(node, "ray::MapWorker")}

    wait_for(lambda: (shards(out) >= 2 and working()) or job.poll() is not None, "two shards")
    assert job.poll() is None, job.communicate()
    killed = working()
    for node in killed:
        os.kill(node, signal.SIGKILL)
    assert shards(out) < 400, "the work was not done yet"
    finish(job)
    assert contents(out) == local(tmp_path / "local", *asked)
    assert verify_corpus(out) == []


@pytest.mark.slow
def test_a_checkpoint_on_nodes_whose_device_only_they_know(running: Cloud, tmp_path: Path) -> None:
    out, execution = tmp_path / "out", [*GPUS, "--address", running.address, "--workers", 1]
    # The driver takes its CPU for another one than the nodes have, as a head without a GPU is another device.
    other = {"ATEN_CPU_CAPABILITY": "default", "NPY_DISABLE_CPU_FEATURES": " ".join(SIMD)}
    finish(running.dyncity(*DIFFUSION, *execution, "--out", out, **other))
    made = contents(out)
    assert made == local(tmp_path / "local", *DIFFUSION)
    (out / "shards" / "00001.parquet").unlink()
    finish(running.dyncity("generate", "--repair", *execution, "--out", out, **other))
    assert contents(out) == made


@pytest.mark.slow
def test_a_dry_run_is_measured_on_a_worker_and_says_what_the_run_costs(running: Cloud, tmp_path: Path) -> None:
    asked = [*CITY, "--num-scenes", 1000, "--address", running.address, "--workers", "1:2", *GPUS]
    job = running.dyncity(*asked, "--dry-run", "--price-per-gpu-hour", 0.6, "--out", tmp_path / "out")
    seen = set()
    wait_for(lambda: (seen.update(running.nodes()), job.poll() is not None)[1], "the end of the dry run")
    said, _ = job.communicate()
    assert job.returncode == 0
    assert seen, "a node was started for it"
    assert "cost, about" in said
    assert not list(tmp_path.iterdir())
