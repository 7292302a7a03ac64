"""GridSpec: where the voxels of a grid lie, in metres and in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.errors import InputError


@dataclass(frozen=True, slots=True)
class GridSpec:
    """An axis-aligned voxel grid in a frame with x forward, y left, z up (metres, right-handed).

    The frame is the vehicle's: its origin lies ON THE GROUND under the ego vehicle, so the road
    surface next to it is at z = 0. Exporters move the origin where a format wants the LiDAR.

    Attributes:
        shape: number of voxels along x, y, z.
        voxel_size: edge lengths along x, y, z in metres.
        origin: the lower corner (not the centre) of voxel (0, 0, 0), metres.
        frame_rate: frames a second (Hz).
    """

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    frame_rate: float

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(int(n) != n or n < 1 for n in self.shape):
            raise InputError("grid.shape", f"found {self.shape}", "give three whole numbers above 0")
        if len(self.voxel_size) != 3 or not all(0 < s < float("inf") for s in self.voxel_size):
            raise InputError("grid.voxel_size", f"found {self.voxel_size}", "give three lengths in metres, above 0")
        if len(self.origin) != 3 or not all(np.isfinite(self.origin)):
            raise InputError("grid.origin", f"found {self.origin}", "give three finite coordinates in metres")
        if not 0 < self.frame_rate < float("inf"):
            raise InputError("grid.frame_rate", f"found {self.frame_rate}", "give a rate in frames a second, above 0")

    def __str__(self) -> str:
        """As messages say it."""
        shape, size = ("x".join(f"{v:g}" for v in values) for values in (self.shape, self.voxel_size))
        return f"{shape} voxels of {size} m from {', '.join(f'{o:g}' for o in self.origin)} m at {self.frame_rate:g} Hz"

    @property
    def voxels(self) -> int:
        """Number of voxels of one frame."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def upper(self) -> tuple[float, float, float]:
        """The upper corner of the grid, metres: the range is [origin, upper)."""
        x, y, z = (o + n * s for o, n, s in zip(self.origin, self.shape, self.voxel_size, strict=True))
        return (x, y, z)

    def axis(self, axis: int) -> NDArray[np.float64]:
        """Voxel centres along one axis (0 x, 1 y, 2 z), ``[n]`` in metres."""
        steps = np.arange(self.shape[axis], dtype=np.float64) + 0.5
        return np.asarray(self.origin[axis] + steps * self.voxel_size[axis], np.float64)

    def centers(self) -> NDArray[np.float64]:
        """Centres of all voxels, ``[x, y, z, 3]`` in metres."""
        return np.stack(np.meshgrid(self.axis(0), self.axis(1), self.axis(2), indexing="ij"), axis=-1)

    def index(self, points: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The voxel that each point lies in.

        Args:
            points: ``[..., 3]`` in metres, in the frame of the grid.

        Returns:
            ``[..., 3]`` voxel indices (meaningless where outside) and ``[...]`` whether inside.
        """
        scaled = np.floor((np.asarray(points, np.float64) - self.origin) / self.voxel_size)
        inside = np.asarray(((scaled >= 0) & (scaled < self.shape)).all(axis=-1), np.bool_)
        return np.where(inside[..., None], scaled, 0).astype(np.int64), inside

    def padded(self, margin: tuple[int, int]) -> GridSpec:
        """The grid with ``margin`` more voxels on each side along x and along y."""
        (mx, my), (nx, ny, nz) = margin, self.shape
        (ox, oy, oz), (sx, sy, _) = self.origin, self.voxel_size
        return GridSpec(
            (nx + 2 * mx, ny + 2 * my, nz),
            self.voxel_size,
            (ox - mx * sx, oy - my * sy, oz),
            self.frame_rate,
        )
