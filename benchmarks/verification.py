"""What ``dyncity verify`` costs: MB of shards a second, digests alone and with scenes, by 1 thread and one a core."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from dyncity.config_file import config_json
from dyncity.datasets.manifest import Manifest
from dyncity.presets import tiny
from dyncity.scene import OccupancyScene
from exporters.manifest import commit_shard, write_manifest
from exporters.parquet import ParquetExporter
from exporters.verification import verify_corpus

SCENES = 16  # of a shard


def write(folder: Path, shards: int, noise: float) -> int:
    """A corpus of so many shards of 8 x 64 x 64 x 8 voxels a scene; its bytes."""
    config, rng = tiny(), np.random.default_rng(0)
    shape = (config.clip.frames, *config.grid.shape)
    records = []
    for number in range(shards):
        scenes = []
        for index in range(number * SCENES, (number + 1) * SCENES):
            ids = np.zeros(shape, np.uint8)
            drawn = rng.random(shape) < noise
            ids[drawn] = rng.integers(0, 29, drawn.sum())
            times = np.arange(len(ids), dtype=np.int64)
            poses = np.repeat(np.eye(4)[None], len(ids), 0)
            scenes.append(OccupancyScene(f"scene-{index:06d}", ids, poses, config.grid, "native", times))
        records.append(commit_shard(folder, number, scenes, (), ParquetExporter(), number * SCENES))
    (folder / "README.md").write_text("# A corpus\n")
    (folder / "config.json").write_text(config_json(config))
    write_manifest(folder, Manifest({"num_scenes": shards * SCENES}, "0" * 64, tuple(records)))
    return sum(record.bytes for record in records)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--noise", type=float, default=0.3, help="share of voxels that are drawn; the rest is free")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        size = write(Path(place), options.shards, options.noise) / 1e6
        print(f"{options.shards} shards, {size:.0f} MB; {os.cpu_count()} cores")
        print("| what | threads | MB/s | MB a CPU second |\n|---|---|---|---|")
        for decode in (False, True):
            for threads in dict.fromkeys((1, os.cpu_count() or 1)):
                best = [float("inf"), float("inf")]
                for _ in range(options.rounds):
                    begun = time.perf_counter(), time.process_time()
                    assert verify_corpus(Path(place), decode=decode, threads=threads) == []
                    took = time.perf_counter() - begun[0], time.process_time() - begun[1]
                    best = [min(pair) for pair in zip(best, took, strict=True)]
                what = "digests and scenes (`--decode`)" if decode else "digests"
                print(f"| {what} | {threads} | {size / best[0]:.0f} | {size / best[1]:.0f} |")
