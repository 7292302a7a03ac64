"""What the order of clips costs: groups decoded and CPU time a clip, one epoch through a corpus.

    python benchmarks/loading.py CORPUS [--frames 2] [--cached-mib 16] [--rounds 3] [--seed 0]

Time is CPU time of this process, the best of the rounds, without a DataLoader; run it with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch.utils.data import RandomSampler, SequentialSampler

from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.datasets.sampling import ShardSampler
from dyncity.datasets.shards import OccupancyShards
from dyncity.scene import OccupancyScene


class CountingCorpus(Corpus):
    """A corpus that counts how many groups are decoded."""

    decoded = 0

    def scenes_of_group(self, scene_id: str) -> Iterator[OccupancyScene]:
        """The scenes that are decoded together with ``scene_id``."""
        self.decoded += 1
        return super().scenes_of_group(scene_id)


def main() -> None:
    """Print one row an order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--cached-mib", type=float, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    manifest = open_corpus(options.corpus).manifest
    table = Table("order", "clips", "groups", "groups decoded", "ms a clip")
    for name in ("as stored", "RandomSampler", "ShardSampler"):
        times = []
        for round_ in range(options.rounds):
            corpus = CountingCorpus(options.corpus, manifest)
            clips = OccupancyShards(corpus, options.frames, cached_bytes=int(options.cached_mib * 2**20))
            samplers = {
                "as stored": SequentialSampler(clips),
                "RandomSampler": RandomSampler(clips),
                "ShardSampler": ShardSampler(clips, seed=options.seed + round_),
            }
            start = time.process_time()
            for number in samplers[name]:
                clips[number]
            times.append(time.process_time() - start)
        groups = len(clips.clip_groups()[1])
        row = [name, len(clips), groups, corpus.decoded, f"{1000 * min(times) / len(clips):.2f}"]
        table.add_row(*map(str, row))
    Console().print(table)


if __name__ == "__main__":
    main()
