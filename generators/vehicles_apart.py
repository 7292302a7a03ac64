"""Vehicles that touch are told apart: boxes are laid over a lump, one by one, each where it covers most."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MIXED = 0.6  # what a column of another class counts for a box
_BESIDE = 0.15  # what a column right beside a box counts against it: it goes on there
_COVERED = 0.65  # of a box, on average, or nobody is there
_MOST = 0.6  # of a lump that boxes have to cover, or nobody can tell who is in it


def apart(
    columns: dict[int, Ints], kinds: dict[int, Ints], sizes: dict[int, Floats], yaws: Floats, edge: float
) -> list[Ints]:
    """The columns ``[m, 2]`` of each vehicle in a lump; none where boxes do not explain it.

    A box counts the frames in which its columns are seen, those of its class in full, less half of what it could count,
    and less what it leaves beside it. The best goes first, the next ones overlap none before.

    Args:
        columns: by frame, the columns ``[n, 2]`` of the lump, as if it stood.
        kinds: by frame, their classes ``[n]``.
        sizes: by class that one may be of, length and width ``[2]``, metres.
        yaws: the headings ``[k]`` that one may have, radians against the x axis.
        edge: of a column, metres.
    """
    everywhere = np.concatenate(list(columns.values()))
    reach = ceil(max(np.hypot(*size) for size in sizes.values()) / 2 / edge) + 1
    low = everywhere.min(axis=0) - reach
    seen = np.zeros((len(sizes) + 1, *(np.ptp(everywhere, axis=0) + 2 * reach + 1)), np.float32)  # [class, x, y]
    for t, places in columns.items():
        x, y = (places - low).T
        seen[-1, x, y] += 1
        for n, kind in enumerate(sizes):
            seen[n, x, y] += kinds[t] == kind
    seen /= len(columns)
    boxes, owners = _boxes(sizes, yaws, edge, reach)
    beside = F.max_pool2d(boxes[:, None], 3, 1, 1)[:, 0] - boxes
    weights = torch.zeros(len(boxes), len(seen), *boxes.shape[1:])
    weights[:, -1] = _MIXED * boxes - _BESIDE * beside
    weights[torch.arange(len(boxes)), owners] = (1 - _MIXED) * boxes
    number = boxes.sum(dim=(1, 2))
    score = F.conv2d(torch.from_numpy(seen)[None], weights)[0] - 0.5 * number[:, None, None]
    enough = (_COVERED - 0.5) * number[:, None, None]
    which, x, y = torch.where(score > enough)
    order = torch.argsort(score[which, x, y], descending=True, stable=True).tolist()
    taken, found = np.zeros(seen.shape[1:], bool), []
    cells = [box.nonzero().numpy() for box in boxes]
    for n in order:
        own = cells[which[n]] + (int(x[n]), int(y[n]))
        at = tuple(own.T)
        if not taken[at].any():
            taken[at] = True
            found.append(own + low)
    return found if seen[-1][taken].sum() >= _MOST * seen[-1].sum() else []


def _boxes(sizes: dict[int, Floats], yaws: Floats, edge: float, reach: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes about the middle of a field of columns, as ``[k, 2 reach + 1, 2 reach + 1]``, and their classes."""
    axis = np.arange(-reach, reach + 1) * edge
    centres = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    boxes: dict[tuple[int, bytes], NDArray[np.bool_]] = {}
    for n, size in enumerate(sizes.values()):
        for yaw in yaws.tolist():
            for dx, dy in ((0, 0), (0, 0.5), (0.5, 0), (0.5, 0.5)):
                x, y = np.moveaxis(centres - np.array([dx, dy]) * edge, -1, 0)
                ahead, left = np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x
                box = (np.abs(ahead) <= size[0] / 2) & (np.abs(left) <= size[1] / 2)
                boxes[n, box.tobytes()] = box
    return torch.from_numpy(np.stack(list(boxes.values())).astype(np.float32)), torch.tensor([n for n, _ in boxes])
