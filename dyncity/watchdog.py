"""Watchdog: a process beside a worker that ends it when it has been at one piece of work for too long.

What hangs (a device, a file system, a process that was stopped) can neither notice nor help itself; Ray, and the other
workers of a training, wait for it. Once it has died, Ray starts another one, which goes on from the journal or state.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STUCK_AFTER = 3600.0  # seconds; far more than a micro-batch or a step takes wherever one would wait for the whole


class Watchdog:
    """Watches this process.

    Args:
        seconds: how long one piece of work may take.
    """

    def __init__(self, seconds: float) -> None:
        # Without site packages it is there at once and takes 9 MB. It ends when this process does.
        words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(seconds)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
        self._lock, self._begun = threading.Lock(), 0

    @contextmanager
    def watch(self, work: str) -> Iterator[None]:
        """Watch while the context lasts; several may, in threads of their own."""
        with self._lock:
            self._begun += 1
            number = self._begun
        self._say(f"+{number}")
        try:
            yield
        finally:
            self._say(f"-{number}")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._lock, suppress(OSError):  # it was killed: the work goes on unwatched
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def _guard(parent: int, seconds: float) -> None:
    """Read what a process begins and ends from stdin, and kill it when something has not ended after ``seconds``."""
    deadlines: dict[bytes, float] = {}
    rest = b""
    while True:
        wait = max(0.0, min(deadlines.values()) - time.monotonic()) if deadlines else None
        if select.select([0], [], [], wait)[0]:
            if not (read := os.read(0, 4096)):
                return
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                if line[:1] == b"+":
                    deadlines[line[1:]] = time.monotonic() + seconds
                else:
                    del deadlines[line[1:]]
        elif os.getppid() == parent:
            os.kill(parent, signal.SIGKILL)
            return
        else:
            return


if __name__ == "__main__":
    _guard(int(sys.argv[1]), float(sys.argv[2]))
