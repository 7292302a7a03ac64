"""Compiled loops: kept where a folder can be written, and no worse than slow to start where none can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TWICE = """
from exporters.compiled import compiled

@compiled
def twice(number):
    return 2 * number

print(twice(21))
"""


@pytest.mark.parametrize("folder", ["cache", None])
def test_a_loop_runs_whether_or_not_there_is_a_folder_to_keep_it_in(tmp_path, folder):
    """Only the user's own folder may be used here: where it is not named, there is none, as in a sealed container."""
    script = tmp_path / "script.py"
    script.write_text(TWICE)
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    if folder is not None:
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / folder)
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"
    kept = list(tmp_path.glob("cache/**/*.nbi"))
    assert len(kept) == (folder is not None)
