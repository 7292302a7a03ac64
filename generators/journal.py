"""The journal of a shard: how far a worker is with it, and what it died of, in a file that outlives its process.

A worker that dies is started anew by Ray and begins its shard again, for ever. The journal remembers, so that a
scene that kills its worker ends as a recorded failure.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from dyncity.config_file import to_dict
from dyncity.datasets.manifest import ShardRecord, record_from_json
from dyncity.errors import InputError

_COMMITTED = "* "


class Journal:
    """A line before and after every piece of work of one shard, in a file that outlives the process.

    Args:
        path: the file; its folder belongs to one run, and once that is gone (its driver was killed and
            another one took over) opening it fails, which ends the orphan.
        watched: a context in which each piece of work is done.

    Raises:
        InputError: it cannot be read or written, then or by any method: no scene is at fault.
    """

    def __init__(self, path: Path, watched: Callable[[str], AbstractContextManager[Any]] = nullcontext) -> None:
        self._watched, self._path = watched, path
        try:
            lines = path.read_text().splitlines() if path.exists() else []
            self._file = path.open("ab", buffering=0)  # what a full disk did not take would come again at the end
        except OSError as error:
            raise self._refused(error) from error
        begun = Counter(line[2:] for line in lines if line.startswith("+ "))
        ended = Counter(line[2:].rpartition(" ")[0] for line in lines if line.startswith("- "))
        self._deaths = begun - ended
        self.done = 0  # scenes of this attempt

    def deaths(self, work: str) -> int:
        """How often a process died in this piece of work."""
        return self._deaths[work]

    @contextmanager
    def entry(self, work: str) -> Iterator[None]:
        """Note the begin and the end of a piece of work.

        Work that loses the device has no end: the process is of no use any more, as if it had died.
        """
        self._write(f"+ {work}\n")
        try:
            with self._watched(work):
                yield
        except BaseException as error:
            if not is_device_lost(error):
                self._write(f"- {work} {self.done}\n")
            raise
        self._write(f"- {work} {self.done}\n")

    def settle(self, scenes: int) -> None:
        """Note scenes as settled: made, or given up."""
        self.done += scenes
        self._write(f"= {self.done}\n")

    def commit(self, record: ShardRecord) -> None:
        """Note that the shard lies under its name, for a run after this one."""
        self._write(f"{_COMMITTED}{json.dumps(to_dict(record))}\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: str) -> None:
        """Write a line at once."""
        try:
            self._file.write(line.encode())
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> InputError:
        found = f"cannot be written ({error.strerror or error})"
        return InputError(self._path, found, "make room, or see that the folder stays, then go on with --resume")


def is_device_lost(error: BaseException) -> bool:
    """Whether an error leaves the accelerator unusable for this process (torch.AcceleratorError).

    Running out of its memory is not such an error. By name: torch is not imported here.
    """
    return any(kind.__name__ == "AcceleratorError" for kind in type(error).__mro__)


def scenes_done(path: Path) -> int:
    """Scenes that the current attempt at a shard has settled, by its journal; 0 where there is none."""
    try:
        with path.open("rb") as file:
            begin = max(0, os.fstat(file.fileno()).st_size - 128)
            file.seek(begin)
            lines = file.read().decode().split("\n")[begin > 0 : -1]  # the first one may be cut
    except OSError:
        return 0
    ends = [line for line in lines if line.startswith(("- ", "= "))]
    return int(ends[-1].rpartition(" ")[2]) if ends else 0


def committed(path: Path) -> ShardRecord | None:
    """The record of the shard that a journal says was committed; None where it does not, or not in full."""
    try:
        lines = path.read_text().split("\n")[:-1]
        notes = [line.removeprefix(_COMMITTED) for line in lines if line.startswith(_COMMITTED)]
        return record_from_json(json.loads(notes[-1]), str(path)) if notes else None
    except (OSError, ValueError, RecursionError):  # InputError is a ValueError
        return None


def committed_shards(journals: Iterable[Path], known: Container[int]) -> dict[int, ShardRecord]:
    """By number, the shards that journals say were committed, besides the ``known`` ones."""
    unknown = [path for path in journals if path.name.isdecimal() and int(path.name) not in known and path.is_file()]
    return {int(path.name): record for path in unknown if (record := committed(path)) is not None}
