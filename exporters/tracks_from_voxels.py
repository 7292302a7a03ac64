"""Who is who where nobody wrote it down: instances and boxes of a scene, estimated from its voxels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.metrics.components import cut_off
from dyncity.metrics.vehicles import vehicle_ids
from dyncity.movers import people_ids
from dyncity.scene import UNKNOWN, Boxes, OccupancyScene
from dyncity.taxonomy import taxonomy
from dyncity.tracks import Piece, Track, tracks
from exporters.boxes_from_instances import least_box

ESTIMATED = "estimated from connected voxels"  # in the provenance, as ``tracks``
_MOST = 65535  # numbers that instances can hold
_STAYS = 0.5  # of its voxels
_BESIDE = 2  # frames before and after that tell where somebody heads


def with_tracks(scene: OccupancyScene) -> OccupancyScene:
    """A scene with instances and boxes: its own, or where it has neither those of its connected voxels.

    Voxels of vehicles, of people and of what else moves that are joined by faces, edges or corners are one agent, which
    is followed from frame to frame in the world (``dyncity.tracks``). Agents that touch are one; one in pieces is
    several. Who does not get a voxel's edge away while it is wholly seen stands: one box for all of its frames. Who
    moves heads where it goes. ``provenance["tracks"]`` says that all this is estimated.
    """
    space = taxonomy(scene.taxonomy)
    if scene.instances is not None or scene.boxes is not None or not space.movers:
        return scene
    wheels, people = vehicle_ids(scene.taxonomy), people_ids(scene.taxonomy)
    others = [i for i in space.movers if i not in wheels and i not in people]
    poses, cut = scene.grid_poses(), [cut_off(columns) for columns in (scene.semantics == UNKNOWN).any(axis=3)]
    found = [t for ids in (wheels, others, people) for t in tracks(np.isin(scene.semantics, ids), scene.grid, poses)]
    instances, rows = np.zeros(scene.semantics.shape, np.uint16), []
    for number, track in enumerate(found[:_MOST], start=1):
        ids = np.concatenate([scene.semantics[t][tuple(piece.voxels.T)] for t, piece in track.items()])
        for t, piece in track.items():
            instances[t][tuple(piece.voxels.T)] = number
        whole = [t for t, piece in track.items() if not cut[t][tuple(piece.voxels[:, :2].T)].any()]
        if len(whole) < 2 and _left(track, number, instances, scene, poses):
            whole = list(track)  # all that is known of where it is
        boxes = _boxes(track, whole, scene.grid, poses)
        rows += [(t, number, int(np.bincount(ids).argmax()), *box) for t, box in boxes.items()]
    provenance = {**scene.provenance, "tracks": ESTIMATED}
    return replace(scene, instances=instances, boxes=_table(rows), provenance=provenance)


def with_columns(scene: OccupancyScene, columns: Collection[str]) -> OccupancyScene:
    """A scene as it is, or ``with_tracks`` where ``columns`` ask for instances or boxes."""
    return with_tracks(scene) if {"instances", "boxes"} & set(columns) else scene


def _table(rows: list[tuple[int, int, int, NDArray[np.float64], NDArray[np.float64], float]]) -> Boxes:
    """Rows of frame, track, label, centre, size, heading, in order of frames and tracks."""
    rows = sorted(rows, key=lambda row: row[:2])
    return Boxes(
        frame=np.array([row[0] for row in rows], np.int32),
        track=np.array([row[1] for row in rows], np.int32),
        label=np.array([row[2] for row in rows], np.uint8),
        center=np.array([row[3] for row in rows], np.float32).reshape(-1, 3),
        size=np.array([row[4] for row in rows], np.float32).reshape(-1, 3),
        yaw=np.array([row[5] for row in rows], np.float32),
    )


def _left(
    track: Track, number: int, instances: NDArray[np.uint16], scene: OccupancyScene, poses: NDArray[np.float64]
) -> bool:
    """Whether less than half of what an agent covers in its first frame, or in its last, is its in both.

    Asked of what both frames see: what is cut off at the side does not look as if it moved.

    Args:
        number: its own in ``instances`` ``[t, x, y, z]``.
    """
    ends = min(track), max(track)
    for here, there in (ends, ends[::-1]):
        local = (_points(track[here], scene.grid, poses[here]) - poses[there][:3, 3]) @ poses[there][:3, :3]
        index, inside = scene.grid.index(local)
        at = tuple(index[inside].T)
        seen = scene.semantics[there][at] != UNKNOWN
        if seen.any() and (instances[there][at] == number)[seen].mean() < _STAYS:
            return True
    return False


Box = tuple[NDArray[np.float64], NDArray[np.float64], float]


def _boxes(track: Track, whole: list[int], grid: GridSpec, poses: NDArray[np.float64]) -> dict[int, Box]:
    """Centre, size (length, width, height) and heading in the world of one agent, by frame.

    Args:
        whole: frames in which nothing of it is cut off; without any, it stands, as large as it is seen.
    """
    telling = whole or [max(track, key=lambda t: len(track[t].voxels))]
    middles = np.array([track[t].middle for t in telling])
    way = _speed(np.array(telling), middles) * np.ptp(telling)
    points = {t: _points(piece, grid, poses[t]) for t, piece in track.items()}
    half = np.asarray(grid.voxel_size) / 2
    height = float(np.median([np.ptp(points[t][:, 2]) for t in telling]) + 2 * half[2])
    levels = {t: points[t][:, 2].min() - half[2] + height / 2 for t in track}
    if np.linalg.norm(way) <= max(grid.voxel_size[:2]):
        turn = np.arctan2(poses[0][1, 0], poses[0][0, 0])
        found = [least_box(points[t] @ _upright(turn), half) for t in telling]
        largest = max(found, key=lambda box: box[1][0] * box[1][1])
        center = np.array([*middles.mean(axis=0), np.median([levels[t] for t in telling])])
        size = np.array([*(np.median([box[1][:2] for box in found], axis=0) - half[:2]), height])
        return dict.fromkeys(track, (center, size, largest[2] + turn))
    headings = {t: _heading(t, np.array(telling), middles, way) for t in track}
    extents = [np.ptp(points[t] @ _upright(headings[t]), axis=0)[:2] for t in telling]
    size = np.array([*(np.median(extents, axis=0) + half[:2]), height])  # the voxels at its ends are half full
    places = {t: np.array([*_place(t, np.array(telling), middles), levels[t]]) for t in track}
    return {t: (places[t], size, headings[t]) for t in track}


def _points(piece: Piece, grid: GridSpec, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[n, 3]`` centres of the voxels in the world, metres."""
    return np.asarray((grid.origin + (piece.voxels + 0.5) * grid.voxel_size) @ pose[:3, :3].T + pose[:3, 3])


