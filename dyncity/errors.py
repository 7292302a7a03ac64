"""The one exception for bad input: it names what was given, what was found and what to do."""

from __future__ import annotations

_LONGEST = 400  # characters of what was found: a file may hold anything


class InputError(ValueError):
    """Bad input from outside: a file, a field or an option.

    The command line prints ``error: <where>: <found>; <fix>`` on one line and exits with 2.

    Args:
        where: the file, field or option at fault, e.g. ``--num-scenes`` or ``runs/vae/config.json``.
        found: what was found there.
        fix: what the user can do about it.
    """

    def __init__(self, where: object, found: str, fix: str) -> None:
        self.where = str(where)
        self.found = found
        self.fix = fix
        shown = found if len(found) <= _LONGEST else f"{found[:_LONGEST]}..."
        super().__init__(" ".join(f"{self.where}: {shown}; {fix}".split()))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.where, self.found, self.fix)  # raised in a worker, shown by its parent


def one_line(text: str) -> str:
    """A text that may come from a file, on one line, without characters that a terminal obeys or cannot show."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    return "".join(shown)
