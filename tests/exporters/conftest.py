"""Small corpora to export."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dyncity.datasets.manifest import Manifest, ShardRecord, manifest_json
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.parquet import ParquetExporter

GRID = GridSpec((16, 16, 6), (0.8, 0.8, 0.8), (-6.4, -6.4, -1.2), 5.0)


@pytest.fixture
def make_corpus(tmp_path, make_scene: Callable[..., OccupancyScene]) -> Callable[..., Path]:
    """``make_corpus(scenes, labels="native", requested=None)``: one Parquet shard and its manifest."""

    def build(scenes: int, labels: str = "native", requested: int | None = None) -> Path:
        folder = tmp_path / f"corpus-{scenes}-{labels}"
        (folder / "shards").mkdir(parents=True)
        made = [make_scene(seed, frames=1 + seed % 2, grid=GRID, labels=labels) for seed in range(scenes)]
        records = []
        if made:
            path = folder / "shards/00000.parquet"
            ParquetExporter().write(made, path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            frames = sum(scene.frames for scene in made)
            records.append(ShardRecord(path.name, path.stat().st_size, digest, 0, scenes, frames))
        count = scenes if requested is None else requested
        manifest = Manifest({"num_scenes": count}, "test", tuple(records))
        (folder / "manifest.json").write_text("".join(manifest_json(manifest)))
        return folder

    return build
