"""Drivers of a corpus of 40 scenes in processes of their own, which tests kill; and the processes of Ray below them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCENES = 40
_DRIVER = f"""
import sys
from pathlib import Path
from numbered_scenes import small_plan, source
from dyncity.errors import InputError
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
if __name__ == "__main__":
    out, seconds, workers, options = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    try:
        make_corpus(small_plan({SCENES}), source(seconds=seconds), ParquetExporter(), out, workers=(workers, workers),
                    **dict.fromkeys(options, True))
    except InputError as error:
        print(f"error: {{error}}", file=sys.stderr)
        sys.exit(2)
"""


def drive(script: Path, out: Path, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A driver in a process and a session of its own: seconds a micro-batch, workers, options of ``make_corpus``."""
    script.write_text(_DRIVER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(script), str(out), *map(str, arguments)]
    # A shell starts background jobs with interrupts ignored, and children inherit that.
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def wait_for(condition: Callable[[], object], seconds: float = 180.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def shards_of(out: Path) -> list[Path]:
    """The Parquet shards that are there under their names."""
    return list((out / "shards").glob("0*.parquet"))


def children(parent: int) -> dict[int, bytes]:
    """The processes that a process started, and their command lines."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if int((place / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found[int(place.name)] = (place / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
    return found


def raylet_of(driver: int) -> int | None:
    """The process of the raylet that a driver started."""
    found = (pid for pid, line in children(driver).items() if line.split(b"\0")[0].endswith(b"/raylet"))
    return next(found, None)


def actors_of(driver: int) -> list[int]:
    """The processes that make shards for a driver."""
    raylet = raylet_of(driver)
    return [] if raylet is None else [pid for pid, line in children(raylet).items() if b"_ShardActor" in line]
