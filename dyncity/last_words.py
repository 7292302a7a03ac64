"""Last words: a process beside this one that tells on stderr that this one has ended without a word.

Ray ends its driver from compiled code when its own processes on the machine die, and the kernel does where there is no
memory: nothing in Python can catch that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_WELL = b"."


@contextmanager
def last_words(line: str) -> Iterator[None]:
    """Have ``line`` written to stderr where this process ends inside the context; however it is left, nothing is."""
    # Without site packages it is there at once. What is sent to the group of this process spares it.
    words = [sys.executable, "-I", "-S", __file__, line]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    assert process.stdin is not None
    try:
        yield
    finally:
        with suppress(OSError):  # it was killed itself
            process.stdin.write(_WELL)
            process.stdin.close()
        process.wait()


if __name__ == "__main__":
    if os.read(0, 1) != _WELL:
        print(sys.argv[1], file=sys.stderr, flush=True)  # noqa: T201
