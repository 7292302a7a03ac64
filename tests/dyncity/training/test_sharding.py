"""Weights on all workers or shared out among them: the same training, whichever, also from one to the other."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from worker_group import start_process

from dyncity.config import TrainConfig
from dyncity.config_file import override
from dyncity.presets import preset
from dyncity.training.loop import Place, optimise
from dyncity.training.run_folder import load_state, prepare_run
from dyncity.training.sharding import BYTES_A_WEIGHT, is_sharded

BATCH = 5  # two workers share it unevenly, in micro-batches of one as well
CPU = torch.device("cpu")


class Tower(nn.Module):
    """Linear maps between two others, and a number by itself, that learn the sums of random rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 7), nn.Linear(7, 1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(7, 9), nn.SiLU(), nn.Linear(9, 7)) for _ in range(2))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, batch: tuple[Tensor, float]) -> dict[str, Tensor]:
        rows, share = batch
        x = self.first(rows)
        for block in self.blocks:
            x = x + block(x)
        return {"loss": ((self.last(x)[:, 0].float() + self.shift - rows.sum(1)).square()).sum() / share}


class Stopped(Exception):
    pass


def train(out: Path, place: Place, tower: Tower, stop: int = 100, **settings) -> None:
    """Train from the newest state in ``out``, if there is one; interrupted after ``stop`` steps."""
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    values = {"steps": 12, "batch": BATCH, "lr": 0.02, "warmup": 1, "eval_every": 3, "checkpoint_every": 3}
    config = TrainConfig(**(values | {"ema": 0.5, "weight_decay": 0.1} | settings))

    def batch_of(step: int) -> list[tuple[Tensor, float]]:
        if step == stop:
            raise Stopped
        rows = torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(step))
        return [(rows[list(part)], BATCH / place.world) for part in place.parts(config)]

    def ship(averaged: nn.Module, metrics: dict) -> None:
        save_file(averaged.state_dict(), out / "shipped.safetensors")

    with suppress(Stopped):
        optimise(
            out=out,
            config=config,
            objective=tower,
            parts=list(tower.blocks),
            place=place,
            batch_of=batch_of,
            evaluate=lambda averaged: {"held_out": float(averaged((torch.ones(1, 3), 1.0))["loss"])},
            ship=ship,
            report=lambda metrics: None,
        )


def work(rank: int, world: int, out: Path, settings: dict) -> None:
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo", init_method=f"file://{out}/rendezvous-{world}", rank=rank, world_size=world)
    tower = Tower()
    train(out, Place(rank, world), tower, **settings)
    shares = [p for p in tower.parameters() if isinstance(p, DTensor)]
    assert len(shares) == (len(list(tower.parameters())) if settings["sharding"] == "fsdp" else 0)
    held, whole = sum(p.to_local().numel() for p in shares), sum(p.numel() for p in shares)
    assert held <= whole / world + 9 * len(shares), "each holds its share, to a row of each weight"
    dist.destroy_process_group()


def together(world: int, out: Path, **settings) -> dict[str, Tensor]:
    """Train on workers; the state after the last step, and what is shipped."""
    group = [start_process(work, rank, world, out, settings) for rank in range(world)]
    for process in group:
        process.join()
    assert [process.exitcode for process in group] == [0] * world
    return state_of(out)


def state_of(out: Path) -> dict[str, Tensor]:
    found = load_state(out)
    assert found is not None
    return found[1] | {f"shipped.{name}": t for name, t in load_file(out / "shipped.safetensors").items()}


def agree(one: dict[str, Tensor], other: dict[str, Tensor], rtol: float = 1e-4, atol: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The state of one process after twelve steps."""
    out = tmp_path_factory.mktemp("alone")
    train(out, Place(), Tower())
    return state_of(out)


def test_sharded_workers_agree_with_one_process(tmp_path: Path, alone: dict[str, Tensor]) -> None:
    agree(alone, together(2, tmp_path, sharding="fsdp", micro_batch=1))


def test_a_run_goes_on_under_other_shardings_and_other_workers(tmp_path: Path, alone: dict[str, Tensor]) -> None:
    together(2, tmp_path, sharding="fsdp", stop=3)
    together(3, tmp_path, sharding="ddp", stop=6)
    together(4, tmp_path, sharding="fsdp", stop=9)
    train(tmp_path, Place(), Tower(), sharding="fsdp")  # one worker has nobody to share with
    agree(alone, state_of(tmp_path))


def test_a_resume_may_ask_for_another_sharding(tmp_path: Path) -> None:
    prepare_run(tmp_path / "run", preset("tiny"), resume=False, overwrite=False)
    prepare_run(tmp_path / "run", override(preset("tiny"), ["train_dit.sharding=fsdp"]), resume=True, overwrite=False)


def asked(rank: int, world: int, out: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=world)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // world
    fitting = memory // 2 // BYTES_A_WEIGHT
    assert [is_sharded("auto", weights, CPU, world) for weights in (1, fitting, fitting + 1)] == [False, False, True]
    assert [is_sharded(choice, 1, CPU, world) for choice in ("ddp", "fsdp")] == [False, True]
    dist.destroy_process_group()


def test_auto_shards_what_needs_more_than_half_of_the_memory(tmp_path: Path) -> None:
    group = [start_process(asked, rank, 2, tmp_path) for rank in range(2)]
    for process in group:
        process.join()
    assert [process.exitcode for process in group] == [0, 0]
    assert not is_sharded("fsdp", 10**15, CPU, 1)


def test_half_precision_is_the_same_sharded_or_not(tmp_path: Path) -> None:
    found = [together(2, tmp_path / s, sharding=s, precision="bfloat16") for s in ("ddp", "fsdp")]
    agree(*found, rtol=2e-2, atol=2e-3)
