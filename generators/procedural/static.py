"""The static world: a raster in canonical coordinates from which every frame looks its voxels up.

A cell holds the class of the ground and two columns of layers: what stands on the ground, and what
hangs above it (canopies, roofs, signal heads). Thin things are kept as points as well, so that a coarse
grid shows each of them in exactly one voxel column.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dyncity.grid import GridSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.roadmap import Floats

CLASS = {name: NATIVE.id(name) for name in NATIVE.classes}
DRIVABLE = ("road", "lane_marking", "crosswalk", "parking")


class Layers:
    """Heights as layers of a grid, and columns of layers as numbers into a table.

    Attributes:
        ground: the layer that holds the road surface (z just below 0).
        table: uint8 ``[classes * nz * nz, nz]`` column by number (``column``); column 0 is empty.
    """

    def __init__(self, grid: GridSpec) -> None:
        self.count, self.size, self.origin = grid.shape[2], grid.voxel_size[2], grid.origin[2]
        self.ground = int(np.floor((-0.01 - self.origin) / self.size))
        n = self.count
        z = np.arange(n)
        inside = np.logical_and(z >= z[:, None, None], z <= z[None, :, None])
        self.table = (np.arange(len(NATIVE), dtype=np.uint8)[:, None, None, None] * inside).reshape(-1, n)

    def lowest(self, z: float | Floats) -> NDArray[np.int64]:
        """The first layer above ground that something with its underside at z fills."""
        layer = np.ceil((np.asarray(z) - self.origin) / self.size - 0.75)
        return np.maximum(layer, self.ground + 1).astype(np.int64)

    def highest(self, z: float | Floats) -> NDArray[np.int64]:
        """The last layer that something with its top at z fills; a quarter of a layer is forgiven."""
        return np.floor((np.asarray(z) - self.origin) / self.size - 0.25).astype(np.int64)

    def column(self, name: str, z0: float | Floats, z1: float | Floats) -> NDArray[np.int32]:
        """Numbers of the columns of a class from z0 to z1 (metres); at least one layer if it fits."""
        lo = self.lowest(z0)
        hi = np.minimum(np.maximum(self.highest(z1), lo), self.count - 1)
        number = (CLASS[name] * self.count + lo) * self.count + hi
        return np.where((lo < self.count) & (np.asarray(z1) > np.asarray(z0)), number, 0).astype(np.int32)


@dataclass
class Thin:
    """Things thinner than a voxel: canonical points and the columns that they fill."""

    uv: list[tuple[float, float]] = field(default_factory=list)
    standing: list[int] = field(default_factory=list)
    hanging: list[int] = field(default_factory=list)

    def add(self, u: float, v: float, standing: int, hanging: int = 0) -> None:
        """Add one thing at (u, v)."""
        self.uv.append((u, v))
        self.standing.append(standing)
        self.hanging.append(hanging)


class StaticWorld:
    """Ground, objects and thin things of a rectangle of the city.

    Args:
        grid: the grid whose layers and voxel size decide the detail.
        lo, hi: corners of the rectangle in canonical coordinates, metres.
    """

    def __init__(self, grid: GridSpec, lo: Floats, hi: Floats) -> None:
        self.layers = Layers(grid)
        self.voxel = max(grid.voxel_size[:2])
        self.res = min(0.4, *grid.voxel_size[:2])
        self.lo = np.floor(lo / self.res) * self.res
        self._corner = (float(self.lo[0]), float(self.lo[1]))
        self.shape = tuple(int(n) for n in np.ceil((hi - self.lo) / self.res))
        self.hi = self.lo + np.array(self.shape) * self.res
        self.ground = np.full(self.shape, CLASS["terrain"], np.uint8)
        self.standing = np.zeros(self.shape, np.int32)
        self.hanging = np.zeros(self.shape, np.int32)
        self.thin = Thin()
        self._trees: list[tuple[float, float, float, float, float]] = []

    def sees(self, lo: tuple[float, float], hi: tuple[float, float]) -> bool:
        """Whether a canonical rectangle touches the raster."""
        return bool(hi[0] > self.lo[0] and hi[1] > self.lo[1] and lo[0] < self.hi[0] and lo[1] < self.hi[1])

    def window(self, u0: float, v0: float, u1: float, v1: float) -> tuple[slice, slice]:
        """Slices of the cells whose centres lie in a canonical rectangle."""
        (lu, lv), (nu, nv), res = self._corner, self.shape, self.res
        a, c = (min(max(int((u - lu) / res + 0.499), 0), nu) for u in (u0, u1))
        b, d = (min(max(int((v - lv) / res + 0.499), 0), nv) for v in (v0, v1))
        return slice(a, c), slice(b, d)

    def coordinates(self, window: tuple[slice, slice]) -> tuple[Floats, Floats]:
        """Cell centres of a window as ``[n, 1]`` u and ``[1, m]`` v."""
        u = self.lo[0] + (np.arange(window[0].start, window[0].stop) + 0.5) * self.res
        v = self.lo[1] + (np.arange(window[1].start, window[1].stop) + 0.5) * self.res
        return u[:, None], v[None, :]

    def pave(self, name: str, u0: float, v0: float, u1: float, v1: float) -> None:
        """Give the ground of a rectangle a class."""
        self.ground[self.window(u0, v0, u1, v1)] = CLASS[name]

    def fill(self, name: str, u0: float, v0: float, u1: float, v1: float, height: float) -> None:
        """A solid thing on a rectangle, at least a voxel thick so that no lookup misses it."""
        grow_u, grow_v = max(0.0, self.voxel - (u1 - u0)) / 2, max(0.0, self.voxel - (v1 - v0)) / 2
        window = self.window(u0 - grow_u, v0 - grow_v, u1 + grow_u, v1 + grow_v)
        self.standing[window] = self.layers.column(name, 0.0, height)

    def building(self, u0: float, v0: float, u1: float, v1: float, height: float, pitch: float = 0.0) -> None:
        """A hollow building: walls, no floor, a roof (``pitch`` its slope) where the grid reaches it."""
        if not self.sees((u0, v0), (u1, v1)):
            return
        wall = max(0.3, self.voxel)
        inner = self.window(u0 + wall, v0 + wall, u1 - wall, v1 - wall)
        outer = self.window(u0, v0, u1, v1)
        column = self.layers.column("building", 0.0, height)
        self.standing[outer] = np.maximum(self.standing[outer], column)
        self.ground[outer] = CLASS["building"]
        self.standing[inner] = 0
        self.ground[inner] = 0
        u, v = self.coordinates(outer)
        if u1 - u0 > v1 - v0:
            rise = ((v1 - v0) / 2 - np.abs(v - (v0 + v1) / 2)) * pitch + 0 * u
        else:
            rise = ((u1 - u0) / 2 - np.abs(u - (u0 + u1) / 2)) * pitch + 0 * v
        layer = self.layers.highest(height + rise)
        roof = (CLASS["building"] * self.layers.count + layer) * self.layers.count + layer
        self.hanging[outer] = np.where(layer < self.layers.count, roof, 0)

    def party_wall(self, u0: float, v0: float, u1: float, v1: float, low: float, high: float) -> None:
        """Open the wall between two buildings up to the lower one's roof."""
        window = self.window(u0, v0, u1, v1)
        self.standing[window] = self.layers.column("building", low, high)
        self.ground[window] = 0

    def tree(self, u: float, v: float, radius: float, base: float, top: float) -> None:
        """A tree with a canopy from ``base`` to ``top`` metres; ``plant`` draws all of them at once."""
        self._trees.append((u, v, radius, base, top))

    def plant(self) -> None:
        """Draw the trees: trunks (thin) below ellipsoid canopies."""
        if not self._trees:
            return
        u, v, radius, base, top = np.array(self._trees).T
        span = np.arange(int(2 * radius.max() / self.res) + 2)
        i = (np.floor((u - radius - self.lo[0]) / self.res)[:, None] + span).astype(np.int64)[:, :, None]
        j = (np.floor((v - radius - self.lo[1]) / self.res)[:, None] + span).astype(np.int64)[:, None, :]
        du = self.lo[0] + (i + 0.5) * self.res - u[:, None, None]
        dv = self.lo[1] + (j + 0.5) * self.res - v[:, None, None]
        inside = 1 - (du**2 + dv**2) / radius[:, None, None] ** 2
        within = (inside > 0.02) & (i >= 0) & (i < self.shape[0]) & (j >= 0) & (j < self.shape[1])
        tree, a, b = np.nonzero(within)
        half = np.sqrt(inside[tree, a, b]) * (top - base)[tree] / 2
        middle = (top + base)[tree] / 2
        crown = self.layers.column("vegetation", middle - half, middle + half)
        self.hanging[i[tree, a, 0], j[tree, 0, b]] = crown
        self.thin.uv += list(zip(u.tolist(), v.tolist(), strict=True))
        self.thin.standing += self.layers.column("trunk", np.zeros_like(base), base + 0.3).tolist()
        self.thin.hanging += self.layers.column("vegetation", base, top).tolist()
        self._trees.clear()

    def pole(self, u: float, v: float, height: float, head: str = "", z0: float = 0.0, z1: float = 0.0) -> None:
        """A pole, with a sign or signal head from z0 to z1 where ``head`` names its class."""
        hanging = int(self.layers.column(head, z0, z1)) if head else 0
        self.thin.add(u, v, int(self.layers.column("pole", 0.0, height)), hanging)

    def small(self, name: str, u: float, v: float, height: float) -> None:
        """A bin, a cone or another thing of less than a voxel."""
        self.thin.add(u, v, int(self.layers.column(name, 0.0, height)))

    def cells(self, uv: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cell numbers of canonical points ``[..., 2]``, clipped to the raster."""
        scaled = np.floor((uv - self.lo) / self.res).astype(np.int64)
        return (
            np.clip(scaled[..., 0], 0, self.shape[0] - 1),
            np.clip(scaled[..., 1], 0, self.shape[1] - 1),
        )

    def clear(self, uv: Floats, radius: float) -> None:
        """Make way: road under canonical points ``[n, 2]`` and nothing standing within ``radius``."""
        for u, v in uv:
            window = self.window(u - radius, v - radius, u + radius, v + radius)
            cu, cv = self.coordinates(window)
            near = (cu - u) ** 2 + (cv - v) ** 2 < radius**2
            drivable = np.isin(self.ground[window], [CLASS[name] for name in DRIVABLE])
            self.ground[window][near & ~drivable] = CLASS["road"]
            self.standing[window][near] = 0
            self.hanging[window][near] = 0
        if self.thin.uv and len(uv):
            points = np.array(self.thin.uv)
            far = ((points[:, None] - uv[None]) ** 2).sum(axis=-1).min(axis=1) > radius**2
            keep = np.flatnonzero(far)
            self.thin = Thin(
                [self.thin.uv[k] for k in keep],
                [self.thin.standing[k] for k in keep],
                [self.thin.hanging[k] for k in keep],
            )
