"""RecordedLogs: driving logs as a source of scenes, one scene a log or one a piece of it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from dyncity.config import Config
from dyncity.datasets.argoverse2.log import Log, find_logs, frame_stride
from dyncity.datasets.argoverse2.voxelise import RecordedWorld, check_log, read_world, scene
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene, SceneSpec
from generators.base import check_index
from generators.recorded_content import content_digest

IMPORTER_VERSION = 1  # raise it whenever the same log becomes other bytes


class RecordedLogs:
    """A SceneGenerator whose scenes are Argoverse 2 logs, in the native taxonomy.

    Attributes:
        name: "argoverse2".
        config: ``config.grid`` is the grid and the frame rate of the scenes.
        micro_batch: specs a call.
        scenes: how many scenes the source holds; ``SceneSpec.index`` counts through them.
        columns: the optional columns that a corpus gets where none are asked for.
    """

    name = "argoverse2"
    columns: tuple[str, ...] = ()

    def __init__(
        self,
        source: Path,
        config: Config,
        frames: int | None = None,
        micro_batch: int = 1,
        content: str | None = None,
    ) -> None:
        """Find the logs; nothing but annotated times is read, and those only when logs are cut.

        Args:
            source: a log, a folder of logs, or a folder of the splits train, val, test.
            config: whose grid the scenes get.
            frames: cut each log into pieces of so many frames (the last may be shorter); None: whole.
            micro_batch: specs a call of ``generate``.
            content: ``self.content``, where another process has found it; None: all files are read for it.

        Raises:
            InputError: no logs there, incomplete logs, a rate that 10 Hz is no multiple of.
        """
        if frames is not None and frames < 1:
            raise InputError("--frames", f"found {frames}", "give a whole number above 0")
        self.config = config
        self.micro_batch = micro_batch
        self._frames, self._content = frames, content
        frame_stride(config.grid.frame_rate)
        self._logs = find_logs(source)
        self._pieces = [piece for log in self._logs for piece in self._cut(log)]
        self.scenes = len(self._pieces)
        self._world: RecordedWorld | None = None

    def _cut(self, log: Log) -> list[tuple[Log, int, str]]:
        """(log, first frame, scene id) of every scene of a log."""
        name = re.sub(r"[^A-Za-z0-9_-]", "-", log.log_id)
        if self._frames is None:
            return [(log, 0, name)]
        count = len(Log(log.folder).frame_times(self.config.grid.frame_rate))
        starts = range(0, count, self._frames)
        return [(log, start, f"{name}-{part:03d}") for part, start in enumerate(starts)]

    @property
    def content(self) -> str:
        """A digest of all that the scenes are made of."""
        if self._content is None:
            each = (f"{log.log_id}/{content_digest(log.files(), log.folder)}\n" for log in self._logs)
            self._content = hashlib.sha256("".join(each).encode()).hexdigest()
        return self._content

    def fingerprint(self) -> dict[str, str | int | float]:
        """The importer's version, what the logs hold and how they are cut."""
        return {
            "importer": IMPORTER_VERSION,
            "logs": self.content,
            "frames": self._frames or 0,
        }

    def check(self) -> None:
        """Read the poses, cuboids and maps of all logs, to fail before anything is written.

        Raises:
            InputError: the first damaged file.
        """
        for log in self._logs:
            check_log(Log(log.folder), self.config.grid)

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """The scenes numbered ``spec.index``; seeds and conditions change nothing about a recording.

        Raises:
            InputError: an index that no scene has, a damaged log.
        """
        return [self._scene(spec.index) for spec in specs]

    def _scene(self, index: int) -> OccupancyScene:
        check_index(index, self.scenes)
        log, first, scene_id = self._pieces[index]
        if self._world is None or self._world.log.folder != log.folder:
            # A Log keeps what it read: a fresh one here, so that only one log is in memory.
            self._world = read_world(Log(log.folder), self.config.grid)
        return scene(self._world, scene_id, first, self._frames)
