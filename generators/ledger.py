"""Ledger: the records of a run's shards as they come, kept in the manifest, and how far the run is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dyncity.datasets.manifest import ShardRecord
from dyncity.errors import InputError
from generators.corpus_folder import OpenFolder
from generators.corpus_prefix import OpenPrefix
from generators.plan import CorpusPlan
from generators.shard_worker import scenes_done

Report = Callable[[int, int, str], None]

_TICK = 0.5  # seconds between looks at the journals, and at least between two manifests
_DUTY = 20  # looking and writing take at most a twentieth of the time


class Ledger:
    """The records of the shards: keeps the manifest, and tells how far the run is."""

    def __init__(self, plan: CorpusPlan, folder: OpenFolder | OpenPrefix, report: Report | None) -> None:
        self._plan, self._folder, self._report = plan, folder, report
        self._lock = threading.Lock()
        self._saved, self._save_every = 0.0, _TICK
        self._unsaved = False
        self.settled = sum(r.scenes + len(r.failures) for r in folder.records.values())

    def add(self, number: int, record: ShardRecord) -> None:
        """Take a committed shard into the manifest, on disk now or within a second."""
        with self._lock:
            self._folder.add(number, record)
            self.settled += record.scenes + len(record.failures)
            self._unsaved = True
        self.save()
        self.tell()

    def save(self, force: bool = False) -> None:
        """Write the manifest where there is news and the last time is long enough ago."""
        with self._lock:
            begun = time.monotonic()
            if not self._unsaved or (not force and begun - self._saved < self._save_every):
                return
            self._folder.save(self._folder.manifest(self._plan))
            self._unsaved, self._saved = False, time.monotonic()
            self._save_every = max(_TICK, _DUTY * (self._saved - begun))

    def tell(self) -> float:
        """Report the scenes of committed shards and those of shards in work; returns how long it took."""
        begun = time.monotonic()
        if self._report is not None:
            with self._lock:
                known = set(self._folder.records)
                settled = self.settled
            journals = [p for p in _listed(self._folder.journals) if int(p.name) not in known]
            done = settled + sum(map(scenes_done, journals))
            total = len(self._plan.shards)
            self._report(min(done, self._plan.num_scenes), self._plan.num_scenes, f"{len(known)}/{total} shards")
        return time.monotonic() - begun


def _listed(folder: Path) -> list[Path]:
    """The files in a folder; none once it is gone."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


@contextmanager
def open_ledger(plan: CorpusPlan, folder: OpenFolder | OpenPrefix, report: Report | None) -> Iterator[Ledger]:
    """A ledger with a thread that keeps telling and saving; saved once more at the end."""
    ledger = Ledger(plan, folder, report)
    ended = threading.Event()

    def tick() -> None:
        pause = _TICK
        while not ended.wait(pause):
            with suppress(InputError):  # a full disk is told by the next save in the main thread
                ledger.save()
            pause = max(_TICK, _DUTY * ledger.tell())

    ledger.tell()
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield ledger
    finally:
        ended.set()
        thread.join()
        ledger.save(force=True)
