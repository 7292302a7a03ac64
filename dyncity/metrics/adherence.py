"""How well scenes obey what they were asked: command, trajectory, layout, and the seams between chunks.

Every scene is measured once, on its ego-centred frames, and rows are kept for what it carries conditions of;
``docs/metrics.md`` says what each row measures and what fools it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import ego_windows
from dyncity.conditions import LAYOUT_CLASSES, trajectory_from_poses
from dyncity.layout import MOVING
from dyncity.metrics.ego_path import ego_path
from dyncity.metrics.layout_adherence import LayoutCounts
from dyncity.metrics.registration import (
    TOP_SPEED,
    TOP_YAW_RATE,
    Floats,
    command_obeyed,
    estimated_trajectory,
    frame_motions,
    registration_agreement,
    step_agreements,
    trajectory_error,
)
from dyncity.metrics.vehicles import movers_going_on
from dyncity.scene import OccupancyScene

Rows = dict[str, float]


@dataclass(frozen=True, slots=True)
class Drive:
    """What registration says of one scene.

    Attributes:
        motions: ``[t - 1, 3]`` of each frame in the one before it.
        agreement: ``registration_agreement``.
        obeyed: whether the command is carried out; None where none is asked.
        error: rms distance to the asked trajectory, voxels; None where none is asked.
    """

    motions: Floats
    agreement: float
    obeyed: bool | None
    error: float | None


def drive(scene: OccupancyScene, commanded: int | None = None) -> Drive:
    """Register the frames of a scene once, and compare how it drives with what was asked.

    Args:
        scene: two or more ego-centred frames.
        commanded: the command holds for so many frames, from the first on; None: for all.
    """
    asked, motions = scene.conditions, frame_motions(scene)
    path = estimated_trajectory(scene, motions)
    return Drive(
        motions,
        registration_agreement(scene, motions),
        None if asked.command is None else command_obeyed(path[:commanded], asked.command),
        None if asked.trajectory is None else trajectory_error(path, asked.trajectory, scene.grid.voxel_size[0]),
    )


def drive_rows(drives: Iterable[Drive], paths: Iterable[tuple[float, float]]) -> Rows:
    """The rows of a set of scenes: what ``drive`` and ``ego_path`` say of each."""
    known, shares = list(drives), np.array(list(paths), np.float64).reshape(-1, 2)
    obeyed = [d.obeyed for d in known if d.obeyed is not None]
    errors = [d.error for d in known if d.error is not None]
    rows: Rows = {}
    if known:
        rows["registration agreement"] = float(np.mean([d.agreement for d in known]))
    if obeyed:
        rows["command accuracy, %"] = 100 * float(np.mean(obeyed))
    if errors:
        rows["trajectory error, voxels rms"] = float(np.sqrt(np.mean(np.square(errors))))
    if np.isfinite(shares[:, 0]).any():
        rows["ego path drivable, %"] = 100 * float(np.nanmean(shares[:, 0]))
    if len(shares):
        rows["frames clear of movers, %"] = 100 * float(shares[:, 1].mean())
    return rows


def chunk_frames(frames: int, chunks: int) -> int | None:
    """The length t of the clips of a scene of ``chunks`` chunks, each sharing t // 2 frames with the one before.

    None where no length gives so many frames.
    """
    lengths = (t for t in range(1, frames + 1) if t + (chunks - 1) * (t - t // 2) == frames)
    return next(lengths, None)


def seams(length: int, chunks: int) -> list[int]:
    """The frames of a scene after which a new chunk begins, for clips of ``length`` frames."""
    return [length - 1 + k * (length - length // 2) for k in range(chunks - 1)]


def seam_rows(agreements: Iterable[tuple[Floats, list[int]]]) -> Rows:
    """Agreement inside chunks and at their seams, from ``step_agreements`` and ``seams`` of each scene."""
    inside, at = [], []
    for steps, breaks in agreements:
        across = np.isin(np.arange(len(steps)), breaks)
        inside += steps[~across].tolist()
        at += steps[across].tolist()
    if not inside or not at:
        return {}
    rows = {"agreement inside chunks": float(np.mean(inside)), "agreement at seams": float(np.mean(at))}
    return rows | {"seam drop": rows["agreement inside chunks"] - rows["agreement at seams"]}


def mover_rows(going: Iterable[tuple[NDArray[np.int64], list[int]]]) -> Rows:
    """Shares of moving vehicles that go on in chunks and at seams, by ``movers_going_on`` and ``seams`` of scenes.

    A step is inside a chunk where no seam lies in the two frames before it or the two after: what is lost at a seam
    is lost to the steps beside it too.
    """
    inside, at = np.zeros(2), np.zeros(2)
    for counts, breaks in going:
        across = np.isin(np.arange(len(counts)), breaks)
        reached = np.isin(np.arange(len(counts)), [b + k for b in breaks for k in (-1, 0, 1, 2)])
        inside += counts[~reached].sum(axis=0)
        at += counts[across].sum(axis=0)
    rows = {"movers that go on inside chunks, %": inside, "movers that go on at seams, %": at}
    return {name: 100 * float(counts[1] / counts[0]) for name, counts in rows.items() if counts[0]}


def decoded_columns(scene: OccupancyScene) -> dict[str, int]:
    """What a scene's provenance says of the agents of its layout: columns asked for, and those held before any were
    drawn.
    """
    names = [f"{what}_{name}_columns" for name in LAYOUT_CLASSES[MOVING:] for what in ("asked", "decoded")]
    return {name: count for name in names if type(count := scene.provenance.get(name)) is int}


def decoded_shares(counts: Mapping[str, int]) -> Rows:
    """By class, which percentage of the asked columns held it as decoded, from sums of ``decoded_columns``."""
    return {
        name: 100 * counts.get(f"decoded_{name}_columns", 0) / asked
        for name in LAYOUT_CLASSES[MOVING:]
        if (asked := counts.get(f"asked_{name}_columns", 0))
    }


def poses_continuous(scene: OccupancyScene) -> bool:
    """Whether every step between two poses is one that a vehicle can make (``TOP_SPEED``, ``TOP_YAW_RATE``)."""
    steps = np.diff(trajectory_from_poses(scene.poses), axis=0) * scene.grid.frame_rate
    return bool((np.hypot(steps[:, 0], steps[:, 1]) <= TOP_SPEED).all() and (np.abs(steps[:, 2]) <= TOP_YAW_RATE).all())


class Adherence:
    """The measures of ``dyncity evaluate conditions``: scenes are added one by one, ``rows`` sums them up.

    Attributes:
        scenes: how many scenes carry conditions.
    """

    def __init__(self) -> None:
        self.scenes = 0
        self._drives: list[Drive] = []
        self._paths: list[tuple[float, float]] = []
        self._layouts = LayoutCounts()
        self._decoded: Counter[str] = Counter()
        self._steps: list[tuple[Floats, list[int]]] = []
        self._going: list[tuple[NDArray[np.int64], list[int]]] = []
        self._continuous: list[bool] = []

    def add(self, scene: OccupancyScene) -> None:
        """Measure a scene, ego-centred or fixed to the world; one without conditions adds nothing.

        Raises:
            InputError: nothing says where its layout lies.
        """
        asked, chunks = scene.conditions, scene.provenance.get("chunks")
        if asked.command is None and asked.trajectory is None and asked.layout is None:
            return
        self.scenes += 1
        if scene.anchor is not None:
            scene = ego_windows(scene, scene.grid)
        self._layouts.add(scene)
        self._decoded.update(decoded_columns(scene))
        if asked.command is not None or asked.trajectory is not None:
            self._paths.append(ego_path(scene))
        if scene.frames < 2:
            return
        length = chunk_frames(scene.frames, chunks) if isinstance(chunks, int) and chunks > 1 else None
        self._drives.append(drive(scene, length))  # the command is that of the first chunk
        if length is not None and isinstance(chunks, int):
            breaks = seams(length, chunks)
            self._steps.append((step_agreements(scene, self._drives[-1].motions), breaks))
            self._going.append((movers_going_on(scene), breaks))
            self._continuous.append(poses_continuous(scene))

    def rows(self) -> Rows:
        """Names and values; what no scene was asked for has no row."""
        rows: Rows = {"scenes with conditions": self.scenes} | drive_rows(self._drives, self._paths)
        rows |= {f"layout IoU, {name}, %": value for name, value in self._layouts.iou().items()}
        occupied = self._layouts.obeyed()
        rows |= {f"asked {n} columns occupied, %": occupied[n] for n in LAYOUT_CLASSES[MOVING:] if n in occupied}
        decoded = decoded_shares(self._decoded)
        rows |= {f"asked {name} columns occupied as decoded, %": share for name, share in decoded.items()}
        rows |= seam_rows(self._steps) | mover_rows(self._going)
        if self._continuous:
            rows["poses continuous, %"] = 100 * float(np.mean(self._continuous))
        return rows
