"""What the engine costs: beside bare sampling, by workers, in memory, and in the driver at a million scenes.

    python benchmarks/corpus.py [--parts overhead,workers,memory,driver,loaded,scenes] [--checkpoint DIR] [--json FILE]

overhead: one process; seconds of sampling and of everything else, and how long the sampler waits for it, by the
seconds that a shard is worth. workers: scenes a second of the same corpus by 0, 1, 2 ... worker processes of Ray.
memory: the most memory of a process by scenes a shard, of scenes as large as those of the preset tiny. driver: what
the driver does for so many shards, with records that nobody made: manifest, progress, memory. loaded: the same in a
process that has built the generator of the checkpoint and imported Ray, as a driver has. scenes: a whole run of
so many scenes of one voxel, which cost nothing to sample. CPU time is that of the process, all threads together; run
it with OMP_NUM_THREADS=1. Each row of the last four parts is a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dyncity.checkpoint import shipped_checkpoint
from dyncity.config import Config
from dyncity.datasets.manifest import MANIFEST, ShardRecord, read_manifest
from dyncity.grid import GridSpec
from dyncity.presets import tiny
from dyncity.scene import OccupancyScene, SceneSpec
from exporters.manifest import write_manifest
from exporters.parquet import ParquetExporter
from generators.base import SceneGenerator
from generators.corpus import make_corpus
from generators.corpus_folder import open_folder
from generators.ledger import open_ledger
from generators.plan import CorpusPlan

Row = dict[str, float]
PARTS = ("overhead", "workers", "memory", "driver", "loaded", "scenes")


class ConstantScenes:
    """Scenes that cost nothing: one array for all of them."""

    name, micro_batch = "constant", 8

    def __init__(self, config: Config) -> None:
        self.config = config
        shape = (config.clip.frames, *config.grid.shape)
        self._semantics = np.zeros(shape, np.uint8)
        self._poses = np.broadcast_to(np.eye(4), (config.clip.frames, 4, 4))
        self._times = np.arange(config.clip.frames, dtype=np.int64)

    def fingerprint(self) -> dict[str, str | int | float]:
        """Nothing decides the bytes besides the specs."""
        return {}

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec, all alike."""
        return [
            OccupancyScene(
                scene_id=f"scene-{spec.index:07d}",
                semantics=self._semantics.copy(),
                poses=self._poses,
                grid=self.config.grid,
                taxonomy="native",
                timestamps_us=self._times,
                conditions=spec.conditions,
                provenance={"index": spec.index},
            )
            for spec in specs
        ]


class Timed:
    """A source of scenes that notes when it samples, and its CPU time."""

    def __init__(self, source: SceneGenerator) -> None:
        self._source = source
        self.name, self.config, self.micro_batch = source.name, source.config, source.micro_batch
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.cpu = 0.0

    def fingerprint(self) -> dict[str, str | int | float]:
        """That of the source."""
        return self._source.fingerprint()

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """The scenes of the source."""
        self.begun.append(time.monotonic())
        cpu = time.thread_time()
        scenes = self._source.generate(specs)
        self.cpu += time.thread_time() - cpu
        self.ended.append(time.monotonic())
        return scenes


def plan_of(source: SceneGenerator, scenes: int, per_shard: int | None = None) -> CorpusPlan:
    return CorpusPlan(
        source.name,
        source.config,
        scenes,
        scenes_per_shard=per_shard,
        micro_batch=source.micro_batch,
        fingerprint_of_generator=source.fingerprint(),
    )


