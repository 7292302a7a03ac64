"""Writes small logs in the layout of Argoverse 2 whose geometry is known, for the tests of the import."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather

REAL_LOGS = Path(__file__).parents[2] / "shared" / "data" / "av2"
START_NS = 315_000_000_000_000_000
STEP_NS = 100_000_000
AXLE = 0.33
CITY = np.array([1000.0, 2000.0, 50.0])
CELL = 0.3
ROAD_HALF = 8.0


@dataclass
class Car:
    """A cuboid on the ground, in road coordinates: along the road, to its left, metres.

    ``frames`` are the 10 Hz frames in which it is annotated (None: all).
    """

    along: float
    left: float
    size: tuple[float, float, float] = (4.0, 2.0, 1.5)
    yaw: float = 0.0
    speed: float = 0.0
    category: str = "REGULAR_VEHICLE"
    name: str = "car-1"
    frames: range | None = None


@dataclass
class Drive:
    """The ego drives along a straight road 16 m wide, from 40 m behind its start to 100 m ahead.

    Attributes:
        frames: annotated at 10 Hz. speed: m/s. yaw: of the road in the city. slope: rise a metre.
        cars: what is annotated. sweeps: LiDAR sweeps, at the first annotated times.
        walls: distances left of the road's middle with a wall 3 m high, seen by the sweeps.
        specks: single points (along, left, up), one in the first sweep.
    """

    frames: int = 11
    speed: float = 4.0
    yaw: float = 0.0
    slope: float = 0.0
    cars: list[Car] = field(default_factory=list)
    sweeps: int = 0
    walls: tuple[float, ...] = ()
    specks: tuple[tuple[float, float, float], ...] = ()
    with_ego: bool = False
    name: str = "00000000-aaaa-3000-b000-000000000000"

    def times(self) -> np.ndarray:
        return START_NS + STEP_NS * np.arange(self.frames, dtype=np.int64)

    def city_from_road(self) -> np.ndarray:
        """4x4: x along the road (up its slope), y to the left, z off its surface."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        pitch = np.arctan(self.slope)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        nose_up = np.array([[np.cos(pitch), 0, -np.sin(pitch)], [0, 1, 0], [np.sin(pitch), 0, np.cos(pitch)]])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn @ nose_up, CITY
        return pose

    def road_from_ego(self, seconds: float) -> np.ndarray:
        pose = np.eye(4)
        pose[0, 3], pose[2, 3] = self.speed * seconds, AXLE
        return pose

    def write(self, source: Path) -> Path:
        """Write the log into ``source``; its folder."""
        folder = source / self.name
        (folder / "map").mkdir(parents=True)
        self._write_poses(folder)
        self._write_annotations(folder)
        self._write_map(folder)
        self._write_sweeps(folder)
        return folder

    def _write_poses(self, folder: Path) -> None:
        times = START_NS + STEP_NS // 10 * np.arange(10 * self.frames + 5, dtype=np.int64)
        poses = [self.city_from_road() @ self.road_from_ego((t - START_NS) / 1e9) for t in times]
        pitch, half = np.arctan(self.slope), self.yaw / 2
        # The product of a turn about z and one about -y.
        q = [
            np.cos(half) * np.cos(pitch / 2),
            np.sin(half) * np.sin(pitch / 2),
            -np.cos(half) * np.sin(pitch / 2),
            np.sin(half) * np.cos(pitch / 2),
        ]
        columns = {"timestamp_ns": times}
        columns |= {k: np.full(len(times), v) for k, v in zip(("qw", "qx", "qy", "qz"), q, strict=True)}
        columns |= {k: np.array([p[i, 3] for p in poses]) for i, k in enumerate(("tx_m", "ty_m", "tz_m"))}
        feather.write_feather(pa.table(columns), folder / "city_SE3_egovehicle.feather")

    def _write_annotations(self, folder: Path) -> None:
        with_ego = self.with_ego or not self.cars  # a table without rows tells no times
        rows = []
        for k, time in enumerate(self.times()):
            seconds = k * STEP_NS / 1e9
            if with_ego:
                rows.append((time, "ego", "EGO_VEHICLE", 4.877, 2.0, 1.473, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1))
            for car in self.cars:
                if car.frames is not None and k not in car.frames:
                    continue
                x = car.along + (car.speed - self.speed) * seconds
                z = car.size[2] / 2 - AXLE
                turn = (np.cos(car.yaw / 2), 0.0, 0.0, np.sin(car.yaw / 2))
                rows.append((time, car.name, car.category, *car.size, *turn, x, car.left, z, 50))
        schema = pa.schema(
            [("timestamp_ns", pa.int64()), ("track_uuid", pa.string()), ("category", pa.string())]
            + [(n, pa.float64()) for n in ("length_m", "width_m", "height_m", "qw", "qx", "qy", "qz")]
            + [(n, pa.float64()) for n in ("tx_m", "ty_m", "tz_m")]
            + [("num_interior_pts", pa.int64())]
        )
        columns = list(zip(*rows, strict=True)) or [()] * len(schema)
        table = pa.table([pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
        name = "annotations_with_ego.feather" if with_ego else "annotations.feather"
        feather.write_feather(table, folder / name)

    def _road_to_city(self, points: np.ndarray) -> np.ndarray:
        pose = self.city_from_road()
        return points @ pose[:3, :3].T + pose[:3, 3]

    def _line(self, *points: tuple[float, float]) -> list[dict[str, float]]:
        city = self._road_to_city(np.array([(x, y, 0.0) for x, y in points]))
        return [dict(zip("xyz", map(float, p), strict=True)) for p in city]

    def _write_map(self, folder: Path) -> None:
        start = CITY[:2] - 120.0
        side = 800
        x, y = np.meshgrid(*(start[:, None] + (np.arange(side) + 0.5) * CELL), indexing="xy")
        along = np.cos(self.yaw) * (x - CITY[0]) + np.sin(self.yaw) * (y - CITY[1])
        across = np.cos(self.yaw) * (y - CITY[1]) - np.sin(self.yaw) * (x - CITY[0])
        height = CITY[2] + self.slope * along
        height[np.abs(across) > ROAD_HALF + 8] = np.nan
        np.save(folder / "map" / f"{self.name}_ground_height_surface____PIT.npy", height.astype(np.float32))
        similarity = {"R": [1.0, 0.0, 0.0, 1.0], "t": list(-start), "s": 1 / CELL}
        (folder / "map" / f"{self.name}___img_Sim2_city.json").write_text(json.dumps(similarity))
        w = ROAD_HALF
        lane = {
            "id": 1,
            "is_intersection": False,
            "lane_type": "VEHICLE",
            "left_lane_boundary": self._line((-40, 0), (100, 0)),
            "left_lane_mark_type": "SOLID_YELLOW",
            "right_lane_boundary": self._line((-40, -4), (100, -4)),
            "right_lane_mark_type": "NONE",
        }
        walk = {"id": 2, "edge1": self._line((20, -w), (20, w)), "edge2": self._line((23.2, -w), (23.2, w))}
        area = {"id": 3, "area_boundary": self._line((-40, -w), (100, -w), (100, w), (-40, w))}
        vector = {
            "drivable_areas": {"3": area},
            "lane_segments": {"1": lane},
            "pedestrian_crossings": {"2": walk},
        }
        (folder / "map" / f"log_map_archive_{self.name}____PIT_city_1.json").write_text(json.dumps(vector))

    def _write_sweeps(self, folder: Path) -> None:
        lidar = folder / "sensors" / "lidar"
        if self.sweeps:
            lidar.mkdir(parents=True)
        for k in range(self.sweeps):
            seconds = k * STEP_NS / 1e9
            x, up = np.meshgrid(np.arange(-30, 60, 0.2), np.arange(0.05, 3.0, 0.2))
            parts = [np.stack([x, np.full_like(x, left), up], -1).reshape(-1, 3) for left in self.walls]
            gx, gy = np.meshgrid(np.arange(-20, 40, 0.5), np.arange(-ROAD_HALF, ROAD_HALF, 0.5))
            parts.append(np.stack([gx, gy, np.zeros_like(gx)], -1).reshape(-1, 3))
            for car in self.cars:
                if car.frames is None or k in car.frames:
                    a, h = np.meshgrid(np.linspace(-0.5, 0.5, 30), np.linspace(0.2, 1, 10))
                    side = np.stack([a * car.size[0], np.full_like(a, 0.5 * car.size[1]), h * car.size[2]], -1)
                    middle = (car.along + car.speed * seconds, car.left, 0.0)
                    parts.append(side.reshape(-1, 3) + middle)
            if k == 0:
                parts.append(np.array(self.specks).reshape(-1, 3))
            points = np.concatenate(parts) - self.road_from_ego(seconds)[:3, 3]
            columns = {name: points[:, i].astype(np.float16) for i, name in enumerate("xyz")}
            columns["intensity"] = np.zeros(len(points), np.uint8)
            columns["laser_number"] = np.zeros(len(points), np.uint8)
            columns["offset_ns"] = np.zeros(len(points), np.int32)
            feather.write_feather(pa.table(columns), lidar / f"{START_NS + k * STEP_NS}.feather")


def real_logs_reason() -> str | None:
    """Why tests of real logs must be skipped, or None."""
    return None if REAL_LOGS.is_dir() else f"no Argoverse 2 logs at {REAL_LOGS}"
