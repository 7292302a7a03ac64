"""Training on Ray Train: two workers agree with one process, and one that is killed or hangs costs nothing."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
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
    # Weights themselves may part: a bias in front of a norm has no gradient but rounding, and Adam takes
    # full steps on that. What the models answer may not.
    losses = [last_loss(tmp_path / run) for run in ("alone", "workers")]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    clip = torch.from_numpy(Clips(city, config)[0].ids)[None]
    logits = []
    for run in ("alone", "workers"):
        vae = load_checkpoint(tmp_path / run).vae
        with torch.inference_mode():
            logits.append(vae.logits(vae.encode(clip).mean, torch.arange(4)))
    assert (logits[0] - logits[1]).abs().mean() < 0.01 * logits[0].std()