def one_voxel() -> Config:
    config = tiny()
    return replace(
        config,
        grid=GridSpec((1, 1, 1), (0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 5.0),
        clip=replace(config.clip, frames=1, planes="ego", margin=(0, 0)),
        vae=replace(config.vae, downsample=(1, 1, 1, 1)),
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def diffusion(checkpoint: Path) -> SceneGenerator:
    from generators.diffusion import LatentDiffusion  # importing torch is not what the other parts measure

    return LatentDiffusion(checkpoint)


def overhead(checkpoint: Path, seconds: list[float], out: Path) -> list[Row]:
    """Two shards of so many seconds each; the engine's share of CPU time, and the sampler's waits."""
    source = diffusion(checkpoint)
    specs = [plan_of(source, 10**6).spec(i) for i in range(source.micro_batch)]
    begun = time.process_time()
    source.generate(specs)
    batch = time.process_time() - begun
    rows = []
    for worth in seconds:
        per_shard = source.micro_batch * max(1, round(worth / batch))
        timed = Timed(source)
        plan = plan_of(timed, 2 * per_shard, per_shard)
        begun = time.process_time()
        make_corpus(plan, lambda timed=timed: timed, ParquetExporter(), out / f"overhead-{worth:g}")
        rest = time.process_time() - begun - timed.cpu
        wall = timed.ended[-1] - timed.begun[0]
        sampling = sum(timed.ended) - sum(timed.begun)
        rows.append({
            "scenes a shard": per_shard,
            "sampling a shard, CPU s": timed.cpu / 2,
            "all else, CPU s": rest / 2,
            "overhead, %": 100 * rest / timed.cpu,
            "sampler waits, % of its time": 100 * (1 - sampling / wall),
            "scenes/s sampling alone": plan.num_scenes / sampling,
            "scenes/s": plan.num_scenes / wall,
        })  # fmt: skip
    return rows


def by_workers(checkpoint: Path, counts: list[int], scenes: int, out: Path) -> list[Row]:
    """The same corpus by so many worker processes; the rate counts from the first scene on."""
    source = diffusion(checkpoint)
    plan, rows = plan_of(source, scenes), []
    for count in counts:
        seen: list[tuple[float, int]] = []
        result = make_corpus(
            plan,
            partial(diffusion, checkpoint),
            ParquetExporter(),
            out / f"workers-{count}",
            workers=(count, count),
            report=lambda done, total, note, seen=seen: seen.append((time.monotonic(), done)),
        )
        first = next(i for i, (_, done) in enumerate(seen) if done)
        rate = (seen[-1][1] - seen[first][1]) / (seen[-1][0] - seen[first][0])
        rows.append({"workers": count, "seconds": result.seconds, "scenes/s once they sample": rate})
    return rows


def memory_row(per_shard: int, out: Path) -> Row:
    """Four shards of so many scenes, of the size of the preset tiny, in one process."""
    source = ConstantScenes(tiny())
    before = peak_mb()
    make_corpus(plan_of(source, 4 * per_shard, per_shard), lambda: source, ParquetExporter(), out / "corpus")
    voxels = per_shard * source.config.clip.frames * source.config.grid.voxels / 2**20
    return {"scenes a shard": per_shard, "MiB of voxels a shard": voxels, "peak, MB": peak_mb(), "start, MB": before}


def driver_row(shards: int, out: Path) -> Row:
    """Everything that a driver does for so many shards of two scenes, but for waiting."""
    source = ConstantScenes(one_voxel())
    source.micro_batch = 2
    plan, before, writes = plan_of(source, 2 * shards, 2), peak_mb(), 0
    reports: list[int] = []
    with open_folder(plan, out / "corpus", resume=False, overwrite=False) as folder:
        manifest = folder.out / MANIFEST
        begun, last = time.process_time(), manifest.stat().st_ino
        with open_ledger(plan, folder, lambda done, total, note: reports.append(done)) as ledger:
            for shard in plan.shards:
                sha256 = hashlib.sha256(b"%d" % shard.number).hexdigest()
                ledger.add(
                    shard.number, ShardRecord(f"{shard.number:05d}.parquet", 700_000, sha256, shard.first, 2, 32)
                )
                if (found := manifest.stat().st_ino) != last:
                    writes, last = writes + 1, found
        records = time.process_time() - begun
        begun = time.process_time()
        write_manifest(folder.out, folder.manifest(plan))
        written = time.process_time() - begun
        begun = time.process_time()
        read_manifest(folder.out)
        read = time.process_time() - begun
    return {
        "shards": shards,
        "records, CPU s": records,
        "us a record": 1e6 * records / shards,
        "manifests": writes,
        "reports": len(reports),
        "manifest, MB": manifest.stat().st_size / 1e6,
        "write it, CPU s": written,
        "read it, CPU s": read,
        "start, MB": before,
        "peak, MB": peak_mb(),
    }


def loaded_row(shards: int, out: Path) -> Row:
    """The same in a process that holds what a driver does besides."""
    import ray.data

    held = diffusion(shipped_checkpoint()), ray.data
    row = driver_row(shards, out)
    del held
    return row


def scenes_row(scenes: int, out: Path) -> Row:
    """A whole run, in one process, and its resumption when all is there."""
    source = ConstantScenes(one_voxel())
    plan, before = plan_of(source, scenes, 256), peak_mb()
    times = []
    for resume in (False, True):
        begun = time.process_time()
        make_corpus(plan, lambda: source, ParquetExporter(), out / "corpus", resume=resume, report=lambda *told: None)
        times.append(time.process_time() - begun)
    return {
        "scenes": scenes,
        "shards": len(plan.shards),
        "CPU s": times[0],
        "ms a scene": 1e3 * times[0] / scenes,
        "manifest, MB": (out / "corpus" / MANIFEST).stat().st_size / 1e6,
        "resume, CPU s": times[1],
        "start, MB": before,
        "peak, MB": peak_mb(),
    }


ROWS = {"memory": memory_row, "driver": driver_row, "loaded": loaded_row, "scenes": scenes_row}


def row_of(part: str, number: int) -> Row:
    """A row by a process of its own, since the most memory that a process ever had never shrinks."""
    command = [sys.executable, __file__, "--row", part, str(number)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(title: str, rows: list[Row]) -> Table:
    shown = Table(*rows[0], title=title)
    for row in rows:
        shown.add_row(*(f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}" for value in row.values()))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--checkpoint", type=Path, default=shipped_checkpoint())
    parser.add_argument("--seconds", type=float, nargs="+", default=[3, 30], help="overhead: what a shard is worth")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 1, 2], help="workers: how many")
    parser.add_argument("--sampled", type=int, default=128, help="workers: scenes of the corpus")
    parser.add_argument("--per-shard", type=int, nargs="+", default=[8, 64, 256, 1024], help="memory: scenes a shard")
    parser.add_argument(
        "--shards", type=int, nargs="+", default=[10_000, 100_000, 500_000], help="driver, loaded: how many"
    )
    parser.add_argument("--scenes", type=int, nargs="+", default=[1_000_000], help="scenes: how many")
    parser.add_argument("--json", type=Path, help="write all values to this file too")
    parser.add_argument("--row", nargs=2, metavar=("PART", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if options.row:
            print(json.dumps(ROWS[options.row[0]](int(options.row[1]), out)))
            return
        measure = {
            "overhead": lambda: overhead(options.checkpoint, options.seconds, out),
            "workers": lambda: by_workers(options.checkpoint, options.counts, options.sampled, out),
            "memory": lambda: [row_of("memory", n) for n in options.per_shard],
            "driver": lambda: [row_of("driver", n) for n in options.shards],
            "loaded": lambda: [row_of("loaded", n) for n in options.shards],
            "scenes": lambda: [row_of("scenes", n) for n in options.scenes],
        }
        values = {}
        for part in options.parts.split(","):
            values[part] = measure[part]()
            Console(width=200).print(table(part, values[part]))
        if options.json:
            options.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
