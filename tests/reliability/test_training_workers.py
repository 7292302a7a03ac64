"""Training on Ray Train: two workers agree with one process; a killed or hung worker, a killed driver cost nothing."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from small_models import make_city, small_config

from dyncity.checkpoint import load_checkpoint
from dyncity.training.clips import Clips
from dyncity.training.launch import train_vae

SETTINGS = (
    "train_vae.steps=12",
    "train_vae.batch=2",
    "train_vae.checkpoint_every=2",
    "train_vae.eval_every=6",
    "train_vae.decoded_frames=2",
)
LONGER = (*SETTINGS, "train_vae.steps=20", "train_vae.eval_every=20")  # than it takes to be killed


def last_loss(run: Path) -> float:
    """The loss of the last step, the mean over the global batch."""
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["loss"]


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


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_two_workers_one_of_them_killed_or_stopped_answer_as_one_process_does(tmp_path: Path, sent: int) -> None:
    city, config = make_city(tmp_path / "city"), small_config(*SETTINGS)
    train_vae(config, city, tmp_path / "alone")
    before, killed = set(training_workers()), []

    def kill_one() -> None:
        checkpoints = tmp_path / "workers" / "checkpoints"
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            if checkpoints.is_dir() and any(checkpoints.glob("step-*")):
                for worker in set(training_workers()) - before:
                    os.kill(worker, sent)
                    killed.append(worker)
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    train_vae(config, city, tmp_path / "workers", workers=(2, 2), stuck_after=20.0)
    killer.join()
    assert killed, "a worker was there while it trained"
    they_answer_alike(tmp_path, "alone", "workers", city)


def train_by_two(city: Path, out: Path, resume: bool) -> None:
    """The driver of two workers of Ray."""
    train_vae(small_config(*LONGER), city, out, workers=(2, 2), resume=resume)


@pytest.mark.slow
def test_a_killed_driver_of_workers_is_gone_on_with(tmp_path: Path) -> None:
    city, run = make_city(tmp_path / "city"), tmp_path / "workers"
    train_vae(small_config(*LONGER), city, tmp_path / "alone")
    driver = get_context("spawn").Process(target=train_by_two, args=(city, run, False))
    driver.start()
    while not any(run.glob("checkpoints/step-*")):
        assert driver.is_alive()
        time.sleep(0.02)
    driver.kill()
    driver.join()
    assert driver.exitcode == -signal.SIGKILL, "it was killed while it trained"
    assert not (run / "checkpoints/step-00000020").exists()
    driver = get_context("spawn").Process(target=train_by_two, args=(city, run, True))
    driver.start()
    driver.join()
    assert driver.exitcode == 0
    they_answer_alike(tmp_path, "alone", "workers", city)


def they_answer_alike(folder: Path, one: str, other: str, city: Path) -> None:
    """Weights themselves may part: a bias in front of a norm has no gradient but rounding, and Adam takes full steps on
    that. What the models answer may not.
    """
    losses = [last_loss(folder / run) for run in (one, other)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    clip = torch.from_numpy(Clips(city, small_config(*SETTINGS))[0].ids)[None]
    logits = []
    for run in (one, other):
        vae = load_checkpoint(folder / run).vae
        with torch.inference_mode():
            logits.append(vae.logits(vae.encode(clip).mean, torch.arange(4)))
    assert (logits[0] - logits[1]).abs().mean() < 0.01 * logits[0].std()
