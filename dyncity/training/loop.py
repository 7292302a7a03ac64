"""The optimisation loop that both trainings share: averaged weights, metrics, resumable state."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dyncity.config import TrainConfig
from dyncity.errors import InputError
from dyncity.training.averaged import Averaged
from dyncity.training.run_folder import (
    load_state,
    log_metrics,
    optimizer_tensors,
    restore_optimizer,
    save_state,
    truncate_metrics,
)
from dyncity.training.sharding import distributed, gathered, laid_out, sharded

Metrics = dict[str, float | int]
LOG_EVERY = 20
_DIVERGED = "look at the data, or start over with --overwrite and a lower lr"
LOOK_EVERY = 5  # steps between looks at whether nodes are leaving: a round trip, in which all workers wait for another


@dataclass(frozen=True)
class Place:
    """Where this process stands among the workers of a run.

    Attributes:
        rank, world: its number and how many there are; rank 0 evaluates and writes.
        device: what it computes on.
        leaving: names of the nodes of this run that the cluster has announced to take away; all workers
            ask equally often.
        watched: a context in which each step is done, with what belongs to it (``Watchdog.watch``).
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    leaving: Callable[[], frozenset[str]] = frozenset
    watched: Callable[[str], AbstractContextManager[Any]] = nullcontext

    def rows(self, batch: int) -> range:
        """The rows of a global batch that this worker computes.

        Raises:
            InputError: more workers than rows.
        """
        if self.world > batch:
            raise InputError(
                "--workers",
                f"{self.world} workers for a batch of {batch}",
                "use fewer, or raise the batch by --set",
            )
        return range(self.rank, batch, self.world)

    def parts(self, config: TrainConfig) -> list[range]:
        """The rows that this worker computes, in micro-batches.

        Raises:
            InputError: more workers than rows.
        """
        rows = self.rows(config.batch)
        size = config.micro_batch or len(rows)
        return [rows[i : i + size] for i in range(0, len(rows), size)]

    def most_parts(self, config: TrainConfig) -> int:
        """The most micro-batches that a worker has; where rows do not share out evenly, others have fewer."""
        rows = -(-config.batch // self.world)
        return -(-rows // (config.micro_batch or rows))


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1.0))))


