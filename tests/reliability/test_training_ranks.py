"""Training without Ray, in plain processes: any number of workers agrees, and a kill of the process costs nothing."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_models import make_city, small_config
from worker_group import start_process, train_alone, train_together

from dyncity.config import Config
from dyncity.training.latents import encode_corpus
from dyncity.training.launch import train_vae
from dyncity.training.loop import Place
from dyncity.training.run_folder import prepare_run
from dyncity.training.vae_loop import fit_vae
from dyncity.watchdog import Watchdog

VAE = ("train_vae.steps=3", "train_vae.batch=4", "train_vae.decoded_frames=2", "train_vae.warmup=1")
DIT = ("train_dit.steps=6", "train_dit.batch=4", "train_dit.warmup=1", "train_dit.lr=0.01")


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_city(tmp_path_factory.mktemp("city") / "corpus")


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory, city: Path) -> tuple[Path, Path]:
    """Latents, and the VAE that encoded them."""
    folder = tmp_path_factory.mktemp("latents")
    train_vae(small_config("train_vae.steps=1"), city, folder / "vae")
    encode_corpus(city, folder / "vae", folder / "latents")
    return folder / "latents", folder / "vae"


def last_loss(run: Path) -> float:
    """The loss of the last step, the mean over the global batch."""
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["loss"]


@pytest.mark.parametrize("model", ["vae", pytest.param("dit", marks=pytest.mark.slow)])
def test_one_two_and_four_workers_and_micro_batches_agree_to_rounding(
    model: str, city: Path, latents: tuple[Path, Path], tmp_path: Path
) -> None:
    inputs = (city,) if model == "vae" else latents
    losses = []
    for world, micro_batch, sharding in ((1, 0, "auto"), (2, 1, "ddp"), (2, 1, "fsdp"), (4, 0, "ddp")):
        out = tmp_path / f"{world}-{micro_batch}-{sharding}"
        settings = (f"train_{model}.micro_batch={micro_batch}", f"train_{model}.sharding={sharding}")
        train_together(world, small_config(*VAE, *DIT, *settings), out, *inputs)
        losses.append(last_loss(out))
    first = small_config(*VAE, *DIT, f"train_{model}.steps=1")
    train_together(1, first, tmp_path / "first", *inputs)
    assert abs(last_loss(tmp_path / "first") - losses[0]) > 1e-2 * losses[0], "the weights did not move"
    np.testing.assert_allclose(losses, losses[0], rtol=2e-4)


def train_watched(config: Config, city: Path, out: Path, hang: bool) -> None:
    """One worker's run under the watchdog that ``--stuck-after 4`` gives it; it may hang in its last step."""
    prepare_run(out, config, resume=False, overwrite=False)
    report = (lambda metrics: time.sleep(600)) if hang else (lambda metrics: None)
    fit_vae(config, city, out, Place(watched=Watchdog(4.0).watch), report)


def test_a_step_that_never_ends_ends_its_process(city: Path, tmp_path: Path) -> None:
    for hang, code in ((False, 0), (True, -signal.SIGKILL)):
        process = start_process(train_watched, small_config(*VAE), city, tmp_path / str(hang), hang)
        process.join()
        assert process.exitcode == code


def test_a_killed_training_resumes_to_the_weights_of_an_undisturbed_one(city: Path, tmp_path: Path) -> None:
    steps = ("train_vae.batch=1", "train_vae.steps=16", "train_vae.checkpoint_every=2", "train_vae.eval_every=16")
    config = small_config(*VAE, *steps)
    process = start_process(train_alone, config, city, tmp_path / "killed")
    states = tmp_path / "killed" / "checkpoints"
    while not (states.is_dir() and any(states.glob("step-*"))):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -9, "it was killed while it trained"
    for run in ("killed", "whole"):
        process = start_process(train_alone, config, city, tmp_path / run)
        process.join()
    killed, whole = (load_file(tmp_path / run / "model.safetensors") for run in ("killed", "whole"))
    assert killed.keys() == whole.keys()
    for name in whole:
        np.testing.assert_array_equal(killed[name], whole[name])
