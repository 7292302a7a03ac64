"""What Ray reads from the environment before it is imported, and one line for a cluster that cannot be joined.

Ray itself is not imported here. Authentication: docs/cluster.md.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from dyncity.errors import InputError

_QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of actors that keep Ray's own books, when one was begun again
}
_LOOK = 0.005  # seconds
# What is said of a driver that Ray, or the system, has ended without a word (``last_words``).
RAY_ENDED = (
    "error: Ray: it has lost its own processes (raylet, GCS, or the cluster's head), or this process was killed; "
    "what is committed stays: go on with --resume"
)


def settle_environment(address: str) -> None:
    """Set what Ray is to find in the environment; to be called before Ray is imported.

    Args:
        address: "local", "auto" or HOST:PORT. A local Ray is this process's own, on this machine alone: it never
            asks for the token of a cluster that this machine may know. For a cluster ``RAY_AUTH_MODE`` stays as
            it is: its nodes have it set, whoever joins from elsewhere sets it.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if address == "local":
        os.environ["RAY_AUTH_MODE"] = "disabled"


@contextmanager
def attempts_unsaid() -> Iterator[None]:
    """Keep from stderr what Ray writes there while it starts or tries to join, whatever its log level is."""
    sys.stderr.flush()
    stderr = os.dup(2)  # the file itself: these lines come from compiled code
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keep what SIGTERM does while Ray starts.

    From then on Ray's own handler would print a stack and abort what takes three seconds.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # no other may
            after = signal.getsignal(signal.SIGTERM)  # ends a process that has none by SystemExit
            signal.signal(signal.SIGTERM, before if callable(before) else after)


def end_ray(shutdown: Callable[[], None]) -> None:
    """Call what ends Ray, which takes seconds; a SIGTERM that comes meanwhile is obeyed when it has ended.

    Some time on its way out Ray sets SIGTERM back to ending the process at once. It does so in a thread of its own, so
    this one, which alone may set handlers, has nothing else to do but to set its own again.
    """
    before, came = signal.getsignal(signal.SIGTERM), []
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        shutdown()
        return
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(shutdown)
        while not ending.done():
            signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
            wait([ending], _LOOK)
    signal.signal(signal.SIGTERM, before)
    ending.result()
    if came:
        before(signal.SIGTERM, None)


def not_joined(address: str, error: Exception) -> InputError:
    """Why Ray did not start here, or no cluster could be joined, on one line."""
    said = " ".join(str(error).split())[:200]
    if address == "local":
        fix = "try again when the machine is less busy, or give --workers 0, which needs no Ray"
    else:  # Ray answers to a wrong token as to no answer
        fix = "check the address and, where the cluster wants one, the token (RAY_AUTH_MODE=token), or use local"
    found = "Ray did not start on this machine" if address == "local" else f"no Ray at {address!r}"
    return InputError("--address", f"{found} ({said})", fix)
