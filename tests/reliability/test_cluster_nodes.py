"""Training on a cluster of several nodes, one of which is killed: it ends with the weights of a run left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from simulated_cloud import FRUGAL, PATIENT, ROOT, wait_for
from small_models import SETTINGS, make_city

cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = pytest.mark.slow

TRAINED = ["train_vae.steps=40", "train_vae.batch=2", "train_vae.checkpoint_every=2", "train_vae.decoded_frames=2"]


@pytest.fixture
def cluster() -> Iterator[cluster_utils.Cluster]:
    """A head without work and two nodes with a CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**PATIENT, **FRUGAL, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        small = {"object_store_memory": 80 * 2**20}
        started = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small}
        )
        for _ in range(2):
            started.add_node(num_cpus=1, **small)
        yield started
        started.shutdown()


def train(city: Path, out: Path, address: str) -> subprocess.Popen[str]:
    """``dyncity train vae`` with two workers of the cluster."""
    words = ["train", "vae", "--data", city, "--address", address, "--workers", 2, "--out", out]
    settings = [word for setting in (*SETTINGS, *TRAINED) for word in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *map(str, words), *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def states(out: Path) -> list[int]:
    """The steps of the states that are kept."""
    return sorted(int(path.name.rpartition("-")[2]) for path in (out / "checkpoints").glob("step-*"))


def test_a_node_killed_while_it_trains_costs_nothing_but_time(cluster: cluster_utils.Cluster, tmp_path: Path) -> None:
    city = make_city(tmp_path / "city")
    undisturbed = train(city, tmp_path / "undisturbed", cluster.address)
    wait_for(lambda: undisturbed.poll() is not None, "the end of the undisturbed run")
    assert undisturbed.returncode == 0, undisturbed.communicate()

    disturbed = train(city, tmp_path / "disturbed", cluster.address)
    wait_for(lambda: states(tmp_path / "disturbed") or disturbed.poll() is not None, "a first state")
    assert disturbed.poll() is None, disturbed.communicate()
    cluster.remove_node(max(cluster.worker_nodes, key=id), allow_graceful=False)
    assert max(states(tmp_path / "disturbed")) < 40, "the training was not done yet"
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)  # what an autoscaler does for a lost spot node
    wait_for(lambda: disturbed.poll() is not None, "the end of the disturbed run")
    assert disturbed.returncode == 0, disturbed.communicate()

    weights = [load_file(tmp_path / run / "model.safetensors") for run in ("undisturbed", "disturbed")]
    assert weights[0].keys() == weights[1].keys()
    for name, values in weights[0].items():
        assert (values == weights[1][name]).all(), name
