"""What the exporters cost: rays a second through a grid, trees a frame by stage, MB of voxels a second of shards.

    python benchmarks/export.py [--parts rays,trees,shards] [--preset occ3d-nuscenes] [--frames 2] [--rounds 5]
        [--trees A,B] [--seed 0]

Time is CPU time of this process, the best of the rounds; run it with OMP_NUM_THREADS=1 for one core.
Scenes come from the procedural city; shards hold scenes of 16 frames.
"""

from __future__ import annotations

import argparse
import cProfile
import dataclasses
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from dyncity.datasets.parquet_shard import ParquetShard
from dyncity.presets import PRESETS, preset
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from exporters.cameras import NUSCENES_CAMERAS
from exporters.fans import cast_fans, columns
from exporters.formats import FORMATS, tree_format
from exporters.manifest import flush, settle
from exporters.native_tree import TreeOptions
from exporters.parquet import WRITER, ParquetExporter, scene_table
from exporters.raycast import cast_rays
from exporters.sensors import HDL_32E, HDL_64E
from exporters.tree_listing import files_below
from generators.procedural.city import ProceduralCity


def best(work: Callable[[], object], rounds: int, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of the fastest of some rounds, of CPU time unless another clock is given."""
    times = []
    for _ in range(rounds):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def rays(scene: OccupancyScene, rounds: int, seed: int, device: str | None) -> Table:
    """Rays a second, hits and visibility together, for the sensors of the exporters; on a device by the clock."""
    semantics = scene.semantics[0]
    occupied = (semantics != 0) & (semantics != UNKNOWN)
    camera = NUSCENES_CAMERAS[0]
    cases = [
        ("HDL-32E", HDL_32E.position, HDL_32E.directions(), HDL_32E.fans()),
        ("HDL-64E", HDL_64E.position, HDL_64E.directions(), HDL_64E.fans()),
        ("CAM_FRONT, every 5th pixel", camera.position, camera.directions(5), columns(camera.rows_columns(5))),
        ("random directions", (0.0, 0.0, 2.0), np.random.default_rng(seed).normal(size=(100_000, 3)), None),
    ]
    grid = "x".join(map(str, scene.grid.shape))
    table = Table("rays", "number", "hit, %", "faces crossed a hit", "M rays/s", "in fans", title=f"{grid}, one core")
    if device is not None:
        table.add_column(f"M rays/s, {device}")
    for name, position, directions, fans in cases:
        origin = np.asarray(position)
        hits = cast_rays(occupied, scene.grid, origin, directions, 1.0)
        seconds = best(lambda o=origin, d=directions: cast_rays(occupied, scene.grid, o, d, 1.0), rounds)
        faces = (np.abs(hits.points - origin) / scene.grid.voxel_size).sum(axis=1).mean()
        share = 100 * len(hits.ray) / len(directions)
        cells = [f"{len(directions)}", f"{share:.0f}", f"{faces:.0f}", f"{len(directions) / seconds / 1e6:.2f}"]
        in_fans = "-"
        if fans is not None:
            whole = best(lambda o=origin, d=directions, f=fans: cast_fans(occupied, scene.grid, o, d, f, 1.0), rounds)
            in_fans = f"{len(directions) / whole / 1e6:.2f}"
        cells.append(in_fans)
        if device is not None:

            def together(o: np.ndarray = origin, d: np.ndarray = directions) -> object:
                return cast_rays(occupied, scene.grid, o, d, 1.0, device=device)

            cells.append(f"{len(directions) / best(together, rounds, time.perf_counter) / 1e6:.2f}")
        table.add_row(name, *cells)
    return table


# Settings of the Parquet writer beside those that are chosen: what is said of them, what differs.
SHARDS: tuple[tuple[str, dict[str, object]], ...] = (
    ("chosen: zstd 1, plain", {}),
    ("zstd 3", {"compression_level": 3}),
    ("zstd 6", {"compression_level": 6}),
    ("zstd 9", {"compression_level": 9}),
    ("lz4", {"compression": "lz4", "compression_level": None}),
    ("snappy", {"compression": "snappy", "compression_level": None}),
    ("none", {"compression": "none", "compression_level": None}),
    ("zstd 1, dictionary", {"use_dictionary": True}),
    ("zstd 1, delta lengths", {"column_encoding": {"semantics": "DELTA_LENGTH_BYTE_ARRAY"}}),
    ("zstd 1, pages of 16 MiB", {"data_page_size": 2**24}),
    ("zstd 1, no checksums", {"write_page_checksum": False}),
    ("zstd 1, fixed size", {"fixed": True}),
)


def shards(scenes: list[OccupancyScene], rounds: int) -> Table:
    """MB of voxels a second of CPU time, written and read by plain pyarrow, and how much smaller they are.

    A row group is a scene; the last two rows have a quarter of one, and all scenes together.
    """
    columns = [scene_table(scene) for scene in scenes]
    megabytes = sum(scene.semantics.nbytes for scene in scenes) / 1e6
    table = Table("encoding", "write MB/s", "read MB/s", "to numpy MB/s", "ratio of sizes", title="Parquet, one core")
    rows = scenes[0].frames
    cases = [(name, changes, rows) for name, changes in SHARDS]
    cases += [("row group of a quarter scene", {}, rows // 4), ("row group of all scenes", {}, rows * len(scenes))]
    for name, changes, group in cases:
        fixed = changes.get("fixed")
        whole = pa.concat_tables(columns).combine_chunks()
        if fixed:
            size = len(whole["semantics"][0].as_py())
            place = whole.schema.get_field_index("semantics")
            whole = whole.set_column(place, "semantics", whole["semantics"].cast(pa.binary(size)))
        settings = {**WRITER, **{key: value for key, value in changes.items() if key != "fixed"}}
        sink: list[pa.Buffer] = []

        def write(whole: pa.Table = whole, settings: dict = settings, group: int = group, sink: list = sink) -> None:
            stream = pa.BufferOutputStream()
            with pq.ParquetWriter(stream, whole.schema, **settings) as writer:
                writer.write_table(whole, row_group_size=group)
            sink[:] = [stream.getvalue()]

        def read(sink: list = sink) -> pa.ChunkedArray:
            file = pq.ParquetFile(pa.BufferReader(sink[0]), page_checksum_verification=True)
            return [
                file.read_row_group(n, columns=["semantics"], use_threads=False) for n in range(file.num_row_groups)
            ]

        def to_numpy(read: Callable[[], list[pa.Table]] = read) -> None:
            for part in read():
                for chunk in part["semantics"].chunks:
                    np.frombuffer(chunk.buffers()[-1], np.uint8)

        written = best(write, rounds)
        table.add_row(
            name,
            *(f"{megabytes / seconds:.0f}" for seconds in (written, best(read, rounds), best(to_numpy, rounds))),
            f"{megabytes * 1e6 / sink[0].size:.1f}",
        )
    return table


def package(scenes: list[OccupancyScene], rounds: int) -> Table:
    """The same by the exporter and the reader of the package, to and from a file."""
    megabytes = sum(scene.semantics.nbytes for scene in scenes) / 1e6
    table = Table("", "MB/s", title="one shard, one core")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.parquet"

        def write() -> None:
            path.unlink(missing_ok=True)
            ParquetExporter().write(scenes, path)

        def read() -> None:
            shard = ParquetShard(path)
            for group in dict.fromkeys(group for _, group, _ in shard.index()):
                for _ in shard.read(group):
                    pass

        table.add_row("ParquetExporter.write", f"{megabytes / best(write, rounds):.0f}")
        table.add_row("ParquetShard.read", f"{megabytes / best(read, rounds):.0f}")
    return table


# The stages of a tree: functions whose time, callees included, is theirs. What is left is labels, points and texts.
STAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "cast": (("sensors.py", "cast_scene"), ("sensors.py", "see_scene")),
    "merge": (("visibility.py", "words_over_time"),),
    "resample": (
        ("labels.py", "frames_looked_at"),
        ("labels.py", "_repeated"),
        ("semantickitti_voxels.py", "voxel_files"),
        ("openoccupancy.py", "voxel_rows"),
    ),
    "write": (("pathlib.py", "write_bytes"), ("pathlib.py", "write_text"), ("npz.py", "write_npz"), ("", "save")),
    "sha256": (("tree_listing.py", "files_below"),),
}


def stages(work: Callable[[], object], rounds: int) -> dict[str, float]:
    """CPU seconds of each stage in the fastest of some rounds, ``rest`` and ``total`` among them."""
    fastest: dict[str, float] = {}
    for _ in range(rounds):
        profile = cProfile.Profile(time.process_time)
        start = time.process_time()
        profile.runcall(work)
        total = time.process_time() - start
        spent = dict.fromkeys(STAGES, 0.0)
        for (path, _, function), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
            for stage, functions in STAGES.items():
                if any(function == name and path.endswith(ending) for ending, name in functions):
                    spent[stage] += cumulative
        if not fastest or total < fastest["total"]:
            fastest = {**spent, "rest": total - sum(spent.values()), "total": total}
    return fastest


def trees(scene: OccupancyScene, formats: list[str], rounds: int) -> Table:
    """CPU milliseconds a frame of each tree by stage, and of the same files written plainly.

    Beside that, by the clock: the same files written below the temporary folder (TMPDIR) and flushed to the disk, each
    by itself, and all at once as an export does it.
    """
    heads = (*STAGES, "rest", "total", "MB a frame", "files a frame", "plainly", "ratio", "flushed", "ratio")
    table = Table("tree", *heads, "settled", title=f"trees, {scene.frames} frames, one core, ms a frame")
    for name in formats:
        with tempfile.TemporaryDirectory() as folder:
            numbered = iter(range(rounds + 1))

            def write(name: str = name, folder: str = folder, numbered: object = numbered) -> None:
                out = Path(folder) / str(next(numbered))  # type: ignore[call-overload]
                out.mkdir()
                tree = tree_format(name).build([scene.frames], TreeOptions())
                tree.finish(out, [tree.write(out, 0, scene)])
                files_below(out)

            write()  # compiles, or reads what was compiled
            spent = stages(write, rounds)
            files = [path for path in (Path(folder) / "0").rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            contents = [path.read_bytes() for path in files]
            plain = Path(folder) / "plain"

            def copy(contents: list[bytes] = contents, plain: Path = plain) -> None:
                shutil.rmtree(plain, ignore_errors=True)
                plain.mkdir()
                for number, content in enumerate(contents):
                    (plain / str(number)).write_bytes(content)

            def flushed(copy: Callable[[], None] = copy, plain: Path = plain) -> None:
                copy()
                for path in (*plain.iterdir(), plain):
                    flush(path)

            def settled(copy: Callable[[], None] = copy, plain: Path = plain) -> None:
                copy()
                settle(plain)

            plainly = best(copy, 3 * rounds)
            to_disk = best(flushed, 3 * rounds, time.perf_counter)
            at_once = best(settled, 3 * rounds, time.perf_counter)
        frames = scene.frames
        table.add_row(
            name,
            *(f"{spent[stage] / frames * 1e3:.1f}" for stage in (*STAGES, "rest", "total")),
            f"{size / frames / 1e6:.2f}",
            f"{len(files) / frames:.1f}",
            f"{plainly / frames * 1e3:.2f}",
            f"{spent['total'] / plainly:.0f}",
            f"{to_disk / frames * 1e3:.1f}",
            f"{spent['total'] / to_disk:.1f}",
            f"{at_once / frames * 1e3:.1f}",
        )
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the exporters.")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="occ3d-nuscenes")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", default="rays,trees,shards")
    parser.add_argument("--scenes", type=int, default=4, help="of a shard")
    parser.add_argument("--trees", default=",".join(FORMATS), help="formats")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cast rays there too: cpu, cuda")
    options = parser.parse_args()
    config = preset(options.preset)
    config = dataclasses.replace(config, clip=dataclasses.replace(config.clip, frames=options.frames))
    scene = ProceduralCity(config).generate([SceneSpec(0, options.seed)])[0]
    console = Console(width=160)
    parts = options.parts.split(",")
    if "rays" in parts:
        console.print(rays(scene, options.rounds, options.seed, options.device))
    if "trees" in parts:
        console.print(trees(scene, options.trees.split(","), max(1, options.rounds // 3)))
    if "shards" in parts:
        clip = dataclasses.replace(config.clip, frames=16)
        city = ProceduralCity(dataclasses.replace(config, clip=clip))
        scenes = [city.generate([SceneSpec(n, options.seed + n)])[0] for n in range(options.scenes)]
        console.print(shards(scenes, options.rounds))
        console.print(package(scenes, options.rounds))


if __name__ == "__main__":
    main()
