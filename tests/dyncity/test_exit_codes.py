"""An interrupted command says how to go on with it: by --resume where something was begun, else as it was typed."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from dyncity.exit_codes import run


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["generate", "--out", "a"], "generate --out a --resume"),
        (["generate", "--out", "a", "--overwrite"], "generate --out a --resume"),
        (["generate", "--out", "a", "--dry-run"], "generate --out a --dry-run"),
        (["generate", "--out", "a", "--repair"], "generate --out a --repair"),
        (["view", "a", "--out", "a.png"], "view a --out a.png"),
    ],
)
def test_the_last_line_is_the_command_that_goes_on(words: list[str], again: str, capsys: Any) -> None:
    def interrupted(**how: Any) -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run(interrupted, words)  # type: ignore[arg-type]
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"interrupted; go on with: dyncity {again}\n"
