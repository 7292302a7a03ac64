"""Manifests that were changed on purpose, with a digest that fits what they say."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The manifest of the folder after ``change(values)``, with a digest that fits."""
    values = json.loads((folder / "manifest.json").read_text())
    change(values)
    body = {k: v for k, v in values.items() if k != "sha256"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(body | {"sha256": digest}))
