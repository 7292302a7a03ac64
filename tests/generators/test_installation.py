"""What of an installation decides bytes is told from any other: the state of the sources, and the CPU's vectors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
_ASK = "import json; from generators.installation import installation; print(json.dumps(installation()))"


def asked(root: Path, **environment: str) -> dict[str, str]:
    """What a process says that has the packages of ``root``."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ASK],
        env=os.environ | {"PYTHONPATH": str(root)} | environment,
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_two_states_of_the_sources_of_one_version_are_two(tmp_path: Path) -> None:
    for package in ("dyncity", "exporters", "generators"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("checkpoints", "__pycache__"))
    said = asked(tmp_path)
    (tmp_path / "generators" / "__pycache__").mkdir(exist_ok=True)
    assert asked(tmp_path) == said
    with (tmp_path / "generators" / "specks.py").open("a") as file:
        file.write("# another\n")
    assert asked(tmp_path) == said | {"code": asked(tmp_path)["code"]}
    assert asked(tmp_path)["code"] != said["code"]


def test_a_cpu_with_other_vector_instructions_is_another() -> None:
    """As numpy is told not to use them: its ``arctan2`` and ``exp`` are others in the last bit then."""
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    if not found:
        pytest.skip("this CPU has the least that numpy asks for")
    said = asked(ROOT)
    without = asked(ROOT, NPY_DISABLE_CPU_FEATURES=" ".join(found))
    assert said["cpu"].endswith(", ".join(found))
    assert without == said | {"cpu": without["cpu"]}
    assert without["cpu"] != said["cpu"]
