"""Running the command as a user does: another process, its exit code, what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def command() -> list[str]:
    """The console script next to this interpreter, or the same entry point from the sources."""
    script = Path(sys.executable).with_name("dyncity")
    return [str(script)] if script.exists() else [sys.executable, "-c", "import cli; cli.main()"]


@pytest.fixture(scope="session")
def dyncity() -> Run:
    """``dyncity("verify", corpus, cwd=...)`` -> the finished process; its output is text."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict(options.pop("env", {}))}
        return subprocess.run(
            [*command(), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            env=environment,
            check=False,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def corpus(dyncity: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of four procedural scenes, made by the command."""
    folder = tmp_path_factory.mktemp("e2e") / "city"
    done = dyncity("generate", "--generator", "procedural", "--num-scenes", 4, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder
