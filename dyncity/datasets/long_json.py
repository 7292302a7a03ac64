"""A JSON mapping with one long list: its elements are handed on one by one, and what they were read as is not kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")


def members_of(text: str, long: str, take: Callable[[Any], object]) -> dict[str, Any]:
    """The members of the mapping that a text is, strictly; a key given twice, at any depth, is an error, and so is NaN.

    Args:
        text: a JSON mapping and nothing else.
        long: the key of a list, which is empty in the answer.
        take: called with each element of that list.

    Raises:
        ValueError: the text is something else.
        RecursionError: it is nested too deeply.
    """
    cursor = _Cursor(text)
    members: dict[str, Any] = {}
    for _ in cursor.items("{", "}"):
        key = cursor.value()
        if not isinstance(key, str):
            raise ValueError(f"a key is no text before character {cursor.at}")  # noqa: TRY004
        if key in members:
            raise ValueError("a key is given twice")
        cursor.mark(":")
        if key == long and cursor.next() == "[":
            for _ in cursor.items("[", "]"):
                take(cursor.value())
            members[key] = []
        else:
            members[key] = cursor.value()
    if cursor.next():
        raise ValueError(f"more than a mapping at character {cursor.at}")
    return members


class _Cursor:
    """A place in a JSON text."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self._decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).raw_decode

    def next(self) -> str:
        """The next character that is no space; empty at the end."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def mark(self, *wanted: str) -> str:
        """Step over the next character, which has to be one of these."""
        found = self.next()
        if found not in wanted:
            raise ValueError(f"no {' or '.join(wanted)} at character {self.at}")
        self.at += 1
        return found

    def value(self) -> Any:
        """Step over a whole value."""
        self.next()
        value, self.at = self._decode(self.text, self.at)
        return value

    def items(self, begin: str, end: str) -> Any:
        """Stop at each item between two marks; whoever asks steps over it."""
        self.mark(begin)
        if self.next() == end:
            self.mark(end)
            return
        while True:
            yield
            if self.mark(",", end) == end:
                return


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping from its pairs; a key given twice is an error."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is given twice")
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"found {name}")
