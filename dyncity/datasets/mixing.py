"""Real and synthetic clips in one data set, drawn at a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import ConcatDataset

from dyncity.datasets.sampling import ShardSampler
from dyncity.datasets.shards import OccupancyShards
from dyncity.errors import InputError


def mixed(
    corpora: Sequence[OccupancyShards], ratio: Sequence[int] | None = None, **options: Any
) -> tuple[ConcatDataset[Any], ShardSampler]:
    """A data set of the clips of several corpora, and the sampler that draws them at a ratio.

    The first corpus, the real one, is seen whole in every epoch; the others go on from epoch to epoch.

    Args:
        corpora: their clips, alike in grid, label space, columns, length and anchor, so that they stack.
        ratio: whole numbers, one a corpus, as ``ShardSampler`` takes them; (1, 3) is one real clip to three
            synthetic ones. None: as many of each.
        options: further arguments of ``ShardSampler``: seed, rank, world_size, batch_size, streams.

    Returns:
        The data set and the sampler, both for ``DataLoader(data_set, sampler=sampler, ...)``.

    Raises:
        InputError: corpora that differ in one of these, or a bad ratio.
    """
    first = _traits(corpora[0]) if corpora else {}
    for clips in corpora[1:]:
        for name, value in _traits(clips).items():
            if value != first[name]:
                raise InputError(
                    clips.corpus.folder, f"its {name}: {value}, in the first corpus: {first[name]}", _FIX[name]
                )
    sampler = ShardSampler(corpora, ratio, **options)
    return ConcatDataset(corpora), sampler


_FIX = {
    "grid": "mix corpora of one grid",
    "label space": "give all of them the same labels",
    "columns": "give all of them the same columns",
    "length of clips": "give all of them the same frames",
    "anchor": "mix corpora of one kind",
}


def _traits(clips: OccupancyShards) -> dict[str, Any]:
    """What has to be the same for clips to stack and to mean the same."""
    return {
        "grid": clips.corpus.grid,
        "label space": clips.labels or "a table",
        "columns": clips.columns,
        "length of clips": sorted({frames for _, _, frames in clips.clips}),
        "anchor": clips.corpus.anchor,
    }
