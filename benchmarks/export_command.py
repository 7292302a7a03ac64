"""What a user waits for: ``dyncity export`` of a whole corpus, beside writing and flushing the same files.

    PYTHONPATH=. python benchmarks/export_command.py [--scenes 16] [--preset occ3d-nuscenes] [--rounds 2]
        [--trees A,B] [--folder DIR]

Scenes come from the procedural city, with instances and boxes. ``export`` is the command with its default workers,
start and end of its processes among it; ``flushed`` is as many processes, started before the clock, that write the same
files below the same folder and flush each of them. Both are time on the clock, the best of the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dyncity.datasets.corpus import open_corpus

_CLI = (sys.executable, str(Path(__file__).parents[1] / "cli.py"))
_TREES = "occ3d-nuscenes,occ3d-waymo,uniocc"


def exported(corpus: Path, kind: str, out: Path) -> tuple[float, float]:
    """Seconds of an export: on the clock, of CPU time."""
    shutil.rmtree(out, ignore_errors=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = ("export", corpus, "--format", kind, "--out", out, "--overwrite")
    subprocess.run([*_CLI, *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_flushed(files: list[tuple[Path, bytes]]) -> None:
    """Write files, each flushed to the disk before the next one."""
    for path, content in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
            os.fsync(file.fileno())


def flushed(tree: Path, copy: Path, processes: int) -> float:
    """Seconds on the clock in which processes write the files of a tree again, below ``copy``."""
    shutil.rmtree(copy, ignore_errors=True)
    files = [(copy / path.relative_to(tree), path.read_bytes()) for path in sorted(tree.rglob("*")) if path.is_file()]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(write_flushed, [[]] * processes)  # they have started
        start = time.perf_counter()
        pool.map(write_flushed, [files[n::processes] for n in range(processes)])
        return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the export command.")
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--preset", default="occ3d-nuscenes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trees", default=_TREES, help="formats")
    parser.add_argument("--folder", type=Path, help="on the disk that is measured; else the temporary one")
    options = parser.parse_args()
    processes = os.cpu_count() or 1
    heads = ("tree", "frames", "files", "export, ms a frame", "CPU, ms a frame", "flushed, ms a frame", "ratio")
    table = Table(*heads, title=f"{processes} processes")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        corpus, out, copy = (Path(folder) / name for name in ("corpus", "tree", "copy"))
        words = ("generate", "--generator", "procedural", "--preset", options.preset, "--num-scenes", options.scenes)
        more = ("--columns", "instances,boxes", "--workers", 0, "--out", corpus)
        subprocess.run([*_CLI, *map(str, words + more)], check=True, stdout=subprocess.DEVNULL)
        for kind in options.trees.split(","):
            times = [exported(corpus, kind, out) for _ in range(options.rounds)]
            plain = min(flushed(out, copy, processes) for _ in range(options.rounds))
            frames = _frames(corpus)
            files = sum(path.is_file() for path in out.rglob("*"))
            wall, cpu = (min(column) for column in zip(*times, strict=True))
            cells = (f"{1e3 * seconds / frames:.1f}" for seconds in (wall, cpu, plain))
            table.add_row(kind, str(frames), str(files), *cells, f"{wall / plain:.1f}")
    Console(width=120).print(table)


def _frames(corpus: Path) -> int:
    """How many frames a corpus has."""
    opened = open_corpus(corpus)
    return sum(opened.frames(scene_id) for scene_id in opened.scene_ids)


if __name__ == "__main__":
    main()
