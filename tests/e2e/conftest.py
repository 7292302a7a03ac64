"""Running the command as a user does: another process, its exit code, what it prints."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import cli

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def command() -> list[str]:
    """The console script next to this interpreter, or the same entry point from the sources."""
    script = Path(sys.executable).with_name("dyncity")
    return [str(script)] if script.exists() else [sys.executable, "-c", "import cli; cli.main()"]


@pytest.fixture(scope="session")
def console() -> Run:
    """``console("verify", corpus)``: the command in a process of its own -> the finished process."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        words = [*command(), *map(str, arguments)]
        return subprocess.run(
            words, capture_output=True, text=True, timeout=600, env=environment, check=False, **options
        )

    return run


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """``start("generate", ...)``: the command in a process that goes on; its stderr can be read."""

    def begin(*arguments: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        words = [*command(), *map(str, arguments)]
        # A shell starts background jobs with interrupts ignored, and children inherit that.
        return subprocess.Popen(
            words,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return begin


@pytest.fixture(scope="session")
def dyncity() -> Run:
    """The same in this process: torch is imported once for all tests, not once for each."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        words, out, err = [str(a) for a in arguments], io.StringIO(), io.StringIO()
        code: object = None
        with redirect_stdout(out), redirect_stderr(err), chdir(cwd or Path.cwd()):
            try:
                cli.main(words)
            except SystemExit as end:
                code = end.code
        return subprocess.CompletedProcess(words, int(code or 0), out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def corpus(dyncity: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of four procedural scenes, made by the command."""
    folder = tmp_path_factory.mktemp("e2e") / "city"
    done = dyncity("generate", "--generator", "procedural", "--num-scenes", 4, "--workers", 0, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder
