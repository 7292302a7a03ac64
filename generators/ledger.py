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
from generators.journal import committed_shards, scenes_done
from generators.plan import CorpusPlan

Report = Callable[[int, int, str], None]

# Both cost more the more shards there are, so they are rationed by time: linear over a run of any length.
_TICK = 0.5  # seconds at least between two manifests, and between two reports
_DUTY = 20  # writing manifests takes at most a twentieth of the time, and so does looking at journals


class Ledger:
    """The records of the shards: keeps the manifest, and tells how far the run is."""

    def __init__(self, plan: CorpusPlan, folder: OpenFolder | OpenPrefix, report: Report | None) -> None:
        self._plan, self._folder, self._report = plan, folder, report
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._save_next = self._tell_next = 0.0
        self._unsaved: set[int] = set()  # shards that the manifest on disk does not name yet
        self.settled = sum(r.scenes + len(r.failures) for r in folder.records.values())

    def add(self, number: int, record: ShardRecord) -> None:
        """Take a committed shard into the manifest, on disk now or within a second."""
        with self._lock:
            self._folder.add(number, record)
            self.settled += record.scenes + len(record.failures)
            self._unsaved.add(number)
        self.save()
        self.tell()

    def save(self, force: bool = False) -> None:
        """Write the manifest where there is news and the last time is long enough ago."""
        with self._lock:
            begun = time.monotonic()
            if not self._unsaved or (not force and begun < self._save_next):
                return
            self._folder.save(self._folder.manifest(self._plan))
            self._unsaved.clear()
            self._save_next = _next_time(begun)

    def collect(self) -> None:
        """Take in the shards that were committed, but whose records were still on their way when the run broke off."""
        for number, record in committed_shards(_listed(self._folder.journals), self._folder.records).items():
            self.add(number, record)

    def tell(self, force: bool = False) -> None:
        """Report the scenes of committed shards and those of shards in work, where the last time is long enough ago.

        Journals of shards that the manifest on disk names are removed, so that there are few.
        """
        with self._telling:
            begun = time.monotonic()
            if not force and begun < self._tell_next:
                return
            journals = _listed(self._folder.journals)
            with self._lock:
                records, settled = len(self._folder.records), self.settled
                known = {p for p in journals if int(p.name) in self._folder.records}
                saved = {p for p in known if int(p.name) not in self._unsaved}
            done = settled + sum(scenes_done(p) for p in journals if p not in known)
            for path in saved:  # until then a resume after a kill knows a shard by its journal
                path.unlink(missing_ok=True)
            if self._report is not None:
                wanted, total = self._plan.num_scenes, len(self._plan.shards)
                self._report(min(done, wanted), wanted, f"{records}/{total} shards")
            self._tell_next = _next_time(begun)


def _next_time(begun: float) -> float:
    """When work that was begun then and has just ended may be done again."""
    now = time.monotonic()
    return now + max(_TICK, _DUTY * (now - begun))


def _listed(folder: Path) -> list[Path]:
    """The files in a folder; none once it is gone."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


@contextmanager
def open_ledger(plan: CorpusPlan, folder: OpenFolder | OpenPrefix, report: Report | None) -> Iterator[Ledger]:
    """A ledger with a thread that keeps telling and saving; saved once more at the end, with all that is committed."""
    ledger = Ledger(plan, folder, report)
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(_TICK):
            with suppress(InputError):  # a full disk is told by the next save in the main thread
                ledger.save()
            ledger.tell()

    ledger.tell(force=True)
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield ledger
        ledger.tell(force=True)
    except InputError:  # at fault is the request: what happens to be done is not what was asked for
        raise
    except BaseException:
        ledger.collect()
        raise
    finally:
        ended.set()
        thread.join()
        ledger.save(force=True)
