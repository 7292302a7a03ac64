"""The one exception for bad input: it names what was given, what was found and what to do."""

from __future__ import annotations


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
        super().__init__(" ".join(f"{self.where}: {found}; {fix}".split()))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.where, self.found, self.fix)  # raised in a worker, shown by its parent
