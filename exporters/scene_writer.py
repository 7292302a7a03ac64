"""The scenes of a tree written one by one, in this process or in several: the same files either way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from dyncity.datasets.corpus import Corpus
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from exporters.losses import voxels_covered
from exporters.native_tree import NativeTree
from exporters.partial_tree import PartialTree
from exporters.tracks_from_voxels import with_tracks

# Scenes that wait in a queue for each worker, so that none of them idles.
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class SceneWriter:
    """Writes scenes of a corpus into a tree that grows. It can be pickled.

    Attributes:
        corpus: where scenes come from; each process opens its files by itself.
        tree: what writes them.
        partial: where they go.
        covers: the grid of the tree in the ego frame, if it has one.
    """

    corpus: Corpus
    tree: NativeTree
    partial: PartialTree
    covers: GridSpec | None

    def write(self, number: int, scene_id: str) -> int:
        """Write one scene in a folder of its own, move its files to their places, note that; its number."""
        scene = with_tracks(self.corpus.scene(scene_id))
        scratch = self.partial.scratch(str(number))
        record = self.tree.write(scratch, number, scene)
        files = self.partial.move_in(scratch)
        entry = {"scene_id": scene_id, "folder": record["folder"], "frames": scene.frames, "files": files}
        voxels = voxels_covered(scene, self.covers) if self.covers else {}
        self.partial.note(number, {**entry, "record": record, "voxels": voxels})
        return number


def write_scenes(writer: SceneWriter, scenes: Sequence[tuple[int, str]], workers: int) -> Generator[int, None, None]:
    """Write scenes, given as number and name; yields the number of each when it is finished, in any order.

    Args:
        workers: processes that write, each a scene at a time; 0 or 1: this process.

    Raises:
        InputError, OSError: what went wrong in a scene, first of all of them; the others stop at once.
    """
    if min(workers, len(scenes)) <= 1:
        for number, scene_id in scenes:
            yield writer.write(number, scene_id)
        return
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(min(workers, len(scenes)), context, _begin, (writer, theirs))
    pending: set[Future[int]] = set()
    try:
        for scene in scenes:
            while len(pending) >= _AHEAD * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            with _interrupts_held():
                pending.add(pool.submit(_write, *scene))
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise InputError(
            "--workers", "a worker was killed, perhaps for want of memory", "go on with --resume and fewer workers"
        ) from None
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)


_writer: SceneWriter  # of a worker process


def _begin(writer: SceneWriter, parent: Connection) -> None:
    """Set up a worker process. It ends as soon as the other end of ``parent`` is closed, by hand or by a kill."""
    global _writer
    _writer = writer

    def end_with_parent() -> None:
        parent.poll(None)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _write(number: int, scene_id: str) -> int:
    return _writer.write(number, scene_id)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that are started in this block never see Ctrl-C, which is the parent's to answer."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
