"""ShardSampler: in which order clips are drawn, for every epoch, rank and worker, from one corpus or several.

Shuffling single clips would decode a group (``OccupancyShards.clip_groups``) for nearly every one of them. So
whole groups are shuffled, and clips only within a window of groups that fit into ``cached_bytes`` together. Ranks
and workers take contiguous pieces of the order of groups; only groups at the ends of pieces are decoded twice.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from dyncity.datasets.shards import OccupancyShards
from dyncity.errors import InputError
from dyncity.seeding import Purpose, check_seed, stream

Indices = NDArray[np.int64]


class ShardSampler(Sampler[int]):
    """Numbers of clips for a ``DataLoader``, a function of the arguments and the epoch alone.

    Over all ranks an epoch holds every clip of the FIRST corpus once. To make all ranks equally long it is filled
    up with the first clips of its order, fewer than ``world_size * ratio[0]`` of them. Of the other corpora it
    holds as many clips as the ratio says; the next epoch goes on where this one stopped, so that all of them are
    seen before one is seen again.

    Args:
        clips: one data set; or several, whose numbers are then those of their ``ConcatDataset``
            (``dyncity.datasets.mixing.mixed`` makes both).
        ratio: whole numbers, one a data set: each run of ``sum(ratio)`` draws that starts at a multiple of it has
            exactly so many clips of each. None: as many of each.
        seed: the root of all random numbers.
        shuffle: False: clips in the order of the corpora.
        rank, world_size: which of how many processes this is. None: what ``torch.distributed`` says, else what
            torchrun left in the environment (RANK, WORLD_SIZE), else 0 of 1.
        batch_size: that of the loader.
        streams: ``num_workers`` of the loader. Batch i comes from stream i modulo ``streams``, as the loader gives
            it to worker i modulo ``num_workers``: each worker decodes groups of its own. The order depends on
            ``streams`` and not on how many workers there are.

    Raises:
        InputError: a number that is out of range, not one share for each data set.
    """

    def __init__(
        self,
        clips: OccupancyShards | Sequence[OccupancyShards],
        ratio: Sequence[int] | None = None,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
        batch_size: int = 1,
        streams: int = 1,
    ) -> None:
        self.parts = (clips,) if isinstance(clips, OccupancyShards) else tuple(clips)
        self.ratio = _ratio(ratio, len(self.parts))
        self.rank, self.world_size = _place(rank, world_size)
        for name, value in (("batch_size", batch_size), ("streams", streams)):
            if value < 1:
                raise InputError(name, f"found {value}", "give a whole number from 1")
        self.seed = check_seed(seed)
        self.shuffle = shuffle
        self.batch_size = batch_size
        self.streams = streams
        self.epoch = 0
        self._groups = [part.clip_groups() for part in self.parts]
        self._cycles = math.ceil(len(self.parts[0]) / (self.ratio[0] * self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, a whole number from 0; call it before each one, on every rank.

        Raises:
            InputError: it is negative.
        """
        if epoch < 0:
            raise InputError("epoch", f"found {epoch}", "give a whole number from 0")
        self.epoch = epoch

    def __len__(self) -> int:
        """Draws of one rank in an epoch, the same for all ranks."""
        return self._cycles * sum(self.ratio)

    def __iter__(self) -> Iterator[int]:
        part_of = np.tile(_cycle(self.ratio), self._cycles)
        stream_of = np.arange(len(self)) // self.batch_size % self.streams
        drawn = np.empty(len(self), np.int64)
        offset = 0
        for number, part in enumerate(self.parts):
            order, keys = self._of_rank(number)
            first = 0
            for k in range(self.streams):
                places = np.flatnonzero((part_of == number) & (stream_of == k))
                piece = slice(first, first + len(places))
                drawn[places] = offset + self._windows(number, order[piece], keys[piece])
                first += len(places)
            offset += len(part)
        return iter(drawn.tolist())

    def _of_rank(self, number: int) -> tuple[Indices, NDArray[np.float64]]:
        """The clips of a data set that this rank draws in this epoch, group by group, and their keys."""
        clips, count = len(self.parts[number]), self._cycles * self.ratio[number]
        first = self.rank * count
        if number == 0:
            order, keys = self._pass(0, self.epoch)
            places = np.arange(first, first + count) % clips
            return order[places], keys[places]
        first += self.epoch * self.world_size * count
        passes = [self._pass(number, k) for k in range(first // clips, (first + count - 1) // clips + 1)]
        order, keys = (np.concatenate(arrays) for arrays in zip(*passes, strict=True))
        start = first % clips
        return order[start : start + count], keys[start : start + count]

    def _pass(self, number: int, turn: int) -> tuple[Indices, NDArray[np.float64]]:
        """All clips of a data set, whole groups shuffled; and a random key for each."""
        groups, sizes = self._groups[number]
        rng = stream(self.seed, turn * len(self.parts) + number, Purpose.CLIP_ORDER)
        place = rng.permutation(len(sizes)) if self.shuffle else np.arange(len(sizes))
        return np.argsort(place[groups], kind="stable"), rng.random(len(groups))

    def _windows(self, number: int, order: Indices, keys: NDArray[np.float64]) -> Indices:
        """A piece of such an order, its clips shuffled among groups that can be held at the same time."""
        if not self.shuffle or not len(order):
            return order
        groups, sizes = self._groups[number]
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        windows, held = [0], 0
        for size in sizes[groups[order[starts]]].tolist():
            full = held > 0 and held + size > self.parts[number].cached_bytes
            windows.append(windows[-1] + full)
            held = size if full else held + size
        window = np.repeat(windows[1:], np.diff(starts, append=len(order)))
        return order[np.lexsort((keys, window))]


def _cycle(ratio: tuple[int, ...]) -> NDArray[np.int64]:
    """Which data set each draw of one cycle comes from, spread as evenly as can be."""
    drawn = [0] * len(ratio)
    cycle = []
    for k in range(1, sum(ratio) + 1):
        behind = [k * share - sum(ratio) * done for share, done in zip(ratio, drawn, strict=True)]
        chosen = behind.index(max(behind))
        drawn[chosen] += 1
        cycle.append(chosen)
    return np.array(cycle, np.int64)


def _ratio(ratio: Sequence[int] | None, parts: int) -> tuple[int, ...]:
    """The ratio in lowest terms."""
    shares = (1,) * parts if ratio is None else tuple(ratio)
    if parts == 0 or len(shares) != parts or not all(isinstance(n, int) and n > 0 for n in shares):
        raise InputError("ratio", f"found {ratio} for {parts} data sets", "give a whole number from 1 for each")
    return tuple(n // math.gcd(*shares) for n in shares)


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Which of how many processes this is."""
    if rank is None and world_size is None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        found = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not all(text.isdecimal() for text in found):
            raise InputError("RANK, WORLD_SIZE", f"found {found}", "give rank and world_size")
        rank, world_size = int(found[0]), int(found[1])
    if rank is None or world_size is None or not 0 <= rank < world_size:
        raise InputError("rank, world_size", f"found {rank} of {world_size}", "give both, the ranks count from 0")
    return rank, world_size
