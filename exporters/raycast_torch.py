"""The march of ``exporters.raycast`` with torch: all rays take their steps together, on a CPU or a GPU.

Every sum, product and quotient is that of the compiled loop, in float64 and in its order, so that the results are the
same to the last bit. Roots are taken by numpy: torch's differ in that bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyncity.errors import InputError

_FREE, _OCCUPIED, _BORDER = 0, 1, 2
_AT_ONCE = 2**22  # rays: some 2 GB
_LOOK_EVERY = 16  # steps between looks at which rays go on: each waits for the device


def march(
    occupied: NDArray[np.bool_],
    lower: NDArray[np.float64],
    size: NDArray[np.float64],
    starts: NDArray[np.float64],
    rays: NDArray[np.float64],
    min_range: float,
    max_range: float,
    device: str,
) -> tuple[NDArray[Any], ...]:
    """The arrays of ``RayHits``, in its order.

    Args:
        occupied: ``[x, y, z]``.
        lower, size: ``[3]`` lower corner of the grid and edges of a voxel, metres.
        starts: ``[n, 3]`` or ``[1, 3]`` metres.
        rays: ``[n, 3]`` directions.
        min_range, max_range: metres.
        device: what torch computes on.

    Raises:
        InputError: there is no such device.
    """
    padded = np.pad(np.where(occupied, np.uint8(_OCCUPIED), np.uint8(_FREE)), 1, constant_values=_BORDER)
    try:
        cells = torch.from_numpy(padded).to(device).reshape(-1)
    except (RuntimeError, AssertionError) as error:
        raise InputError("device", f"found {device!r} ({error})".splitlines()[0], "use cpu, cuda or cuda:N") from None
    seen = torch.zeros_like(cells, dtype=torch.bool)
    x, y, z = rays.T
    unit = rays / np.sqrt(x * x + y * y + z * z)[:, None]
    parts = [
        _march(
            cells,
            seen,
            padded.shape,
            torch.from_numpy(lower).to(device),
            torch.from_numpy(size).to(device),
            torch.from_numpy(starts[first : first + _AT_ONCE] if len(starts) > 1 else starts).to(device),
            torch.from_numpy(unit[first : first + _AT_ONCE]).to(device),
            min_range,
            max_range,
        )
        for first in range(0, max(1, len(rays)), _AT_ONCE)
    ]
    for number, part in enumerate(parts):
        part[0].add_(number * _AT_ONCE)
    columns = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
    inner = seen.reshape(padded.shape)[1:-1, 1:-1, 1:-1].contiguous().cpu().numpy()
    return (*columns, inner)


def _march(
    cells: Tensor,
    seen: Tensor,
    shape: tuple[int, ...],
    lower: Tensor,
    size: Tensor,
    starts: Tensor,
    unit: Tensor,
    min_range: float,
    max_range: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``march`` for some rays; voxels that they see are marked in ``seen``, flat as ``cells``."""
    wide, deep = shape[1] * shape[2], shape[2]
    inner = torch.tensor([n - 2 for n in shape], dtype=torch.float64, device=cells.device)
    strides = torch.tensor([wide, deep, 1], device=cells.device)
    speed = unit / size
    start = ((starts - lower) / size).expand_as(speed)
    metres, axis, inside = _entry(start, speed, inner)
    inside &= metres <= max_range
    ray = inside.nonzero()[:, 0]
    speed, start, metres, axis = speed[ray], start[ray], metres[ray], axis[ray]
    voxel = torch.minimum((start + speed * metres[:, None]).floor().clamp(min=0), inner - 1)
    at = ((voxel.long() + 1) * strides).sum(dim=1)
    step = torch.where(speed > 0, 1.0, -1.0).double()
    jump = step.long() * strides
    runs = speed != 0  # what runs along a face never gets to one: it is infinitely far
    per = torch.where(runs, 1 / torch.where(runs, speed, 1.0), 1.0)
    origin = torch.where(runs, start, -torch.inf)
    following = voxel + (speed > 0)
    face = (following - origin) * per

    hits = [(ray[:0], at[:0], metres[:0], axis[:0])]
    going = torch.ones_like(ray, dtype=torch.bool)
    for taken in range(int(inner.sum()) + len(shape) + 1):
        if taken % _LOOK_EVERY == 0:
            keep = going.nonzero()[:, 0]
            if not len(keep):
                break
            ray, metres, axis, at, going = ray[keep], metres[keep], axis[keep], at[keep], going[keep]
            step, jump, per, origin = step[keep], jump[keep], per[keep], origin[keep]
            following, face = following[keep], face[keep]
        found = cells[at]
        going = going & (found != _BORDER) & (metres <= max_range)
        seen[at[going]] = True
        hit = going & (found == _OCCUPIED) & (metres >= min_range) & (axis >= 0)
        some = hit.nonzero()[:, 0]
        hits.append((ray[some], at[some], metres[some], axis[some]))
        going = going & ~hit
        first = (face[:, 0] <= face[:, 1]) & (face[:, 0] <= face[:, 2])
        axis = torch.where(first, 0, torch.where(face[:, 1] <= face[:, 2], 1, 2))
        chosen = axis[:, None]
        metres = face.gather(1, chosen)[:, 0]
        at = torch.where(going, at + jump.gather(1, chosen)[:, 0], 0)  # a corner of the border: nothing is there
        moved = following.gather(1, chosen) + step.gather(1, chosen)
        following = following.scatter(1, chosen, moved)
        face = face.scatter(1, chosen, (moved - origin.gather(1, chosen)) * per.gather(1, chosen))

    ray, at, metres, axis = (torch.cat(column) for column in zip(*hits, strict=True))
    order = ray.argsort()
    ray, at, metres, axis = ray[order], at[order], metres[order], axis[order]
    voxel = torch.stack([at // wide, at // deep % shape[1], at % deep], dim=1) - 1
    toward = unit[ray]
    inward = torch.zeros_like(toward)
    inward.scatter_(1, axis[:, None], torch.where(toward.gather(1, axis[:, None]) > 0, 1.0, -1.0).double())
    points = starts.expand_as(unit)[ray] + toward * metres[:, None]
    return ray, voxel, metres, points, inward


def _entry(start: Tensor, speed: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Metres at which rays enter the grid, the axis of the face that they enter by, -1 inside, and which do at all.

    Args:
        start, speed: ``[n, 3]`` voxels, and voxels a metre.
        shape: ``[3]`` of the grid.
    """
    runs = speed != 0
    divisor = torch.where(runs, speed, 1.0)
    first, last = -start / divisor, (shape - start) / divisor
    within = (start >= 0) & (start < shape)
    enters = torch.where(runs, torch.minimum(first, last), torch.where(within, -torch.inf, torch.inf))
    leaves = torch.where(runs, torch.maximum(first, last), torch.where(within, torch.inf, -torch.inf))
    metres = enters.amax(dim=1).clamp(min=0.0)
    axis = torch.where(metres == enters[:, 0], 0, torch.where(metres == enters[:, 1], 1, 2))
    return metres, torch.where(metres == 0.0, -1, axis), metres < leaves.amin(dim=1)
