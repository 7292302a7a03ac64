"""A process that is at one piece of work for too long is ended; what takes its time in many pieces is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from killed_drivers import children, wait_for

ROOT = Path(__file__).parents[2]
_BEGIN = "import os, signal, sys, time; from dyncity.watchdog import Watchdog; dog = Watchdog(1.0)\n"


@pytest.mark.parametrize(
    ("work", "code"),
    [
        ("for n in range(6):\n with dog.watch('scene'): time.sleep(0.4)", 0),
        ("for n in range(6):\n with dog.watch('a'), dog.watch('b'): time.sleep(0.4)", 0),
        ("time.sleep(2)", 0),
        ("with dog.watch('scene'): time.sleep(60)", -signal.SIGKILL),
        ("with dog.watch('scene'): os.kill(os.getpid(), signal.SIGSTOP)", -signal.SIGKILL),
        (
            "with dog.watch('commit'):\n for n in range(60):\n  with dog.watch('batch'): time.sleep(0.3)",
            -signal.SIGKILL,
        ),
        ("dog._process.kill(); dog._process.wait()\nwith dog.watch('scene'): time.sleep(2)", 0),
    ],
)
def test_who_is_ended(work: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", _BEGIN + work], cwd=ROOT, capture_output=True, timeout=40, check=False)
    assert (done.returncode, done.stderr) == (code, b"")


def test_the_watchdog_ends_with_the_process_that_it_watches() -> None:
    watched = subprocess.Popen([sys.executable, "-c", _BEGIN + "time.sleep(60)"], cwd=ROOT)
    wait_for(lambda: [pid for pid, line in children(watched.pid).items() if b"watchdog.py" in line])
    (dog,) = children(watched.pid)
    watched.kill()
    watched.wait()
    wait_for(lambda: not Path(f"/proc/{dog}").exists(), 20)