def optimise(
    *,
    out: Path,
    config: TrainConfig,
    objective: nn.Module,
    parts: Sequence[nn.Module],
    place: Place,
    batch_of: Callable[[int], list[Any]],
    evaluate: Callable[[nn.Module], Metrics],
    ship: Callable[[nn.Module, Metrics], None],
    report: Callable[[Metrics], None],
) -> None:
    """Train ``objective`` for ``config.steps`` steps, from the newest state in ``out`` if there is one.

    Args:
        out: the folder of the run (``run_folder.prepare_run``).
        config: steps, rates, averaging, how often to evaluate and to save.
        objective: ``forward(batch)`` returns a dict of losses, "loss" the one to minimise, scaled so
            that the mean over the workers is the mean over the global batch.
        parts: modules of ``objective`` that are gathered one after another where it is sharded
            (``sharding.distributed``); each is only ever called whole.
        place: this process among the workers.
        batch_of: the rows of this worker for a step, in micro-batches (``Place.parts``) whose gradients are
            added up; depends on (seed, step) and the place alone, and is called one step ahead in a thread.
        evaluate: metrics of a copy of ``objective`` that holds the averaged weights (rank 0 only).
        ship: writes a checkpoint of the averaged weights (rank 0 only).
        report: called with each line of metrics (rank 0 only).

    Raises:
        InputError: the loss is no longer finite, or what is resumed is the state of another model.
    """
    copied = copy.deepcopy(objective)
    parallel = distributed(objective, parts, config, place.device, place.world)
    parameters = dict(objective.named_parameters())
    averaged = Averaged(copied, parameters, place.device)
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )
    first, metrics = _resume(out, parameters, averaged, optimizer), {}
    if place.rank == 0:
        truncate_metrics(out, first)
    half, writes = config.precision == "bfloat16", place.rank == 0
    started, prefetch = time.monotonic(), ThreadPoolExecutor(1)
    left: frozenset[str] = frozenset()
    upcoming = prefetch.submit(batch_of, first)
    for step in _each_in(place.watched, range(first, config.steps)):
        batch = upcoming.result()
        if step + 1 < config.steps:
            upcoming = prefetch.submit(batch_of, step + 1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        optimizer.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        for part in batch:
            # Workers exchange gradients once a step, with the last micro-batch; where they are sharded, with each.
            with nullcontext() if part is batch[-1] else _without_exchange(parallel):
                with torch.autocast(place.device.type, torch.bfloat16, enabled=half):
                    terms = parallel(part)
                terms["loss"].backward()
            losses = {name: losses.get(name, 0) + term.detach() for name, term in terms.items()}
        if sharded(parallel):
            _keep_up(parallel, batch[-1], place.most_parts(config) - len(batch), place.device.type, half)
        nn.utils.clip_grad_norm_(parameters.values(), config.clip_grad)
        optimizer.step()
        averaged.update(parameters, min(config.ema, (1 + step) / (10 + step)))
        done = step + 1
        last = done == config.steps
        looks, ships = done % config.eval_every == 0 or last, done % config.checkpoint_every == 0 or last
        if done % LOG_EVERY == 0 or looks or ships:
            values = _mean_over_workers(losses, place.world)
            if not math.isfinite(values["loss"]):
                raise InputError(out, f"the loss is {values['loss']} at step {done}", _DIVERGED)
            rate = (done - first) / (time.monotonic() - started)
            metrics = {"step": done, "steps": config.steps, **values, "steps_per_second": round(rate, 4)}
        leaving = place.leaving() if done % LOOK_EVERY == 0 else left
        if looks or ships:
            with averaged.whole(keep=writes) as module:
                if writes and looks:
                    try:
                        metrics |= evaluate(module)
                    except FloatingPointError as error:
                        raise InputError(out, f"{error} at step {done}", _DIVERGED) from None
                if writes and ships:
                    ship(module, metrics)
        if writes and (looks or done % LOG_EVERY == 0):
            log_metrics(out, metrics)
            report(metrics)
        if ships or leaving - left:  # nodes are there for some seconds yet: what they know must not go with them
            state = gathered(_state(parameters, averaged, optimizer), keep=writes)
            if writes:
                save_state(out, done, state)
        left = leaving
    prefetch.shutdown()


def _each_in(watched: Callable[[str], AbstractContextManager[Any]], steps: range) -> Iterator[int]:
    """The steps, each of them while it is watched."""
    for step in steps:
        with watched(f"step {step}"):
            yield step


def _keep_up(parallel: nn.Module, part: Any, times: int, device: str, half: bool) -> None:
    """Pass micro-batches that count for nothing, as sharded weights are gathered by all workers together."""
    for _ in range(times):
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = parallel(part)["loss"]
        (0 * loss).backward()


def _without_exchange(module: nn.Module) -> AbstractContextManager[None]:
    """Gradients of this worker alone, until the context ends."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def _mean_over_workers(losses: dict[str, Tensor], world: int) -> dict[str, float]:
    values = torch.stack([value.detach().float() for value in losses.values()])
    if world > 1:
        dist.all_reduce(values)
        values = values / world
    return {name: round(float(value), 5) for name, value in zip(losses, values, strict=True)}


def _state(
    parameters: dict[str, nn.Parameter], averaged: Averaged, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    return (
        {f"weights.{name}": t for name, t in parameters.items()}
        | {f"averaged.{name}": t for name, t in averaged.weights.items()}
        | optimizer_tensors(optimizer, list(parameters))
    )


def _resume(
    out: Path, parameters: dict[str, nn.Parameter], averaged: Averaged, optimizer: torch.optim.Optimizer
) -> int:
    """Load the newest state, if any; the number of steps already done."""
    found = load_state(out)
    if found is None:
        return 0
    step, tensors = found
    numbers = dict.fromkeys(parameters, torch.zeros(()))
    moments = {"optimizer.step": numbers, "optimizer.exp_avg": parameters, "optimizer.exp_avg_sq": parameters}
    for prefix, own in {"weights": parameters, "averaged": averaged.weights, **moments}.items():
        for name, tensor in own.items():
            stored = tensors.get(f"{prefix}.{name}")
            if prefix in moments and not any(f"{m}.{name}" in tensors for m in moments):  # it had no gradient yet
                continue
            if stored is None or (stored.shape, stored.dtype) != (tensor.shape, tensor.dtype):
                why = f"its state of step {step} is of another model (see {prefix}.{name})"
                raise InputError(out / "checkpoints", why, "start over with --overwrite")
    with torch.no_grad():
        for prefix, own in (("weights", parameters), ("averaged", averaged.weights)):
            for name, tensor in own.items():
                tensor.copy_(laid_out(tensors[f"{prefix}.{name}"], tensor))
    restore_optimizer(optimizer, list(parameters), tensors)
    return step
