"""Fixtures that any test may use: ``make_scene``, random scenes; ``write_corpus``, a corpus; ``s3``, object
storage (``gcs``, ``storage``: either); ``small_models``, a small checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from object_store import GCSServer, S3Server, gcs_server, s3_server
from small_models import make_checkpoint, make_city

from dyncity.conditions import (
    Conditions,
    command_from_trajectory,
    poses_from_trajectory,
    trajectory_from_poses,
)
from dyncity.config_file import config_json
from dyncity.datasets.corpus import FailedScene, Manifest
from dyncity.grid import GridSpec
from dyncity.presets import tiny
from dyncity.scene import Boxes, OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.manifest import commit_shard, write_manifest
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter

# Machines that tests share are slow at times: no example fails for its time.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SMALL_GRID = GridSpec((8, 6, 4), (0.8, 0.8, 0.8), (-3.2, -2.4, -1.2), 5.0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How often ``reliability/test_random_kills.py`` kills; its seed, to repeat what failed."""
    parser.addoption("--random-kills", type=int, default=6, metavar="N", help="runs that are killed at random times")
    parser.addoption("--random-kills-seed", type=int, metavar="SEED", help="the times of a run that failed")


def random_boxes(rng: np.random.Generator, frames: int, classes: int, count: int) -> Boxes:
    """``count`` boxes in random frames, in order of frames."""
    return Boxes(
        frame=np.sort(rng.integers(0, frames, count)).astype(np.int32),
        track=rng.integers(1, 60, count).astype(np.int32),
        label=rng.integers(0, classes, count).astype(np.uint8),
        center=rng.normal(0, 10, (count, 3)).astype(np.float32),
        size=rng.uniform(0.5, 5, (count, 3)).astype(np.float32),
        yaw=rng.uniform(-3, 3, count).astype(np.float32),
    )


def random_scene(
    seed: int = 0,
    frames: int = 4,
    grid: GridSpec = SMALL_GRID,
    labels: str = "native",
    columns: tuple[str, ...] = (),
    **changes: Any,
) -> OccupancyScene:
    """A scene of random voxels (a few unknown) along a curved path; the same seed, the same scene.

    Args:
        seed: decides all values and, unless ``scene_id`` is given, the name.
        frames, grid, labels: of the scene.
        columns: which of mask_lidar, mask_camera, instances, boxes it has.
        changes: fields of OccupancyScene to replace.
    """
    rng = np.random.default_rng(seed)
    shape = (frames, *grid.shape)
    classes = len(taxonomy(labels))
    semantics = rng.integers(0, classes, shape, dtype=np.uint8)
    semantics[rng.random(shape) < 0.1] = 255
    steps = np.arange(frames)[:, None] * np.array([[1.3, 0.1, 0.05]]) * rng.uniform(0, 1)
    poses = poses_from_trajectory(steps)
    trajectory = trajectory_from_poses(poses)
    fields: dict[str, Any] = {
        "scene_id": f"scene-{seed:06d}",
        "semantics": semantics,
        "poses": poses,
        "grid": grid,
        "taxonomy": labels,
        "timestamps_us": np.arange(frames, dtype=np.int64) * round(1e6 / grid.frame_rate),
        "conditions": Conditions(command_from_trajectory(trajectory), trajectory),
        "provenance": {"generator": "random", "seed": seed},
    }
    if "mask_lidar" in columns:
        fields["mask_lidar"] = rng.integers(0, 2, shape, dtype=np.uint8)
    if "mask_camera" in columns:
        fields["mask_camera"] = rng.integers(0, 2, shape, dtype=np.uint8)
    if "instances" in columns:
        fields["instances"] = rng.integers(0, 60_000, shape, dtype=np.uint16)
    if "boxes" in columns:
        fields["boxes"] = random_boxes(rng, frames, classes, int(rng.integers(0, 12)))
    return OccupancyScene(**(fields | changes))


@pytest.fixture
def make_scene() -> Callable[..., OccupancyScene]:
    """``make_scene(seed, frames=4, grid=..., labels="native", columns=(), **fields)``."""
    return random_scene


def written_corpus(
    folder: Path,
    scenes: list[OccupancyScene],
    container: str = "parquet",
    per_shard: int = 2,
    failures: tuple[FailedScene, ...] = (),
    **exporter: Any,
) -> Path:
    """A complete corpus of the scenes: shards of ``per_shard``, the failures at the end of the last one."""
    build = {"parquet": ParquetExporter, "numpy": NumpyExporter}[container]
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    starts = range(0, max(len(scenes), 1), per_shard)
    for number, first in enumerate(starts):
        failed = failures if first == starts[-1] else ()
        part = scenes[first : first + per_shard]
        records.append(commit_shard(folder, number, part, failed, build(**exporter), first))
    (folder / "README.md").write_text("# A corpus\n")
    (folder / "config.json").write_text(config_json(tiny()))
    plan = {"num_scenes": len(scenes) + len(failures)}
    write_manifest(folder, Manifest(plan, "0" * 64, tuple(records)))
    return folder


@pytest.fixture
def write_corpus() -> Callable[..., Path]:
    """``write_corpus(folder, scenes, container="parquet", per_shard=2, failures=(), columns=(), labels=...)``."""
    return written_corpus


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: ``city`` and ``ego``, corpora of either frame; ``vae`` and ``dit``, trained on the first of them."""
    folder = tmp_path_factory.mktemp("small-models")
    make_checkpoint(folder, make_city(folder / "city"), steps=2)
    make_city(folder / "ego", scenes=3, frame="ego")
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 service, started when the first test asks for it."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GCSServer]:
    """A GCS service for the whole session; each test makes a bucket of its own."""
    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session", params=["s3", "gcs"])
def storage(request: pytest.FixtureRequest) -> S3Server | GCSServer:
    """Either service."""
    server: S3Server | GCSServer = request.getfixturevalue(request.param)
    return server
