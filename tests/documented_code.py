"""The Python blocks of a documentation page, by the heading above them, and running them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_HEADING_OR_BLOCK = re.compile(r"^## ([^\n]+)$|^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python_blocks(page: str) -> dict[str, list[str]]:
    """Heading -> the Python blocks of its section."""
    blocks: dict[str, list[str]] = {}
    heading = ""
    for title, code in _HEADING_OR_BLOCK.findall((ROOT / page).read_text()):
        heading = title or heading
        if code:
            blocks.setdefault(heading, []).append(code)
    return blocks


def run_section(page: str, heading: str) -> dict[str, Any]:
    """Run the blocks of a section in one go, as a script in the working folder -> the names that it leaves."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in python_blocks(page)[heading]:
        exec(compile(code, f"{page}, {heading}", "exec"), names)
    return names
