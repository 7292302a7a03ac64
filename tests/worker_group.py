"""Workers of a training run as plain processes under gloo, forked from a server that has imported torch once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from dyncity.config import Config
from dyncity.training.dit_loop import fit_dit
from dyncity.training.launch import train_vae
from dyncity.training.loop import Place
from dyncity.training.run_folder import prepare_run
from dyncity.training.vae_loop import fit_vae

# The first optimiser of a process imports torch._dynamo, which takes as long as torch itself.
_PRELOADED = ["torch._dynamo", "torch.distributed", "dyncity.training.launch"]


def start_process(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that has torch and this package imported already, and computes with one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def train_together(world: int, config: Config, out: Path, *inputs: Path) -> None:
    """Train on ``world`` workers: the VAE where ``inputs`` is a corpus, the DiT where it is latents and a VAE."""
    prepare_run(out, config, resume=False, overwrite=False)
    group = [start_process(_work, rank, world, config, out, inputs) for rank in range(world)]
    for process in group:
        process.join()
    assert [process.exitcode for process in group] == [0] * world


def _work(rank: int, world: int, config: Config, out: Path, inputs: tuple[Path, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=world)
    place = Place(rank, world)
    fit = fit_vae if len(inputs) == 1 else fit_dit
    fit(config, *inputs, out, place, lambda metrics: None)
    dist.destroy_process_group()


def train_alone(config: Config, city: Path, out: Path) -> None:
    """Train the VAE in this process as ``dyncity train vae --workers 0 --resume`` does."""
    os.environ["OMP_NUM_THREADS"] = "1"
    train_vae(config, city, out, resume=True)
