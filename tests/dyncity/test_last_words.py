"""A process that is ended without a word has one said for it; one that ends by itself, however, has not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BEGIN = "import os, signal, sys\nfrom dyncity.last_words import last_words\nwith last_words('error: it ended'): "


@pytest.mark.parametrize(
    ("work", "code", "said"),
    [
        ("os._exit(1)", 1, "error: it ended\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "error: it ended\n"),
        ("pass\nos._exit(3)", 3, ""),
        ("sys.exit(2)", 2, ""),
        ("os.killpg(os.getpgid(0), signal.SIGINT)", -signal.SIGINT, "KeyboardInterrupt\n"),
    ],
)
def test_who_has_last_words(work: str, code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + work],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == code
    assert done.stderr.endswith(said)
    assert "it ended" in said or "it ended" not in done.stderr
