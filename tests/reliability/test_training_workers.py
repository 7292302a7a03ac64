"""Training on Ray Train: two workers agree with one process, and a killed worker costs nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from small_models import make_city, small_config

from dyncity.training.launch import train_vae

SETTINGS = (
    "train_vae.steps=12",
    "train_vae.batch=2",
    "train_vae.checkpoint_every=2",
    "train_vae.eval_every=6",
    "train_vae.decoded_frames=2",
)


def training_workers() -> list[int]:
    """Process ids of Ray Train workers on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"RayTrainWorker" in line or b"TrainWorker" in line:
                found.append(int(entry.name))
    return found


def test_two_workers_one_of_them_killed_reach_the_weights_of_one_process(tmp_path: Path) -> None:
    city, config = make_city(tmp_path / "city"), small_config(*SETTINGS)
    train_vae(config, city, tmp_path / "alone")
    before, killed = set(training_workers()), []

    def kill_one() -> None:
        checkpoints = tmp_path / "workers" / "checkpoints"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if checkpoints.is_dir() and any(checkpoints.glob("step-*")):
                for worker in set(training_workers()) - before:
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    train_vae(config, city, tmp_path / "workers", workers=(2, 2))
    killer.join()
    assert killed, "a worker was killed while it trained"
    alone, workers = (load_file(tmp_path / run / "model.safetensors") for run in ("alone", "workers"))
    for name, value in alone.items():
        np.testing.assert_allclose(workers[name], value, rtol=2e-3, atol=2e-4, err_msg=name)
