"""Runs of the engine that are killed at random times, not at steps that somebody thought of; a script.

``python random_kills.py FOLDER RUNS SEED`` begins a corpus in a fork so many times, kills it with SIGKILL, goes on
with it in another fork, kills that as well, and lets a third one end; prints a JSON line a run. Nothing here imports
torch or Ray.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

from killed_steps import EXPORTERS, draw, in_fork, tree, whole
from numbered_scenes import small_plan, source

from exporters.manifest import digest
from generators.corpus import make_corpus

_SECONDS = 0.02  # of a micro-batch: sampling and writing take about as long


def make(out: Path, container: str, resume: bool = False) -> int:
    """The corpus, or the rest of it; the scenes that were settled before."""
    plan = small_plan(40, container=container)
    build = source(seconds=_SECONDS)
    return make_corpus(plan, build, EXPORTERS[container](), out, preview=draw, resume=resume).resumed


def run(folder: Path, container: str, draws: random.Random) -> None:
    """Kill the run and its first resumption at random times, and compare what a second one ends in."""
    begun = time.monotonic()
    in_fork(partial(make, folder / "whole", container))
    seconds = time.monotonic() - begun
    allowed = {path.name: {digest(path)} for path in (folder / "whole" / "shards").iterdir()}
    out = folder / "out"
    reader = partial(whole, out, allowed)
    delays = [draws.uniform(0, seconds) for _ in range(2)]
    statuses = [in_fork(partial(make, out, container, n > 0), reader, delay)[0] for n, delay in enumerate(delays)]
    there = len(list((out / "shards").glob("0*")))
    ended, resumed = in_fork(partial(make, out, container, True), reader)
    result = {
        "delays": delays,
        "killed": statuses.count(-signal.SIGKILL),
        "same": ended == 0 and {0, -signal.SIGKILL}.issuperset(statuses) and tree(out) == tree(folder / "whole"),
        "remade": None if resumed is None else there - resumed // 8,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    random_times = random.Random(int(sys.argv[3]))
    for point in range(int(sys.argv[2])):
        run(Path(sys.argv[1]).resolve() / str(point), ("parquet", "numpy")[point % 2], random_times)
