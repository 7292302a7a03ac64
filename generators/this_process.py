"""Shards made in this process, without Ray: by one thread, or by a few, each with a generator of its own."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dyncity.datasets.manifest import ShardRecord
from generators.plan import CorpusPlan
from generators.shard_worker import ShardWorker

# Micro-batches that are made before Ray and its workers would have started.
_FEW = 4


def workers_for(workers: tuple[int, int] | None, plan: CorpusPlan, numbers: Sequence[int]) -> tuple[int, int]:
    """Fewest and most workers of Ray for some shards of a plan: those asked for, as for ``make_corpus``."""
    if workers is not None:
        return workers
    cores = os.cpu_count() or 1
    # No shard has less than one, so more shards than these are not few, however many there are.
    batches = (-(-plan.shards[number].scenes // plan.micro_batch) for number in numbers[: _FEW + 1])
    return (0, 0) if sum(batches) <= _FEW else (cores, cores)


def threads_for(plan: CorpusPlan, numbers: Sequence[int]) -> int:
    """How many threads make some shards of a plan where that was left open: as the cores allow, one for a GPU."""
    torch = sys.modules.get("torch")  # set only where the generator uses it
    if torch is not None and torch.cuda.is_available():
        return 1
    return max(1, min((os.cpu_count() or 1) // plan.threads, len(numbers)))


def made_here(made_of: dict[str, Any], numbers: Sequence[int], threads: int = 1) -> Generator[tuple[int, ShardRecord]]:
    """Number and record of each shard: a thread's is compressed and written while it samples its next.

    Args:
        made_of: the arguments of ``ShardWorker``.
        numbers: of the shards to make.
        threads: that sample.
    """
    team = [ShardWorker(**made_of) for _ in range(threads)]
    shards = made_of["plan"].shards
    with ThreadPoolExecutor(2 * len(team)) as pool:
        try:
            waiting: deque[tuple[int, Future[ShardRecord]]] = deque()
            for turn, number in enumerate(numbers):
                waiting.append((number, pool.submit(team[turn % len(team)].make, shards[number])))
                if len(waiting) == 2 * len(team):
                    done, made = waiting.popleft()
                    yield done, made.result()
            for number, made in waiting:
                yield number, made.result()
        finally:
            for worker in team:
                worker.stop()
