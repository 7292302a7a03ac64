"""dry_run: what a plan comes to, measured on its first micro-batch and written nowhere."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from dyncity.errors import InputError
from dyncity.terminal import size_text
from exporters.base import SceneExporter
from generators.cost import Prices, run_cost
from generators.plan import CorpusPlan
from generators.shard_worker import BuildGenerator, reason
from generators.this_process import workers_for

Rows = dict[str, str | int | float]


def dry_run(
    plan: CorpusPlan,
    build_generator: BuildGenerator,
    exporter: SceneExporter,
    workers: tuple[int, int] | None = (0, 0),
    gpus_per_worker: float = 0.0,
    prices: Prices | None = None,
) -> Rows:
    """Counts of a plan, and estimates of its size, its time and its cost.

    The estimates extrapolate the first micro-batch, sampled here and written to a temporary folder. Time
    is that of the fewest workers, each as fast as this process and with whole shards, without starting them.

    Args:
        plan, build_generator, exporter, workers, gpus_per_worker: as ``make_corpus`` takes them.
        prices: what an hour costs; a rate in it is taken instead of the measured one.

    Raises:
        InputError: the generator cannot be built or refuses the request; a price of what workers do not have.
    """
    prices, workers = prices or Prices(), workers_for(workers, plan, range(len(plan.shards)))
    hourly = prices.of_worker(plan.threads, gpus_per_worker)
    wanted = min(plan.micro_batch, plan.num_scenes)
    rows: Rows = {
        "generator": plan.generator,
        "scenes": plan.num_scenes,
        "shards": len(plan.shards),
        "scenes a shard": plan.shard_size,
        "micro-batch": plan.micro_batch,
        "labels": plan.labels,
        "container": plan.container,
        "seed": plan.seed,
    }
    generator = build_generator()
    specs, _ = next(plan.micro_batches(plan.shards[0]))
    begun = time.perf_counter()
    try:
        scenes = generator.generate(specs)[:wanted]
    except InputError:
        raise
    except Exception as error:
        return rows | {"first micro-batch": f"fails: {reason(error)}"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / exporter.shard_name(0)
        exporter.write(scenes, path)
        seconds = time.perf_counter() - begun
        files = list(path.iterdir()) if path.is_dir() else [path]
        size = sum(f.stat().st_size for f in files)
    batches = -(-plan.num_scenes // plan.micro_batch)
    if (rate := prices.scenes_per_second) is None:
        rate, settling = wanted / seconds, seconds * batches
    else:
        settling = plan.num_scenes / rate
    busiest = -(-len(plan.shards) // max(1, workers[0]))  # shards of one worker: none is shared
    rows |= {
        "frames": sum(s.frames for s in scenes) * plan.num_scenes // wanted,
        "size, about": size_text(size / wanted * plan.num_scenes),
        "seconds, about": round(settling * busiest / len(plan.shards), 1),
        "scenes a second and worker, about": round(rate, 2),
    }
    return rows | ({} if hourly is None else run_cost(plan.num_scenes, rate, workers, hourly))
