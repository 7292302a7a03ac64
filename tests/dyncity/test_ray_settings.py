"""What is said where Ray cannot be had; SIGTERM while Ray ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dyncity.ray_settings import not_joined


@pytest.mark.parametrize(
    ("address", "found", "fix"),
    [
        ("local", "Ray did not start on this machine (timed out)", "--workers 0"),
        ("auto", "no Ray at 'auto' (timed out)", "RAY_AUTH_MODE=token"),
    ],
)
def test_why_there_is_no_ray_is_one_line_that_says_what_to_do(address: str, found: str, fix: str) -> None:
    error = not_joined(address, RuntimeError("timed\n  out"))
    assert error.found == found
    assert fix in error.fix
    assert "\n" not in str(error)


_ENDS = """
import ctypes, os, signal, time
from dyncity.ray_settings import end_ray

def shutdown():
    ctypes.CDLL(None).signal(signal.SIGTERM, 0)  # as Ray does, in a thread of its own
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    print("shut down", flush=True)

def obeyed(number, frame):
    print("obeyed", flush=True)
    raise SystemExit(7)

signal.signal(signal.SIGTERM, obeyed)
end_ray(shutdown)
"""


def test_a_sigterm_while_ray_ends_is_obeyed_when_it_has_ended() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", _ENDS], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "shut down\nobeyed\n", "")
    by_default = _ENDS.replace("signal.signal(signal.SIGTERM, obeyed)", "")
    done = subprocess.run([sys.executable, "-c", by_default], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
