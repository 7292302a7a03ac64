"""Patience with a storage that does not answer, or fails: it is asked again for a minute, which is said once."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from dyncity.errors import InputError

Answer = TypeVar("Answer")

UNANSWERED, FAILING = "the storage does not answer", "the storage answers with errors of its own"
_PATIENCE = 60.0  # seconds in which it may come back: what has to be put, or is half read, took minutes
_patient = ContextVar("patient", default=True)


@contextmanager
def at_once() -> Iterator[None]:
    """Within, this thread waits for no storage longer than pyarrow does: for work that goes by the clock."""
    before = _patient.set(False)
    try:
        yield
    finally:
        _patient.reset(before)


def patiently(work: Callable[[], Answer], reasons: Container[str] = (FAILING, UNANSWERED)) -> Answer:
    """What ``work`` returns; it is called again for up to a minute while the storage is not itself, which is said once.

    Args:
        work: may be called several times.
        reasons: what is found of the storage that is worth waiting for.

    Raises:
        InputError: it does not answer in that time, or ``work`` raises another one.
    """
    if not _patient.get():
        return work()
    deadline, pause, said = time.monotonic() + _PATIENCE, 1.0, False
    while True:
        try:
            return work()
        except InputError as error:
            if error.found not in reasons or time.monotonic() + pause > deadline:
                raise
            if not said:
                print(f"{error.where}: {error.found}; asking again for a minute", flush=True)  # noqa: T201
                said = True
        time.sleep(pause)
        pause = min(2 * pause, 8.0)
