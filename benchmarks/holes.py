"""Holes in scenes wider than a clip: how well what is made joins what is around, by where the tile of the clip lies.

    dyncity generate --generator procedural --frame world --num-scenes 8 --seed 77 --set clip.margin=[64,56] --out wide
    python benchmarks/holes.py wide [CHECKPOINT] [--sizes 16 24 40]

Of pairs of neighbours across the border of a hole, not both free, the share that is of one class: before the edit, and
after it with the hole in the middle of the tile, and with a street there (``generators/street_tiles.py``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from conditions import border_agreement
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dyncity.checkpoint import load_checkpoint, shipped_checkpoint
from dyncity.regions import Prism, Region
from dyncity.scene import SceneSpec
from generators.inpainting_large import LargeInpainting
from generators.street_tiles import Tile, tile_at

# Their middles, metres ahead and to the left of the ego in the first frame.
PLACES = ((10.0, 12.0), (25.0, -25.0), (-20.0, 30.0))


class HoleInTheMiddle(LargeInpainting):
    """The baseline: the tile has the hole in its middle, whatever else lies there."""

    def _tiles(self, volume: NDArray[np.uint8], hole: NDArray[np.bool_]) -> list[Tile]:
        starts = []
        for axes, side, size in zip(
            ((0, 2, 3), (0, 1, 3)), self.diffusion.config.clip_grid.shape, hole.shape[1:], strict=False
        ):
            first, last = np.flatnonzero(hole.any(axis=axes))[[0, -1]]
            starts.append(min(max(0, int(first + last + 1 - side) // 2), size - side))
        return [tile_at(*starts, self.diffusion.config.clip_grid.shape)]


def square(place: tuple[float, float], metres: float) -> Region:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * metres / 2 + place
    return Region((Prism(corners, (-np.inf, np.inf)),))


def agreements(editor: LargeInpainting) -> tuple[list[float], list[float]]:
    """Before and after, of every scene."""
    before, after = [], []
    for first in range(0, editor.scenes, editor.micro_batch):
        for number, made in enumerate(editor.generate([SceneSpec(first + k, 1) for k in range(editor.micro_batch)])):
            if first + number < editor.scenes:
                source = editor.corpus.scene(editor.corpus.scene_ids[first + number])
                hole = editor.region.mask(source)
                before.append(border_agreement(source.semantics, hole))
                after.append(border_agreement(made.semantics, hole))
    return before, after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--sizes", nargs="+", type=float, default=[16.0, 24.0, 40.0])
    options = parser.parse_args()
    torch.set_num_threads(2)
    sampling = load_checkpoint(options.checkpoint).config.sampling
    table = Table("metres", "before", "hole in the middle", "street in the middle", title="neighbours of one class, %")
    for metres in options.sizes:
        columns: list[list[float]] = [[], [], []]
        for place in PLACES:
            for kind, column in ((HoleInTheMiddle, 1), (LargeInpainting, 2)):
                before, after = agreements(kind(options.checkpoint, sampling, options.corpus, square(place, metres)))
                columns[column] += after
                columns[0] += before if column == 1 else []
        table.add_row(f"{metres:g}", *(f"{100 * np.mean(column):.1f}" for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
