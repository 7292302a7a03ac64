"""Runs of the engine that kill themselves at a given change of the file system, one fork each; a script.

``python killed_steps.py FOLDER POINTS`` forks a run for each of so many points ("all": every one), kills it with
SIGKILL just before that change, goes on with what is left in another fork, and prints a JSON line a point. Nothing here
imports torch or Ray: a point costs two forks and two runs of a few files.

A step is a file opened for writing, a rename, a removal, a new folder, or an fsync below the folder of the run. Before
an fsync that never comes the second half of the file is cut off as well, as when the machine itself goes down.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from numbered_scenes import contents, small_plan, source

from dyncity.datasets.manifest import read_manifest
from dyncity.errors import InputError
from exporters.manifest import digest
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.repair import repair_corpus

Step = tuple[str, int]  # a label, and the how many-th of that label
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
EXPORTERS = {"parquet": ParquetExporter, "numpy": NumpyExporter}


def draw(scenes: list[Any], path: Path) -> None:
    """A preview."""
    path.write_bytes(" ".join(scene.scene_id for scene in scenes).encode())


def make(out: Path, container: str, **options: Any) -> Any:
    """The corpus that all runs are to end in, or the rest of it."""
    plan = small_plan(40, container=container)
    return make_corpus(plan, source(), EXPORTERS[container](), out, preview=draw, **options)


def repair(out: Path, container: str) -> Any:
    """That corpus, repaired."""
    plan = small_plan(40, container=container)
    return repair_corpus(plan, source()(), source(), EXPORTERS[container](), out, preview=draw)


def earlier(out: Path, container: str) -> None:
    """Another corpus, which is going to be replaced."""
    make_corpus(small_plan(24, seed=9, container=container), source(), EXPORTERS[container](), out, preview=draw)


def damaged(out: Path, container: str) -> None:
    """The corpus with two shards and the card damaged."""
    make(out, container)
    for path in (*sorted((out / "shards").rglob("0*.parquet"))[1:3], out / "README.md"):
        path.write_bytes(path.read_bytes()[:-7])


def in_fork(
    work: Callable[[], Any], watch: Callable[[], None] | None = None, kill_after: float | None = None
) -> tuple[int, Any]:
    """Run ``work`` in a fork; (0 or the signal that ended it, what it returned as JSON). Meanwhile call ``watch``, and
    after so many seconds, if any, kill it.
    """
    begun = time.monotonic()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(ours)
            os.write(theirs, json.dumps(work()).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(theirs)
    while (found := os.waitpid(pid, os.WNOHANG if watch else 0))[0] == 0:
        assert watch is not None
        if kill_after is not None and time.monotonic() - begun >= kill_after:
            os.kill(pid, signal.SIGKILL)
        watch()
        time.sleep(0.01)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(found[1]), json.loads(said) if said else None


def stepping(root: Path, work: Callable[[], Any], kill_at: Step | None = None) -> list[Step]:
    """Run ``work`` in this process, note its steps below ``root``, and die before ``kill_at``."""
    seen: Counter[str] = Counter()
    steps: list[Step] = []

    def step(kind: str, path: Any, descriptor: int | None = None) -> None:
        path = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        if not path.startswith(f"{root}{os.sep}") and path != str(root):
            return
        if kind == "os.remove" and not os.path.lexists(path):  # nothing is changed
            return
        name = re.sub(r"\.tmp-[0-9a-f]+", ".tmp", os.path.relpath(path, root))
        label = f"{kind} {re.sub(r'progress/[0-9a-f]{16}', 'progress/run', name)}"
        seen[label] += 1
        steps.append((label, seen[label]))
        if steps[-1] == kill_at:
            if descriptor is not None and os.path.isfile(path):
                os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] & _WRITING:
            step("open", arguments[0])
        elif event in _CHANGES:
            step(event, arguments[1] if event == "os.rename" else arguments[0])

    fsync = os.fsync

    def before_fsync(descriptor: int) -> None:
        step("fsync", os.readlink(f"/proc/self/fd/{descriptor}"), descriptor)
        fsync(descriptor)

    sys.addaudithook(hook)
    os.fsync = before_fsync
    work()
    return steps


def whole(out: Path, allowed: dict[str, set[str]]) -> None:
    """What a reader may rely on at any time: each shard under its name is whole, and so is each that is recorded."""
    for path in (out / "shards").glob("0*"):
        try:
            found = digest(path)
        except FileNotFoundError:  # it is being replaced
            continue
        assert found in allowed[path.name], path
    try:
        manifest = read_manifest(out)
    except InputError as error:
        if "no manifest.json" not in str(error) and "no such folder" not in str(error):
            raise
        return
    for record in manifest.shards:
        assert record.sha256 in allowed[record.name], record


def tree(folder: Path) -> str:
    """One digest of all names and bytes below a folder."""
    return sha256(repr(sorted(contents(folder).items())).encode()).hexdigest()


def spread(steps: list[Step], count: int) -> list[Step]:
    """So many of the steps, evenly."""
    return [steps[i * len(steps) // count] for i in range(count)]


def chosen(steps: list[Step], points: int | None) -> list[Step]:
    """So many of the steps: those of different kinds first, in a shard the last of their kind."""
    if points is None or points >= len(steps):
        return steps
    named = [(re.sub(r"\d{5,6}", "N", label), (label, count)) for label, count in steps]
    kinds = dict(reversed(named)) | {name: step for name, step in named if "shards/" in name}
    first = spread([step for step in steps if step in kinds.values()], min(points, len(kinds)))
    return first + spread([step for step in steps if step not in first], points - len(first))


def run(folder: Path, name: str, container: str, points: int | None) -> None:
    """Kill one kind of run at its steps; prints a line a point."""
    whole_run = folder / "whole"
    make(whole_run, container)  # in this process: forks find everything imported
    expected = tree(whole_run)
    before = {"fresh": None, "replace": earlier, "repair": damaged}[name]
    begin = {
        "fresh": partial(make, container=container),
        "replace": partial(make, container=container, overwrite=True),
        "repair": partial(repair, container=container),
    }[name]
    again = (
        partial(repair, container=container) if name == "repair" else partial(make, container=container, resume=True)
    )

    if before is not None:
        in_fork(lambda: before(folder / "before", container))

    def prepared(number: int) -> Path:
        out = folder / f"{number}" / "out"
        if before is not None:
            shutil.copytree(folder / "before", out)
        return out

    out = prepared(0)
    allowed: dict[str, set[str]] = {path.name: {digest(path)} for path in (whole_run / "shards").iterdir()}
    for path in (out / "shards").glob("0*"):
        allowed[path.name].add(digest(path))
    _, steps = in_fork(lambda: stepping(out, lambda: begin(out)))
    for number, step in enumerate(chosen([tuple(s) for s in steps], points), 1):
        out = prepared(number)
        status, _ = in_fork(partial(stepping, out, partial(begin, out), step), partial(whole, out, allowed))
        there = len(list((out / "shards").glob("0*")))
        result = {"run": name, "container": container, "step": step, "killed": status == -signal.SIGKILL}
        if status in (0, -signal.SIGKILL):
            ended, resumed = in_fork(partial(_go_on, again, out), partial(whole, out, allowed))
            result |= {"ended": ended, "same": ended == 0 and tree(out) == expected}
            result["remade"] = None if name != "fresh" or ended else there - resumed // 8
        sys.stdout.write(json.dumps(result | {"status": status}) + "\n")
        shutil.rmtree(out.parent)


def _go_on(again: Callable[[Path], Any], out: Path) -> int:
    """Go on with what is left; the scenes that were settled before."""
    try:
        return getattr(again(out), "resumed", 0)
    except InputError as error:
        # The run that replaces was killed before it had touched anything: it is the old corpus that lies there.
        if "another plan" not in str(error):
            raise
        return make(out, again.keywords["container"], overwrite=True).resumed


if __name__ == "__main__":
    place, wanted = Path(sys.argv[1]).resolve(), sys.argv[2]
    share = None if wanted == "all" else int(wanted) / 20
    for kind, shards, part in (
        ("fresh", "parquet", 9),
        ("fresh", "numpy", 4),
        ("replace", "parquet", 3),
        ("repair", "parquet", 2),
        ("repair", "numpy", 2),
    ):
        run(place / f"{kind}-{shards}", kind, shards, None if share is None else max(1, round(part * share)))
