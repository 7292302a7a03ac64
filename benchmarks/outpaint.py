"""Enlarged scenes: how well tiles join what was known and each other, by how many draws the best is kept of.

    dyncity generate --generator procedural --num-scenes 4 --seed 77 --out narrow
    dyncity generate --generator procedural --frame world --num-scenes 4 --seed 901 --set clip.margin=[98,90] --out wide
    python benchmarks/outpaint.py narrow wide [CHECKPOINT]

Of pairs of neighbours of which one lies in one tile and one in another (or in what was known), not both free, the share
that is of one class; and at the same places of the simulator's own scenes, which are as large.
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
from dyncity.metrics.borders import border_pairs
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from generators.outpainting import Margins, Outpainting

MARGINS = Margins(65, 65, 65, 65)


def tiles_of(editor: Outpainting, source: OccupancyScene) -> NDArray[np.int64]:
    """``[x, y]``: the number of the tile that made each column, 0 for those that were known."""
    made = np.where((editor.begun(source) == UNKNOWN).any(axis=(0, 3)), -1, 0)
    for number, (_, x, y) in enumerate(editor.tiles(), start=1):
        window = made[x, y]
        window[window < 0] = number
    return made


def across(scenes: list[OccupancyScene], tiles: list[NDArray[np.int64]]) -> str:
    """The agreement of each tile of the scenes with what there was before it, %."""
    counts = np.zeros(2)
    for scene, made in zip(scenes, tiles, strict=True):
        for number in range(1, int(made.max()) + 1):
            known = np.where((made > number)[:, :, None], UNKNOWN, scene.semantics).astype(np.uint8)
            counts += border_pairs(known, np.broadcast_to((made == number)[:, :, None], known.shape))
    return f"{100 * counts[0] / counts[1]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("real", type=Path)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    options = parser.parse_args()
    torch.set_num_threads(2)
    sampling = load_checkpoint(options.checkpoint).config.sampling
    table = Table("", "neighbours of one class, %")
    for draws in sorted({1, sampling.join_draws}):
        editor = Outpainting(
            options.checkpoint, replace(sampling, join_draws=draws, micro_batch=4), options.corpus, MARGINS
        )
        tiles = [tiles_of(editor, source) for source in editor.corpus.scenes()]
        if draws == 1:
            table.add_row("real", across(list(open_corpus(options.real).scenes()), tiles))
        scenes = generated(editor, [SceneSpec(i, 1) for i in range(editor.scenes)])
        table.add_row(f"best of {draws}", across(scenes, tiles))
    Console().print(table)


if __name__ == "__main__":
    main()
