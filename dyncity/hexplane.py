"""The HexPlane: six feature planes of a clip, and the padded rollout that lays them into one map.

The rollout (paper section 4.1) has rows ``[x | t | z]`` and columns ``[y | z | t]``::

    xy    xz   tx^T
    ty    tz   0
    yz^T  0    0
"""

from __future__ import annotations

import torch
from torch import Tensor

Planes = dict[str, Tensor]
PLANES = ("xy", "xz", "yz", "tx", "ty", "tz")


def plane_shapes(latent: tuple[int, int, int, int]) -> dict[str, tuple[int, int]]:
    """Height and width of each plane of a latent clip of shape (t, x, y, z)."""
    size = dict(zip("txyz", latent, strict=True))
    return {plane: (size[plane[0]], size[plane[1]]) for plane in PLANES}


def rollout_shape(latent: tuple[int, int, int, int]) -> tuple[int, int]:
    """Height and width of the padded rollout of a latent clip of shape (t, x, y, z)."""
    t, x, y, z = latent
    return x + t + z, y + z + t


def _places(latent: tuple[int, int, int, int]) -> dict[str, tuple[slice, slice, bool]]:
    """For each plane: its rows, its columns, whether it lies transposed."""
    t, x, y, z = latent
    row_x, row_t, row_z = slice(0, x), slice(x, x + t), slice(x + t, x + t + z)
    col_y, col_z, col_t = slice(0, y), slice(y, y + z), slice(y + z, y + z + t)
    return {
        "xy": (row_x, col_y, False),
        "xz": (row_x, col_z, False),
        "tx": (row_x, col_t, True),
        "ty": (row_t, col_y, False),
        "tz": (row_t, col_z, False),
        "yz": (row_z, col_y, True),
    }


def rollout(planes: Planes) -> Tensor:
    """Six planes ``[b, c, h, w]`` -> padded rollout ``[b, c, x + t + z, y + z + t]``."""
    (x, y), (t, z) = planes["xy"].shape[-2:], planes["tz"].shape[-2:]
    latent = (t, x, y, z)
    b, c = planes["xy"].shape[:2]
    square = planes["xy"].new_zeros(b, c, *rollout_shape(latent))
    for plane, (rows, columns, transposed) in _places(latent).items():
        square[:, :, rows, columns] = planes[plane].mT if transposed else planes[plane]
    return square


def planes_of(square: Tensor, latent: tuple[int, int, int, int]) -> Planes:
    """The inverse of ``rollout``: ``[b, c, h, w]`` -> six planes."""
    planes = {}
    for plane, (rows, columns, transposed) in _places(latent).items():
        block = square[:, :, rows, columns]
        planes[plane] = (block.mT if transposed else block).contiguous()
    return planes


def rollout_mask(latent: tuple[int, int, int, int]) -> Tensor:
    """float32 ``[1, 1, h, w]``: 1 where a plane lies, 0 in the padding."""
    mask = torch.zeros(1, 1, *rollout_shape(latent))
    for rows, columns, _ in _places(latent).values():
        mask[:, :, rows, columns] = 1
    return mask
