"""A lease: one run a corpus in object storage, where there is no lock that a killed process frees.

A run puts an object beside the corpus, and puts it anew every few seconds. A run that comes later watches the
objects of others: one that changes belongs to a run at work, one that does not for long enough to a dead one.
That needs nothing of the service but that what was put is listed.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import suppress
from types import TracebackType

from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.patience import at_once
from exporters.verification import LEASE

BEAT = 4.0  # seconds between two signs of life
LAPSE = 24.0  # seconds without one after which a run counts as dead


class Lease:
    """``with Lease(place):`` one writer a corpus. The lease of a killed run lapses.

    Attributes:
        path: the object that stands for this run.

    Raises:
        InputError: on entry, when another run is at work or the place cannot be written.
    """

    def __init__(self, place: ObjectPath) -> None:
        self._place = place
        self.path = place / f"{LEASE}{secrets.token_hex(8)}"
        self._beats = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Lease:
        self._beat()
        try:
            with at_once():  # by a clock that goes on while a storage is waited for, others would count as dead
                self._outlast()
        except BaseException:
            self.path.remove()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(InputError), at_once():  # it lapses
            self.path.remove()

    def check(self) -> None:
        """Raise InputError where another run has taken the place over, because this one seemed dead."""
        if not self.path.exists():
            raise InputError(self._place, "another run has taken it over", "wait for it, then go on with --resume")

    def _beat(self) -> None:
        self._beats += 1
        self.path.write(str(self._beats).encode())

    def _keep(self) -> None:
        """Show that this run is alive, until it ends or another one has taken over."""
        while not self._ended.wait(BEAT):
            with suppress(InputError), at_once():  # what keeps the storage from answering is told by the next commit
                if self.path.exists():
                    self._beat()

    def _outlast(self) -> None:
        """Wait until every other lease has changed, which is an error, or has lapsed, and is removed."""
        begun = time.monotonic()
        seen = self._others()
        while seen:
            if time.monotonic() - begun > LAPSE:
                for name in seen:
                    (self._place / name).remove()
            else:
                time.sleep(BEAT / 4)
                if self._beats * BEAT < time.monotonic() - begun:
                    self._beat()
            others = self._others()
            if any(seen.get(name) != beat for name, beat in others.items()):
                raise InputError(self._place, "another run is writing there", "wait for it, or choose another place")
            seen = others

    def _others(self) -> dict[str, bytes]:
        """The leases of other runs and what they hold."""
        found = {}
        for name in self._place.sizes(recursive=False):
            if name.startswith(LEASE) and name != self.path.name:
                with suppress(InputError):  # it ended in between
                    found[name] = (self._place / name).read(64)
        return found
