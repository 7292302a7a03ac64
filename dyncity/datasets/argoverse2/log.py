"""An Argoverse 2 log folder: its poses, cuboids, sweeps and times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.argoverse2.tables import RESTORE, read_table, stack, timestamps
from dyncity.errors import InputError

POSES = "city_SE3_egovehicle.feather"
ANNOTATIONS = ("annotations.feather", "annotations_with_ego.feather")
MOUNTS = Path("calibration") / "egovehicle_SE3_sensor.feather"
QUATERNION = ("qw", "qx", "qy", "qz")
TRANSLATION = ("tx_m", "ty_m", "tz_m")
SIZE = ("length_m", "width_m", "height_m")

ANNOTATED_HZ = 10.0
NANOSECONDS = 1_000_000_000
POSE_TOLERANCE_NS = 10_000_000
MAX_SPEED = 100.0  # m/s; a pose that jumps further is damaged
MAX_BOX = 100.0  # metres
MAX_DISTANCE = 1e7  # metres from the origin of the city
UP_LIDAR_FALLBACK = (1.35, 0.0, 1.64)  # where every log of the data set has it, to a centimetre


@dataclass(frozen=True, slots=True)
class Cuboids:
    """Annotated cuboids, one a row, in the ego frame at their time; the ego's own is left out.

    Attributes:
        time: int64 ``[n]`` ns.
        track: ``[n]`` track names. category: ``[n]`` category names.
        ego_from_box: float64 ``[n, 4, 4]``. size: float64 ``[n, 3]`` length, width, height, metres.
        points: int64 ``[n]`` LiDAR points inside.
    """

    time: NDArray[np.int64]
    track: NDArray[np.object_]
    category: NDArray[np.object_]
    ego_from_box: NDArray[np.float64]
    size: NDArray[np.float64]
    points: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sweep:
    """One LiDAR sweep.

    Attributes:
        time: ns, the time that the points are compensated to.
        points: float32 ``[n, 3]`` metres in the ego frame at ``time``.
        offset: float64 ``[n]`` seconds after ``time`` at which a point was measured (0 where unknown).
    """

    time: int
    points: NDArray[np.float32]
    offset: NDArray[np.float64]


def transforms(quaternion: NDArray[np.float64], translation: NDArray[np.float64], where: Path) -> NDArray[np.float64]:
    """``[n, 4]`` qw, qx, qy, qz and ``[n, 3]`` metres -> ``[n, 4, 4]``.

    Raises:
        InputError: a quaternion that is no rotation, a position out of this world.
    """
    norm = np.linalg.norm(quaternion, axis=1, keepdims=True)
    if (np.abs(norm - 1) > 1e-2).any():
        raise InputError(where, "a quaternion is not of length 1", RESTORE)
    if len(translation) and np.abs(translation).max() > MAX_DISTANCE:
        raise InputError(where, f"a position is {np.abs(translation).max():.3g} m away", RESTORE)
    w, x, y, z = (quaternion / norm).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), translation[:, 0]],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), translation[:, 1]],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), translation[:, 2]],
        [np.zeros_like(w), np.zeros_like(w), np.zeros_like(w), np.ones_like(w)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


@dataclass(frozen=True)
class Log:
    """A log folder; its tables are read on first use.

    Attributes:
        folder: where it lies; its name is the id of the log.
    """

    folder: Path

    @property
    def log_id(self) -> str:
        """The id of the log."""
        return self.folder.name

    @property
    def annotations_path(self) -> Path:
        """The table of cuboids, whichever of its two names it has.

        Raises:
            InputError: where there is none (the test split is published without).
        """
        for name in ANNOTATIONS:
            if (self.folder / name).is_file():
                return self.folder / name
        raise InputError(
            self.folder,
            f"has no {ANNOTATIONS[0]} (the test split is published without)",
            "give logs of the train or val split",
        )

    @cached_property
    def sweep_files(self) -> dict[int, Path]:
        """The LiDAR sweeps by their time in ns, in order of time; empty where there are none."""
        files = {}
        for path in sorted((self.folder / "sensors" / "lidar").glob("*.feather")):
            if not (path.stem.isascii() and path.stem.isdigit() and len(path.stem) <= 18):
                raise InputError(path, "the name is no time in nanoseconds", "name it <timestamp_ns>.feather")
            files[int(path.stem)] = path
        return dict(sorted(files.items()))

    def files(self) -> set[Path]:
        """All files that a scene is made of: poses, cuboids, the map, the LiDAR's mounts and sweeps."""
        others = (self.folder / MOUNTS, *(self.folder / "map").iterdir(), *self.sweep_files.values())
        return {self.folder / POSES, self.annotations_path, *(path for path in others if path.is_file())}

    @cached_property
    def cuboids(self) -> Cuboids:
        """All cuboids but the ego's."""
        path = self.annotations_path
        numbers = ("timestamp_ns", *SIZE, *QUATERNION, *TRANSLATION)
        table = read_table(path, numbers, ("track_uuid", "category"), ("num_interior_pts",))
        category = np.array(table["category"].to_pylist(), dtype=object)
        others = category != "EGO_VEHICLE"
        size = stack(table, SIZE)[others]
        if len(size) and (size.min() <= 0 or size.max() > MAX_BOX):
            raise InputError(path, f"a cuboid measures {size.min():.3g} to {size.max():.3g} m", RESTORE)
        known = "num_interior_pts" in table.schema.names
        points = stack(table, ("num_interior_pts",), np.int64)[:, 0] if known else np.ones(len(others), np.int64)
        return Cuboids(
            time=timestamps(table, path)[others],
            track=np.array(table["track_uuid"].to_pylist(), dtype=object)[others],
            category=category[others],
            ego_from_box=transforms(stack(table, QUATERNION)[others], stack(table, TRANSLATION)[others], path),
            size=size,
            points=points[others],
        )

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """The annotated times ``[k]`` ns, sorted.

        A sweep between them without a row of its own is a time at which nothing was there to annotate.
        """
        path = self.annotations_path
        times = np.unique(timestamps(read_table(path, ("timestamp_ns",)), path))
        if not len(times):
            raise InputError(path, "it has no rows", RESTORE)
        apart = 0.75 * NANOSECONDS / ANNOTATED_HZ
        quiet = [t for t in self.sweep_files if times[0] < t < times[-1] and np.abs(times - t).min() > apart]
        return np.union1d(times, np.array(quiet, np.int64))

    @cached_property
    def _poses(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        path = self.folder / POSES
        table = read_table(path, ("timestamp_ns", *QUATERNION, *TRANSLATION))
        times, first = np.unique(timestamps(table, path), return_index=True)
        if not len(times):
            raise InputError(path, "it has no rows", RESTORE)
        return times, transforms(stack(table, QUATERNION), stack(table, TRANSLATION), path)[first]

    def city_from_ego(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """The recorded poses nearest to ``times`` ``[k]`` ns, float64 ``[k, 4, 4]``.

        Raises:
            InputError: where the nearest is more than 10 ms away.
        """
        known, poses = self._poses
        after = np.clip(np.searchsorted(known, times), 0, len(known) - 1)
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(known[before] - times) < np.abs(known[after] - times), before, after)
        off = np.abs(known[nearest] - times)
        if len(times) and off.max() > POSE_TOLERANCE_NS:
            worst = int(off.argmax())
            raise InputError(
                self.folder / POSES,
                f"no pose within 10 ms of time {times[worst]} (the nearest is {off[worst] / 1e6:.0f} ms away)",
                RESTORE,
            )
        return poses[nearest]

    def frame_times(self, frame_rate: float) -> NDArray[np.int64]:
        """The annotated times ``[t]`` ns at ``frame_rate`` Hz: every n-th of the 10 Hz.

        Raises:
            InputError: a rate that 10 Hz is no multiple of, a hole in the annotations.
        """
        stride, times = frame_stride(frame_rate), self.times
        steps = np.diff(times) / NANOSECONDS
        wrong = np.flatnonzero(np.abs(steps * ANNOTATED_HZ - 1) > 0.5)
        if len(wrong):
            raise InputError(
                self.annotations_path,
                f"{steps[wrong[0]]:.2f} s from time {times[wrong[0]]} to the next, expected 0.1 s",
                "give a log annotated at 10 Hz without holes",
            )
        return times[::stride]

    def check_travel(self, times: NDArray[np.int64], poses: NDArray[np.float64]) -> None:
        """InputError where the ego jumps: faster than 100 m/s between two frames."""
        step = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        fast = np.flatnonzero(step > MAX_SPEED * np.diff(times) / NANOSECONDS)
        if len(fast):
            raise InputError(
                self.folder / POSES, f"the ego jumps {step[fast[0]]:.0f} m after time {times[fast[0]]}", RESTORE
            )

    def sweeps(self) -> Iterator[Sweep]:
        """The sweeps one after another, one in memory at a time."""
        for time, path in self.sweep_files.items():
            table = read_table(path, ("x", "y", "z"), optional=("offset_ns",))
            offset = np.zeros(table.num_rows)
            if "offset_ns" in table.schema.names:
                after = stack(table, ("offset_ns",))[:, 0] / NANOSECONDS
                # A sweep lasts 0.1 s; anything else is damage that must not throw a ray across town.
                offset = np.clip(after, 0.0, 0.2)
            yield Sweep(time, stack(table, ("x", "y", "z"), np.float32), offset)

    def lidar_mount(self) -> NDArray[np.float64]:
        """Position of the upper LiDAR in the ego frame, ``[3]`` metres.

        The lower one sits 11 cm below it. Logs without a calibration get the usual place.
        """
        path = self.folder / MOUNTS
        if not path.exists():
            return np.array(UP_LIDAR_FALLBACK)
        table = read_table(path, TRANSLATION, ("sensor_name",))
        names = table["sensor_name"].to_pylist()
        if "up_lidar" not in names:
            return np.array(UP_LIDAR_FALLBACK)
        return stack(table, TRANSLATION)[names.index("up_lidar")]


def frame_stride(frame_rate: float) -> int:
    """Every how many annotated times a frame is taken.

    Raises:
        InputError: a rate that 10 Hz is no multiple of.
    """
    stride = max(1, round(ANNOTATED_HZ / frame_rate))
    if abs(ANNOTATED_HZ / frame_rate - stride) > 1e-6:
        raise InputError(
            "grid.frame_rate",
            f"found {frame_rate:g} Hz, which does not divide the 10 Hz of Argoverse 2",
            "use 10, 5, 2.5, 2 or 1 Hz",
        )
    return stride


def find_logs(source: Path) -> list[Log]:
    """The logs under a folder, sorted by id.

    Args:
        source: one log folder, a folder of logs, or a folder of split folders (train, val, test).

    Raises:
        InputError: no such folder, no log in it, two logs of one id, a log without its files.
    """
    source = Path(source)
    if not source.is_dir():
        found = "it is no folder" if source.exists() else "there is no such folder"
        raise InputError(source, found, "give a folder of Argoverse 2 logs")
    logs = [Log(f) for f in ([source] if _is_log(source) else _folders(source)) if _is_log(f)]
    for split in _folders(source) if not _is_log(source) else []:
        if split.name in ("train", "val", "test", "sensor"):
            inner = [g for f in _folders(split) for g in ([f] if _is_log(f) else _folders(f))]
            logs += [Log(f) for f in inner if _is_log(f)]
    if not logs:
        raise InputError(
            source,
            "no Argoverse 2 log in it",
            f"give a folder of logs, each with {POSES}, {ANNOTATIONS[0]} and map/",
        )
    logs.sort(key=lambda log: log.log_id)
    for log, following in zip(logs, logs[1:], strict=False):
        if log.log_id == following.log_id:
            raise InputError(following.folder, f"there is also {log.folder}", "keep one of the two")
    for log in logs:
        if not (log.folder / POSES).is_file():
            raise InputError(log.folder, f"has no {POSES}", "give a complete Argoverse 2 log")
        if not (log.folder / "map").is_dir():
            raise InputError(log.folder, "has no folder map/", "give a complete Argoverse 2 log")
        _ = log.annotations_path
    return logs


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise InputError(folder, f"not readable ({error.strerror})", "check its permissions") from None


def _is_log(folder: Path) -> bool:
    """Whether a folder looks like a log: it has poses, or cuboids, or a map of a log."""
    names = (POSES, *ANNOTATIONS)
    return any((folder / name).is_file() for name in names) or (folder / "map").is_dir()
