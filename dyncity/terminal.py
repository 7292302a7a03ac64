"""What long work shows: a bar on a terminal, a line every five seconds elsewhere; small tables."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 5.0  # seconds between lines where stdout is not a terminal
_HEAD = 8  # characters of a line of a column's name
_STARTING = "starting"
_LONG = 60.0  # seconds without news after which they are told: a worker may hang


class ProgressLine:
    """Progress of one piece of work on stdout, so that stderr holds errors alone; a context manager.

    Args:
        what: the verb, e.g. ``generate``.
        unit: what is counted, e.g. ``scenes``.
        total: how many there will be; 0 where that is not known.

    Note:
        Without a terminal a thread of its own prints the lines, so that they come even while the work
        itself waits for something.
    """

    def __init__(self, what: str, unit: str, total: int = 0) -> None:
        self.what, self.unit, self.total = what, unit, total
        self._own, self._own_total = (what, unit), total
        self.done, self.note = 0, _STARTING
        self._begun = time.monotonic()
        self._news = self._begun
        self._first, self._start = 0, self._begun  # where and when the counting began: a run may resume
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> ProgressLine:
        self._begun = self._news = time.monotonic()
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TextColumn("{task.fields[note]}", style="dim"),
                TimeRemainingColumn(),
                console=Console(),
            )
            self._task = self._bar.add_task(self.what, total=self.total or None, note=self.note, unit=self.unit)
            self._bar.start()
        else:
            self._thread = threading.Thread(target=self._tick, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()
        if self._thread is not None:
            self._thread.join()
            if kind is None:
                self.note = "" if self.note == _STARTING else self.note
                print(self.line(), flush=True)  # noqa: T201

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how far the work is.

        Args:
            done: units done so far, those of an interrupted run before included.
            total: how many there will be, where that has changed.
            note: a few words or figures, e.g. ``loss 0.31``.
        """
        self._own_total = self._own_total if total is None else total
        self._show(self._own, done, self._own_total, note)

    def before(self, what: str, unit: str) -> Callable[[int, int], None]:
        """What to call with done and total of work that comes before the rest and is counted by itself.

        Args:
            what: a verb, e.g. ``compare``.
            unit: what is counted, e.g. ``shards``.
        """
        return lambda done, total: self._show((what, unit), done, total, "")

    def _show(self, work: tuple[str, str], done: int, total: int, note: str) -> None:
        """Say how far a piece of work is; the counting begins anew with each."""
        begins = self.note == _STARTING or work != (self.what, self.unit)
        if begins:
            self._first, self._start = done, time.monotonic()
        if begins or done != self.done:
            self._news = time.monotonic()
        (self.what, self.unit), self.done, self.total, self.note = work, done, total, note
        if self._bar is not None:
            if begins:  # the speed is not that of the work before
                self._bar.reset(self._task, description=self.what, unit=self.unit)
            self._bar.update(self._task, completed=done, total=total or None, note=", ".join(self._notes()))

    def line(self) -> str:
        """The progress as one line of text."""
        now = time.monotonic()
        # What comes in twenties, as steps do, is no slower for being between two of them.
        seconds = (self._news if now - self._news < _LONG else now) - self._start
        parts = [f"{self.what}: {self.done}{f'/{self.total}' if self.total else ''} {self.unit}"]
        new = self.done - self._first
        if new > 0 and seconds > 0:
            rate = new / seconds
            parts.append(f"{rate:.2f} {self.unit}/s" if rate >= 0.1 else f"{1 / rate:.0f} s each")
            if self.total > self.done:
                parts.append(f"{_clock((self.total - self.done) / rate)} left")
        parts.append(f"{_clock(now - self._begun)} so far")
        return ", ".join([*parts, *self._notes()])

    def _notes(self) -> list[str]:
        """The note, and for how long nothing was done, where that is long."""
        silent = time.monotonic() - self._news
        said = [self.note, f"nothing new for {_clock(silent)}" if silent >= _LONG else ""]
        return [text for text in said if text]

    def _tick(self) -> None:
        while not self._ended.wait(_EVERY):
            print(self.line(), flush=True)  # noqa: T201


def _clock(seconds: float) -> str:
    """Seconds as ``8 s`` or ``2:05 min``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02d} min"


def size_text(count: float) -> str:
    """A number of bytes as ``41.1 kB`` or ``2.5 GB``."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def show_table(rows: Sequence[Sequence[object]], title: str = "", header: Sequence[str] = ()) -> None:
    """Print rows on stdout in columns; the last column may be as long as it likes."""
    lines = [[str(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if title:
        print(title)  # noqa: T201
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())  # noqa: T201


def show_columns(columns: Mapping[str, Mapping[str, float]], title: str = "") -> None:
    """Print values by column and name, a line a name; where a column has no value, nothing.

    Names of columns are broken into several lines, so that six columns of figures fit 80 characters.
    """
    names = dict.fromkeys(name for values in columns.values() for name in values)
    rows = [(name, *(f"{values[name]:.4g}" if name in values else "" for values in columns.values())) for name in names]
    heads = [textwrap.wrap(name, _HEAD, break_long_words=False) for name in columns]
    above = max(map(len, heads), default=0)
    lines = zip(*([""] * (above - len(head)) + head for head in heads), strict=True)
    show_table([*(("", *line) for line in lines), *rows], title=title)
