"""What the documentation names exists, and what exists is named: the tree, the links, the two commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readme_starts_with_exactly_two_commands() -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert [block.count("\n") for block in blocks] == [1, 1]
    assert "pip install . && .venv/bin/dyncity generate" in blocks[0]
    assert "'.[test]'" in blocks[1]
    assert blocks[1].strip().endswith("-m pytest -n 2")


def test_the_tree_names_every_module() -> None:
    tree = README[README.index("## The tree") :]
    for package in ("dyncity", "generators", "exporters"):
        for module in (ROOT / package).rglob("*.py"):
            name = f"{module.parent.relative_to(ROOT)}/" if module.name == "__init__.py" else module.name
            assert re.search(rf"^ *{re.escape(name)} ", tree, re.MULTILINE), f"{name} is not in the tree"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_verbs_and_options_that_exist(page: Path, capsys) -> None:
    """Every line that starts with ``dyncity VERB``: its options are those of the verb's help."""
    commands = re.findall(r"^ *dyncity [a-z].*$", page.read_text().replace("\\\n", " "), re.MULTILINE)
    for line in commands:
        words = line.split()
        with pytest.raises(SystemExit) as end:
            cli.main([words[1], "--help"])
        assert end.value.code == 0, line
        known = capsys.readouterr().out
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert f"{option} " in known or f"{option}/" in known, f"{page.name}: {line.strip()} ({option})"
