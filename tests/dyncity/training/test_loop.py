"""The optimisation loop by itself: averaged weights, accumulated gradients, and what it does when nodes leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dyncity.config import TrainConfig
from dyncity.training.loop import Place, optimise
from dyncity.training.run_folder import load_state

BATCH = 6


class Fit(nn.Module):
    """The distance of a linear map of random rows from their sum, over the global batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(3, 1)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.map(rows)[:, 0] - rows.sum(1)).square().sum() / BATCH}


def rows_of(step: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(step).normal(size=(BATCH, 3)).astype(np.float32))


def run(out: Path, place: Place | None = None, evaluate=lambda averaged: {}, objective=None, **settings) -> dict:
    """Train ``Fit``; the state after the last step."""
    (out / "checkpoints").mkdir(parents=True)
    values = {"steps": 20, "batch": BATCH, "lr": 0.1, "warmup": 1, "eval_every": 100, "checkpoint_every": 100}
    config, place = TrainConfig(**(values | settings)), place or Place()
    optimise(
        out=out,
        config=config,
        objective=objective or Fit(),
        parts=[],
        place=place,
        batch_of=lambda step: [rows_of(step)[list(part)] for part in place.parts(config)],
        evaluate=evaluate,
        ship=lambda averaged, metrics: None,
        report=lambda metrics: None,
    )
    state = load_state(out)
    assert state is not None
    return state[1]


@pytest.mark.parametrize("micro_batch", [1, 4, 9])
def test_micro_batches_add_up_to_the_batch(tmp_path: Path, micro_batch: int) -> None:
    whole, parts = run(tmp_path / "whole"), run(tmp_path / "parts", micro_batch=micro_batch)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def test_every_row_is_in_one_micro_batch_of_one_worker() -> None:
    config = TrainConfig(steps=1, batch=13, lr=1.0, micro_batch=2)
    for world in (1, 2, 4, 13):
        rows = [row for rank in range(world) for part in Place(rank, world).parts(config) for row in part]
        assert sorted(rows) == list(range(13))
        assert all(len(part) <= 2 for rank in range(world) for part in Place(rank, world).parts(config))


def test_averaged_weights_follow_the_weights(tmp_path: Path) -> None:
    """The decay grows to ``ema``: after step n it is at most n / (n + 9)."""
    objective, expected, steps = Fit(), None, []

    def compare(averaged: nn.Module) -> dict[str, float]:
        nonlocal expected
        steps.append(len(steps) + 1)
        weight = objective.map.weight.detach().clone()
        decay = min(0.3, steps[-1] / (steps[-1] + 9))
        start = Fit().map.weight.detach() if expected is None else expected
        expected = decay * start + (1 - decay) * weight
        torch.testing.assert_close(averaged.map.weight, expected)
        return {}

    run(tmp_path / "run", evaluate=compare, objective=objective, ema=0.3, eval_every=1)
    assert len(steps) == 20


def test_a_state_is_saved_once_when_a_node_is_announced_to_leave(tmp_path: Path) -> None:
    announced: Iterator[frozenset[str]] = iter(map(frozenset, ["", "a", "a", "ab", "ab"]))
    states = tmp_path / "run" / "checkpoints"
    seen: list[list[str]] = []

    def leaving() -> frozenset[str]:
        seen.append(sorted(path.name for path in states.iterdir()))
        return next(announced)

    run(tmp_path / "run", Place(leaving=leaving), steps=25)
    assert seen == [[], [], ["step-00000010"], ["step-00000010"], ["step-00000010", "step-00000020"]]
