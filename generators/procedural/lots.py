"""What stands between the streets: rows of buildings, houses with gardens, parks, halls, car parks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from generators.procedural.roadmap import Block, RoadMap
from generators.procedural.static import StaticWorld


@dataclass
class Parked:
    """A parked vehicle: canonical position and direction (unit vector), and its kind."""

    uv: tuple[float, float]
    direction: tuple[float, float]
    kind: str


@dataclass
class Lots:
    """Fills blocks; collects the vehicles that park on them in ``parked``."""

    world: StaticWorld
    rng: np.random.Generator
    parked: list[Parked] = field(default_factory=list)

    def fill(self, city: RoadMap) -> None:
        """Build on every block that the raster touches."""
        for block in city.blocks:
            if self.world.sees(block.lo, block.hi):
                getattr(self, f"_{block.kind}")(block)

    def _rows(self, block: Block, depth: float) -> list[tuple[int, int, float, float]]:
        """Strips of lots along the four sides: (axis along, side, from, to); corners go to axis 0."""
        (u0, v0), (u1, v1) = block.lo, block.hi
        rows = [(0, -1, u0, u1), (0, 1, u0, u1)]
        if v1 - v0 > 2 * depth + 12:
            rows += [(1, -1, v0 + depth, v1 - depth), (1, 1, v0 + depth, v1 - depth)]
        return rows

    def _place(
        self, block: Block, row: tuple[int, int], along: tuple[float, float], into: tuple[float, float]
    ) -> tuple[float, float, float, float]:
        """(u0, v0, u1, v1) of a lot: ``along`` its row and ``into`` metres from the block's edge."""
        axis, side = row
        edge = (block.lo if side < 0 else block.hi)[1 - axis]
        across = sorted((edge - side * into[0], edge - side * into[1]))
        a = sorted(along)
        return (a[0], across[0], a[1], across[1]) if axis == 0 else (across[0], a[0], across[1], a[1])

    def _downtown(self, block: Block) -> None:
        rng, world = self.rng, self.world
        world.pave(str(rng.choice(["terrain", "parking", "sidewalk"])), *block.lo, *block.hi)
        # Most blocks are built up to the middle, the others keep a courtyard.
        middle = (block.hi[1] - block.lo[1]) / 2
        depth = middle + world.voxel / 2 if rng.random() < 0.75 else min(float(rng.uniform(14, 22)), middle)
        depth = min(depth, 34.0, (block.hi[0] - block.lo[0]) / 2 - 3)
        low, high = self._built_rows(block, depth, (5.6, 7, 10, 13, 16, 20), (0.0, 0.0, 1.5))
        if depth > middle:
            self._open_backs(low, high, (block.lo[1] + block.hi[1]) / 2)
        self._garden(block, depth, 0.008)

    def _terraced(self, block: Block) -> None:
        """Houses wall to wall with front gardens and a shared green behind."""
        depth = min(float(self.rng.uniform(14, 17)), (block.hi[1] - block.lo[1]) / 2)
        self._built_rows(block, depth, (5.6, 6.0, 6.4, 7.5, 8.0, 9.0), (2.0, 3.0, 4.0))
        self._garden(block, depth, 0.008)

    def _open_backs(self, low: list[tuple[float, ...]], high: list[tuple[float, ...]], middle: float) -> None:
        """Where two rows (from, to, height) stand back to back, keep of their wall what rises above a roof."""
        wall = max(0.3, self.world.voxel)
        for a in low:
            for b in high:
                lo, hi = max(a[0], b[0]) + wall, min(a[1], b[1]) - wall
                if hi > lo:
                    heights = min(a[2], b[2]), max(a[2], b[2])
                    self.world.party_wall(lo, middle - wall / 2, hi, middle + wall / 2, *heights)

    def _built_rows(
        self, block: Block, depth: float, heights: tuple[float, ...], setbacks: tuple[float, ...]
    ) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
        """Buildings side by side along the four sides of a block.

        Returns:
            (from, to, height) of those on the lower and on the upper side that runs along u.
        """
        built: dict[tuple[int, int], list[tuple[float, ...]]] = {}
        rng, world = self.rng, self.world
        wall = max(0.3, world.voxel)
        for axis, side, lo, hi in self._rows(block, depth):
            at, neighbour = lo, 0.0
            setback = float(rng.choice(setbacks))
            while hi - at > 9:
                width = float(rng.uniform(13, 28))
                if hi - at - width < 9:
                    width = hi - at
                box = self._place(block, (axis, side), (at, at + width), (setback, depth))
                height = float(rng.choice(heights, p=(0.1, 0.2, 0.26, 0.2, 0.15, 0.09)))
                world.building(*box, height)
                built.setdefault((axis, side), []).append((at, at + width, height))
                if neighbour:
                    # Behind a shared facade only what rises above the lower roof is a wall.
                    shared = self._place(block, (axis, side), (at, at + wall), (setback + wall, depth - wall))
                    world.party_wall(*shared, min(height, neighbour), max(height, neighbour))
                adjoining = rng.random() > 0.3
                neighbour = height if adjoining else 0.0
                at += width - wall if adjoining else width + float(rng.uniform(2.5, 6))
        return built.get((0, -1), []), built.get((0, 1), [])

    def _garden(self, block: Block, border: float, density: float) -> None:
        """Trees in the middle of a block, ``density`` a square metre."""
        (u0, v0), (u1, v1) = block.lo, block.hi
        width, height = u1 - u0 - 2 * border - 4, v1 - v0 - 2 * border - 4
        if width <= 0 or height <= 0:
            return
        for draw in self.rng.random((self.rng.poisson(width * height * density), 5)):
            u, v = u0 + border + 2 + draw[0] * width, v0 + border + 2 + draw[1] * height
            self._tree(u, v, draw)

    def _tree(self, u: float, v: float, draw: np.ndarray) -> None:
        if self.world.sees((u - 3, v - 3), (u + 3, v + 3)):
            base = 1.8 + draw[3]
            self.world.tree(u, v, 1.3 + 1.3 * draw[2], base, base + 1.8 + 3 * draw[4])

    def _suburb(self, block: Block) -> None:
        rng = self.rng
        if rng.random() < 0.5:
            self._terraced(block)
            return
        deep = (block.hi[1] - block.lo[1]) / 2
        depth = min(deep - 2, 26.0)
        edging = str(rng.choice(["vegetation", "fence", "none"], p=[0.4, 0.3, 0.3]))
        for axis, side, lo, hi in self._rows(block, depth):
            row, at = (axis, side), lo
            while hi - at > 12:
                width = float(rng.uniform(14, 21))
                if hi - at - width < 12:
                    width = hi - at
                self._house(block, row, (at, at + width), depth, edging)
                at += width

    def _house(self, block: Block, row: tuple[int, int], along: tuple[float, float], depth: float, edging: str) -> None:
        rng, world = self.rng, self.world
        lo, hi = along
        if not world.sees(*self._corners(self._place(block, row, along, (0, depth)))):
            return
        front = float(rng.uniform(4, 7))
        drive = 3.2 if hi - lo > 14.5 else 0.0
        length = min(hi - lo - drive - 3.2, float(rng.uniform(8, 13)))
        start = lo + drive + 1.6 + float(rng.uniform(0, 1)) * (hi - lo - drive - 3.2 - length)
        back = min(front + float(rng.uniform(7, 10)), depth - 1.5)
        world.building(
            *self._place(block, row, (start, start + length), (front, back)),
            float(rng.uniform(3.4, 6.4)),
            float(rng.uniform(0.3, 0.6)),
        )
        if drive:
            world.pave("parking", *self._place(block, row, (lo + 0.4, lo + drive), (0, front + 6)))
            if rng.random() < 0.6:
                box = self._place(block, row, (lo + 0.9, lo + drive - 0.5), (front - 1.2, front + 3.4))
                direction = (0.0, float(row[1])) if row[0] == 0 else (float(row[1]), 0.0)
                self.parked.append(Parked(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), direction, "car"))
        if edging != "none":
            height = 1.3 if edging == "vegetation" else 1.1
            world.fill(edging, *self._place(block, row, (lo + drive + 0.6, hi - 0.4), (0.5, 0.9)), height)
            world.fill(edging, *self._place(block, row, (hi - 0.4, hi), (0.5, depth)), height)
        for draw in rng.random((rng.poisson(1.2), 5)):
            box = self._place(
                block,
                row,
                (lo + drive + 1.5 + draw[0] * (hi - lo - drive - 3), hi),
                (2.6 if draw[1] < 0.3 else min(back + 3, depth), depth),
            )
            self._tree(box[0], box[1] if row[1] < 0 or row[0] == 1 else box[3], draw)

    @staticmethod
    def _corners(box: tuple[float, float, float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
        return (box[0], box[1]), (box[2], box[3])

    def _park(self, block: Block) -> None:
        (u0, v0), (u1, v1) = block.lo, block.hi
        rng, world = self.rng, self.world
        mu, mv = u0 + (u1 - u0) * rng.uniform(0.35, 0.65), v0 + (v1 - v0) * rng.uniform(0.35, 0.65)
        world.pave("sidewalk", u0, mv - 1.2, u1, mv + 1.2)
        world.pave("sidewalk", mu - 1.2, v0, mu + 1.2, v1)
        if rng.random() < 0.6:
            for a, b in ((u0 + 0.6, mu - 2), (mu + 2, u1 - 0.6)):
                world.fill("vegetation", a, v0 + 0.5, b, v0 + 1.1, 1.2)
                world.fill("vegetation", a, v1 - 1.1, b, v1 - 0.5, 1.2)
        for draw in rng.random((int((u1 - u0) * (v1 - v0) * rng.uniform(0.006, 0.016)), 5)):
            u, v = u0 + 3 + draw[0] * (u1 - u0 - 6), v0 + 3 + draw[1] * (v1 - v0 - 6)
            if abs(u - mu) > 2 and abs(v - mv) > 2:
                self._tree(u, v, draw)
        for at in np.arange(u0 + 5, u1 - 5, 14.0):
            if abs(at - mu) > 3:
                world.fill("other_object", float(at), mv + 1.5, float(at) + 1.6, mv + 2.1, 0.9)

    def _industrial(self, block: Block) -> None:
        (u0, v0), (u1, v1) = block.lo, block.hi
        rng, world = self.rng, self.world
        world.pave("parking", u0 + 0.5, v0 + 0.5, u1 - 0.5, v1 - 0.5)
        for va, vb in ((v0, v0 + 0.4), (v1 - 0.4, v1)):
            gate = float(rng.uniform(u0 + 8, u1 - 8))
            world.fill("fence", u0, va, gate - 4, vb, 2.0)
            world.fill("fence", gate + 4, va, u1, vb, 2.0)
        for ua, ub in ((u0, u0 + 0.4), (u1 - 0.4, u1)):
            world.fill("fence", ua, v0, ub, v1, 2.0)
        middle = v0 + (v1 - v0) * float(rng.uniform(0.42, 0.58))
        for low, high in ((v0 + rng.uniform(4, 7), middle - 3), (middle + 3, v1 - rng.uniform(4, 7))):
            at = u0 + 5
            while u1 - at > 18:
                width = min(float(rng.uniform(26, 48)), u1 - at - 5)
                world.building(at, low, at + width, high, float(rng.choice([5.0, 7.0, 9.0])))
                if rng.random() < 0.7:
                    world.fill("other_object", at, low - 3.5, at + 6, low - 1.1, 2.6)
                at += width + float(rng.uniform(8, 14))
                kind = str(rng.choice(["truck", "trailer", "construction_vehicle", "car"]))
                self.parked.append(Parked((at - 4.0, (low + high) / 2), (0.0, 1.0), kind))

    def _lot(self, block: Block) -> None:
        (u0, v0), (u1, v1) = block.lo, block.hi
        rng, world = self.rng, self.world
        world.pave("parking", u0 + 1.5, v0 + 1.5, u1 - 1.5, v1 - 1.5)
        for row, v in enumerate(np.arange(v0 + 5, v1 - 5, 8.5)):
            for u in np.arange(u0 + 4, u1 - 4, 2.9):
                if rng.random() < 0.4:
                    self.parked.append(Parked((float(u), float(v)), (0.0, 1.0 if row % 2 else -1.0), "car"))
        for draw in rng.random((12, 5)):
            self._tree(
                u0 + 3 + draw[0] * (u1 - u0 - 6), v0 + 0.9 if draw[1] < 0.5 else v1 - 0.9, draw * (1, 1, 0, 1, 1)
            )
        if rng.random() < 0.5:
            world.fill("vegetation", u0 + 0.5, v0 + 0.4, u1 - 8, v0 + 1.0, 1.1)
