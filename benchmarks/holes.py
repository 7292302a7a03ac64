"""Holes in scenes wider than a clip: how well what is made joins what is around, by where the tile of the clip lies.

    dyncity generate --generator procedural --frame world --num-scenes 8 --seed 77 --set clip.margin=[64,56] --out wide
    python benchmarks/holes.py wide [CHECKPOINT] [--sizes 16 24 40]

Of pairs of neighbours across the border of a hole, not both free, the share that is of one class: before the edit, and
after it with the hole in the middle of the tile, with a street there (``generators/street_tiles.py``), and with the
best of several draws (``sampling.join_draws``) of that.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from conditions import generated
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dyncity.checkpoint import load_checkpoint, shipped_checkpoint
from dyncity.datasets.corpus import open_corpus
from dyncity.metrics.borders import border_agreement
from dyncity.regions import Prism, Region
from dyncity.scene import OccupancyScene, SceneSpec
from generators.inpainting_large import LargeInpainting, tiles_around
from generators.street_tiles import Tile

# Their middles, metres ahead and to the left of the ego in the first frame.
PLACES = ((10.0, 12.0), (25.0, -25.0), (-20.0, 30.0))


class HoleInTheMiddle(LargeInpainting):
    """The baseline: the tile has the hole in its middle, whatever else lies there."""

    def _tiles(self, volume: NDArray[np.uint8], hole: NDArray[np.bool_]) -> list[Tile]:
        return tiles_around(np.asarray(hole.any(axis=(0, 3))), self.diffusion.config.clip_grid.shape)


def square(place: tuple[float, float], metres: float) -> Region:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * metres / 2 + place
    return Region((Prism(corners, (-np.inf, np.inf)),))


def agreements(scenes: list[OccupancyScene], region: Region) -> list[float]:
    return [border_agreement(scene.semantics, region.mask(scene)) for scene in scenes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--sizes", nargs="+", type=float, default=[16.0, 24.0, 40.0])
    options = parser.parse_args()
    torch.set_num_threads(2)
    corpus, sampling = open_corpus(options.corpus), load_checkpoint(options.checkpoint).config.sampling
    once = replace(sampling, join_draws=1)
    best = f"best of {sampling.join_draws}"
    kinds = ((HoleInTheMiddle, once), (LargeInpainting, once), (LargeInpainting, sampling))
    table = Table("metres", "before", "hole in the middle", "street in the middle", best, title="of one class, %")
    for metres in options.sizes:
        columns: list[list[float]] = [[] for _ in range(4)]
        for place in PLACES:
            region = square(place, metres)
            columns[0] += agreements(list(corpus.scenes()), region)
            for (kind, drawn), column in zip(kinds, columns[1:], strict=True):
                editor = kind(options.checkpoint, drawn, options.corpus, region)
                column += agreements(generated(editor, [SceneSpec(i, 1) for i in range(editor.scenes)]), region)
        table.add_row(f"{metres:g}", *(f"{100 * np.mean(column):.1f}" for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
