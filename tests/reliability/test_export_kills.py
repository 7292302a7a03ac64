"""An export is killed while its workers write: what is there stays, and a resume ends in the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exporters.native_tree import TreeOptions
from exporters.tree_listing import verify_tree
from exporters.trees import export_tree

ROOT = Path(__file__).parents[2]
OPTIONS = TreeOptions(scans=False)
SCENES = 8
DRIVER = """
import sys
from pathlib import Path
from exporters.native_tree import TreeOptions
from exporters.trees import export_tree
if __name__ == "__main__":
    export_tree(Path(sys.argv[1]), "kitti-boxes", Path(sys.argv[2]), workers=2, options=TreeOptions(scans=False))
"""


@pytest.fixture
def corpus(tmp_path, make_scene, write_corpus) -> Path:
    """Scenes without boxes, so that each takes a moment: they are estimated."""
    scenes = [make_scene(seed, frames=6, columns=("instances",)) for seed in range(SCENES)]
    return write_corpus(tmp_path / "corpus", scenes, per_shard=4, columns=("instances",))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are listed in /proc")
@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_their_parent_and_a_resume_gives_the_same_bytes(tmp_path, corpus, signalled):
    out = tmp_path / "exports/out"
    (tmp_path / "drive.py").write_text(DRIVER)
    driver = subprocess.Popen(
        [sys.executable, str(tmp_path / "drive.py"), str(corpus), str(out)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    done = tmp_path / "exports/.out.partial/done"
    wait_for(lambda: done.is_dir() and any(done.iterdir()))
    workers = children(driver.pid)
    os.kill(driver.pid, signalled)
    driver.communicate(timeout=60)
    assert driver.returncode != 0
    assert len(workers) >= 2
    wait_for(lambda: not any(map(is_running, workers)), 30)
    assert 1 <= len(list(done.iterdir())) < SCENES
    assert not out.exists()
    export_tree(corpus, "kitti-boxes", out, resume=True, options=OPTIONS)
    export_tree(corpus, "kitti-boxes", tmp_path / "whole/out", options=OPTIONS)
    assert contents(out.parent) == contents(tmp_path / "whole")
    assert verify_tree(out) == []