def _upright(yaw: float) -> NDArray[np.float64]:
    """``[3, 3]``: points times this are in axes turned by ``yaw``."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _speed(frames: NDArray[np.int64], middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[2]`` metres a frame: the straight line through ``middles`` ``[n, 2]``."""
    steps = frames - frames.mean()
    return np.asarray(steps @ (middles - middles.mean(axis=0)) / max(float(steps @ steps), 1e-9))


def _heading(t: int, frames: NDArray[np.int64], middles: NDArray[np.float64], way: NDArray[np.float64]) -> float:
    """Radians: where it goes in the frames around ``t``, or in all of them where it hardly moves in those."""
    near = np.abs(frames - frames[np.abs(frames - t).argmin()]) <= _BESIDE
    local = _speed(frames[near], middles[near]) * np.ptp(frames[near])
    to = local if np.linalg.norm(local) > np.linalg.norm(way) / len(frames) else way
    return float(np.arctan2(to[1], to[0]))


def _place(t: int, frames: NDArray[np.int64], middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[2]`` metres: the middle in frame ``t``; where it is cut off then, on the line through the nearest frames."""
    if t in frames:
        return np.asarray(middles[frames == t][0])
    near = np.argsort(np.abs(frames - t), kind="stable")[: _BESIDE + 1]
    return np.asarray(middles[near].mean(axis=0) + _speed(frames[near], middles[near]) * (t - frames[near].mean()))
