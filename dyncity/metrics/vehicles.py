"""Do vehicles look and move like vehicles: connected components of vehicle voxels, their size and their speed.

A component is a set of voxels of any four-wheeled class in one frame, joined by faces, edges or corners. Components
that touch the side of the window or unknown voxels are cut off, so nothing is said of them.

The size test, in metres: the smallest upright box around the voxels (over all headings, whole voxels counted)
is at most 13.5 x 4 x 4.8 and at least 3.2 x 1.2 x 1.2 m, and at least ``FILL`` of the ground under the box is
covered. It refuses specks, bars of merged cars, blobs and rags; docs/metrics.md gives the share of real components
that pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.metrics.components import columns_under, components, cut_off
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import taxonomy

# Four wheels and more, in any of the label spaces.
VEHICLES = frozenset(
    ("car", "truck", "bus", "trailer", "construction_vehicle", "other_vehicle", "other-vehicle", "vehicle")
)
LENGTH = (3.2, 13.5)
WIDTH = (1.2, 4.0)
HEIGHT = (1.2, 4.8)
FILL = 0.5
# Slower ones stand still as far as voxels can tell.
MOVING_SPEED = 1.5  # m/s
TOP_SPEED = 20.0  # m/s
# Of the way of the two frames before; who stops after one of two frames goes half as far.
GOES_ON = 0.4


@dataclass(frozen=True)
class Vehicle:
    """One connected component.

    Attributes:
        frame: its frame.
        center: ``[3]`` mean of its voxels' centres, in the world, metres.
        voxels: how many.
        size: length, width, height of the smallest upright box around its whole voxels, metres.
        fill: the share of the ground under that box that it covers.
    """

    frame: int
    center: NDArray[np.float64]
    voxels: int
    size: tuple[float, float, float]
    fill: float

    @property
    def fits(self) -> bool:
        """Whether the size is that of a vehicle."""
        limits = zip(self.size, (LENGTH, WIDTH, HEIGHT), strict=True)
        return self.fill >= FILL and all(low <= value <= high for value, (low, high) in limits)


def vehicle_ids(labels: str) -> list[int]:
    """Ids of the four-wheeled classes of a label space."""
    return [i for i, name in enumerate(taxonomy(labels).classes) if name in VEHICLES]


def vehicles_of(scene: OccupancyScene) -> list[Vehicle]:
    """The vehicles of all frames that are wholly within the known part of the window, in order of frames."""
    ids = vehicle_ids(scene.taxonomy)
    size = np.array(scene.grid.voxel_size)
    found = []
    for t, pose in enumerate(scene.grid_poses()):
        voxels = scene.semantics[t]
        cut = cut_off((voxels == UNKNOWN).any(axis=2))
        for part in components(np.isin(voxels, ids)):
            if cut[part[:, 0], part[:, 1]].any():
                continue
            local = scene.grid.origin + (part + 0.5) * size
            seen = scene.grid.origin[:2] + (columns_under(part) + 0.5) * size[:2]
            box, fill = footprint(seen, size)
            height = float(np.ptp(local[:, 2]) + size[2])
            center = pose[:3, :3] @ local.mean(axis=0) + pose[:3, 3]
            found.append(Vehicle(t, center, len(part), (*box, height), fill))
    return found


def share_that_fits(scenes: Iterable[OccupancyScene]) -> float:
    """Share of the vehicle components of all frames whose size fits a vehicle; NaN without any."""
    fits = [vehicle.fits for scene in scenes for vehicle in vehicles_of(scene)]
    return float(np.mean(fits)) if fits else float("nan")


def vehicle_tracks(scene: OccupancyScene) -> list[list[Vehicle]]:
    """Vehicles that fit, followed from frame to frame: each track one vehicle, in consecutive frames.

    A component goes on in the next frame where each is the other's nearest, no farther than 20 m/s allow, with
    at most twice and at least half the voxels.
    """
    by_frame: list[list[Vehicle]] = [[] for _ in range(scene.frames)]
    for vehicle in vehicles_of(scene):
        if vehicle.fits:
            by_frame[vehicle.frame].append(vehicle)
    seconds = scene.timestamps_us / 1e6
    open_tracks: list[list[Vehicle]] = []
    tracks: list[list[Vehicle]] = []
    for t, now in enumerate(by_frame):
        reach = TOP_SPEED * (seconds[t] - seconds[t - 1]) if t else 0.0
        follows = _mutual([track[-1] for track in open_tracks], now, reach)
        tracks += [track for k, track in enumerate(open_tracks) if k not in follows]
        begun = [[vehicle] for n, vehicle in enumerate(now) if n not in follows.values()]
        open_tracks = [[*open_tracks[k], now[n]] for k, n in follows.items()] + begun
    return tracks + open_tracks


def moving_speeds(scene: OccupancyScene) -> NDArray[np.float64]:
    """Speeds ``[m]`` in m/s of what moves: one a vehicle that was followed through three frames or more.

    The speed is that of the straight line fitted to the centres in the world; under 1.5 m/s counts as standing.
    """
    seconds = scene.timestamps_us / 1e6
    speeds = [_speed(track, seconds) for track in vehicle_tracks(scene) if len(track) >= 3]
    return np.array([v for v in speeds if v > MOVING_SPEED])


def movers_going_on(scene: OccupancyScene) -> NDArray[np.int64]:
    """For each step between frames k and k + 1, ``[t - 1, 2]``: vehicles that came moving to k, and those that go on.

    To come moving is to be followed from k - 2 at more than 1.5 m/s, and by more than the diagonal of a voxel: what
    stands seems to go as far in windows that are cut out of a grid fixed to the world. To go on is to be followed to
    k + 2, at least ``GOES_ON`` as far: the others stopped, vanished, or left what is seen. Nothing is known of the
    first two steps and the last one.
    """
    seconds, diagonal = scene.timestamps_us / 1e6, float(np.hypot(*scene.grid.voxel_size[:2]))
    counts = np.zeros((scene.frames - 1, 2), np.int64)
    for track in vehicle_tracks(scene):
        first, centers = track[0].frame, np.array([vehicle.center[:2] for vehicle in track])
        ways = np.linalg.norm(centers[2:] - centers[:-2], axis=1)  # of two frames each
        for k, way in enumerate(ways, start=first + 2):  # it came to frame k
            slowest = MOVING_SPEED * (seconds[k] - seconds[k - 2])
            if k + 2 < scene.frames and way > max(slowest, diagonal):
                after = k - first  # where its next two frames are in ``ways``, if it has them
                counts[k] += 1, after < len(ways) and ways[after] >= GOES_ON * way
    return counts


def mean_speed(scenes: Iterable[OccupancyScene]) -> float:
    """Mean speed of moving vehicles over all scenes, m/s; NaN without any."""
    speeds = [moving_speeds(scene) for scene in scenes]
    speed = np.concatenate(speeds) if speeds else np.zeros(0)
    return float(speed.mean()) if len(speed) else float("nan")


def footprint(centers: NDArray[np.float64], voxel: NDArray[np.float64]) -> tuple[tuple[float, float], float]:
    """Length and width of the smallest rectangle around whole columns, metres, and the share of it they cover.

    Args:
        centers: ``[n, 2]`` of the columns, metres.
        voxel: edges of a voxel, x first.
    """
    yaw = np.deg2rad(np.arange(0, 90, 5))[:, None]
    x, y = centers[:, 0], centers[:, 1]
    edge = float(voxel[0] + voxel[1]) / 2
    long = np.ptp(np.cos(yaw) * x + np.sin(yaw) * y, axis=1) + edge
    wide = np.ptp(np.cos(yaw) * y - np.sin(yaw) * x, axis=1) + edge
    best = int((long * wide).argmin())
    a, b = float(long[best]), float(wide[best])
    return (max(a, b), min(a, b)), len(centers) * float(voxel[0] * voxel[1]) / (a * b)


def _mutual(last: list[Vehicle], now: list[Vehicle], reach: float) -> dict[int, int]:
    """Which of ``now`` each of ``last`` goes on as: nearest both ways, within ``reach`` metres, alike in voxels."""
    if not last or not now:
        return {}
    gaps = np.linalg.norm(np.array([v.center for v in last])[:, None] - np.array([v.center for v in now]), axis=2)
    ratio = np.array([v.voxels for v in last])[:, None] / np.array([v.voxels for v in now])
    gaps[(gaps > reach) | (ratio > 2) | (ratio < 0.5)] = np.inf
    return mutually_nearest(gaps)


def mutually_nearest(gaps: NDArray[np.float64]) -> dict[int, int]:
    """Which column each row of ``gaps`` ``[k, n]``, at least one by one, goes with: nearest both ways, not infinite."""
    nearest, back = gaps.argmin(axis=1), gaps.argmin(axis=0)
    return {k: int(n) for k, n in enumerate(nearest) if back[n] == k and np.isfinite(gaps[k, n])}


def _speed(track: list[Vehicle], seconds: NDArray[np.float64]) -> float:
    time = seconds[[v.frame for v in track]]
    center = np.array([v.center[:2] for v in track])
    time = time - time.mean()
    return float(np.linalg.norm(time @ (center - center.mean(axis=0)) / (time @ time)))
