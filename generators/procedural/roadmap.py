"""Street layout: streets, junctions and blocks in canonical coordinates, and the warp that bends them.

Canonical coordinates (u, v) are those in which streets are axis-aligned: axis 0 streets run along u,
axis 1 streets along v. A ``Warp`` takes them to metres on the plane, which is where curves and oblique
side streets come from, and back, which is how voxels find their street. Traffic keeps to the right.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

PARKING_WIDTH = 2.4
CROSSWALK = (1.0, 4.0)
STOP_LINE = 5.0
STYLES = ("downtown", "suburb", "industrial", "mixed")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Warp:
    """The map between canonical and real coordinates: x = u + shear v, y = v + bend(x).

    ``bend`` has the slope ``amount tanh((x - center) / length)``: a street that runs straight, curves,
    and runs straight again. Both directions are exact and keep widths to a few percent.
    """

    shear: float = 0.0
    amount: float = 0.0
    length: float = 30.0
    center: float = 0.0

    def _bend(self, x: Floats) -> Floats:
        z = np.abs((x - self.center) / self.length)
        return self.amount * self.length * (z + np.log1p(np.exp(-2 * z)))

    def to_real(self, uv: Floats) -> Floats:
        """``[..., 2]`` canonical (u, v) -> ``[..., 2]`` metres (x, y)."""
        x = uv[..., 0] + self.shear * uv[..., 1]
        return np.stack([x, uv[..., 1] + self._bend(x)], axis=-1)

    def to_canonical(self, xy: Floats) -> Floats:
        """``[..., 2]`` metres (x, y) -> ``[..., 2]`` canonical (u, v)."""
        v = xy[..., 1] - self._bend(xy[..., 0])
        return np.stack([xy[..., 0] - self.shear * v, v], axis=-1)


@dataclass(frozen=True)
class Street:
    """A street along one canonical axis.

    Attributes:
        axis: 0 along u, 1 along v.
        center: its coordinate across.
        lanes: lanes on the (minus, plus) side of the centre line.
        parking: whether there is a parking lane on the (minus, plus) side.
        lane_width, sidewalk: metres.
        lo, hi: where it begins and ends along its axis.
    """

    axis: int
    center: float
    lanes: tuple[int, int]
    parking: tuple[bool, bool]
    lane_width: float
    sidewalk: float
    lo: float
    hi: float

    def half(self, side: int) -> float:
        """Metres from the centre line to the kerb on a side (-1 or +1)."""
        k = (side + 1) // 2
        return self.lanes[k] * self.lane_width + PARKING_WIDTH * self.parking[k]

    def edge(self, side: int) -> float:
        """Coordinate across of the kerb."""
        return self.center + side * self.half(side)

    def outer(self, side: int) -> float:
        """Coordinate across of the outer edge of the sidewalk."""
        return self.center + side * (self.half(side) + self.sidewalk)

    def direction(self, side: int) -> int:
        """The way that traffic on a side runs along the axis: right-hand traffic."""
        return -side if self.axis == 0 else side

    def side(self, direction: int) -> int:
        """The side on which traffic in a direction runs."""
        return -direction if self.axis == 0 else direction

    def lane(self, side: int, index: int) -> float:
        """Coordinate across of a lane's centre; index 0 is next to the centre line."""
        return self.center + side * (index + 0.5) * self.lane_width

    def count(self, side: int) -> int:
        """Lanes on a side."""
        return self.lanes[(side + 1) // 2]

    def parks(self, side: int) -> bool:
        """Whether a side has a parking lane."""
        return self.parking[(side + 1) // 2]


@dataclass(frozen=True)
class Junction:
    """Where an axis-0 street ``a`` and an axis-1 street ``b`` meet.

    Attributes:
        a, b: numbers of the streets in the map.
        arms: directions (axis, sign) in which there is a street.
        radius: of the kerb at the corners.
        crossings: whether its arms have crosswalks.
        signals: whether it has traffic lights.
        green: the axis that may go; the other one waits.
    """

    a: int
    b: int
    arms: tuple[tuple[int, int], ...]
    radius: float
    crossings: bool
    signals: bool
    green: int


@dataclass(frozen=True)
class Block:
    """The rectangle between sidewalks, canonical coordinates, and what is built on it."""

    lo: tuple[float, float]
    hi: tuple[float, float]
    kind: str


@dataclass
class RoadMap:
    """All streets, junctions and blocks of a city."""

    warp: Warp
    style: str
    streets: list[Street]
    junctions: list[Junction] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def at(self, junction: Junction) -> tuple[float, float]:
        """Canonical coordinates of a junction's centre."""
        return self.streets[junction.b].center, self.streets[junction.a].center

    def arm_start(self, junction: Junction, axis: int, sign: int) -> float:
        """Coordinate along an arm at which the junction's box ends and the arm begins."""
        crossing = self.streets[junction.b if axis == 0 else junction.a]
        return crossing.edge(sign)

    def on(self, number: int) -> list[Junction]:
        """The junctions of a street."""
        return [j for j in self.junctions if number in (j.a, j.b)]

    def along(self, junction: Junction, axis: int) -> float:
        """A junction's coordinate along an axis."""
        return self.at(junction)[axis]


def _draw_street(rng: np.random.Generator, axis: int, center: float, ext: float, style: str, big: bool) -> Street:
    wide = rng.random() < (0.33 if big else 0.1) * (1.5 if style == "downtown" else 0.8)
    lanes = (2, 2) if wide else (1, 1)
    if rng.random() < 0.15:
        lanes = (2, 1) if rng.random() < 0.5 else (1, 2)
    chance = {"downtown": 0.45, "suburb": 0.45, "industrial": 0.3, "mixed": 0.45}[style]
    parking = (bool(rng.random() < chance), bool(rng.random() < chance))
    return Street(
        axis,
        center,
        lanes,
        parking,
        float(rng.uniform(3.1, 3.4)),
        float(rng.uniform(2.4, 3.3) if style != "suburb" else rng.uniform(2.3, 2.8)),
        -ext,
        ext,
    )


def _centers(rng: np.random.Generator, ext: float, block: tuple[float, float]) -> list[float]:
    """Coordinates of parallel streets: one at 0 and others a block apart on both sides."""
    found = [0.0]
    for sign in (-1, 1):
        at = sign * rng.uniform(*block)
        while abs(at) < ext - 20:
            found.append(float(at))
            at += sign * rng.uniform(*block)
    return sorted(found)


def _block_kind(rng: np.random.Generator, style: str) -> str:
    kinds = ("downtown", "suburb", "industrial", "park", "lot")
    shares = {
        "downtown": (0.84, 0.0, 0.04, 0.07, 0.05),
        "suburb": (0.18, 0.66, 0.0, 0.11, 0.05),
        "industrial": (0.20, 0.04, 0.64, 0.05, 0.07),
        "mixed": (0.53, 0.22, 0.10, 0.10, 0.05),
    }[style]
    return str(rng.choice(kinds, p=shares))


def draw_roadmap(rng: np.random.Generator, extent: float, curved: bool) -> RoadMap:
    """A random city around a junction at canonical (0, 0).

    Args:
        rng: the CITY stream.
        extent: streets reach from -extent to +extent, metres.
        curved: whether streets may bend.
    """
    style = str(rng.choice(STYLES, p=(0.42, 0.22, 0.11, 0.25)))
    bend = rng.random() < 0.5
    warp = Warp(
        shear=float(np.clip(rng.normal(0, 0.12), -0.2, 0.2) if rng.random() < 0.4 else 0.0),
        amount=float(rng.choice([-1, 1]) * rng.uniform(0.06, 0.26)) * (bend and curved),
        length=float(rng.uniform(18, 45)),
        center=float(rng.uniform(-40, 40)),
    )
    size = {"downtown": (52, 85), "suburb": (55, 90), "industrial": (75, 110), "mixed": (52, 90)}[style]
    streets = [_draw_street(rng, 0, c, extent, style, c == 0) for c in _centers(rng, extent, size)]
    main = next(s for s in streets if s.center == 0)
    for center in _centers(rng, extent, size):
        street = _draw_street(rng, 1, center, extent, style, False)
        kind = rng.random()
        if kind < 0.2:
            street = replace(street, lo=main.center)
        elif kind < 0.4:
            street = replace(street, hi=main.center)
        streets.append(street)
    city = RoadMap(warp, style, streets)
    first = [k for k, s in enumerate(streets) if s.axis == 0]
    second = [k for k, s in enumerate(streets) if s.axis == 1]
    for a in first:
        for b in second:
            along, cross = streets[b], streets[a]
            if not along.lo - 1 <= cross.center <= along.hi + 1:
                continue
            arms = [(0, -1), (0, 1)]
            arms += [(1, -1)] if along.lo < cross.center - 1 else []
            arms += [(1, 1)] if along.hi > cross.center + 1 else []
            signals = bool(rng.random() < (0.8 if style in ("downtown", "mixed") else 0.4))
            radius, crossings = float(rng.uniform(4, 6.5)), bool(signals or rng.random() < 0.75)
            green = int(rng.random() < 0.5) if signals else 0
            city.junctions.append(Junction(a, b, tuple(arms), radius, crossings, signals, green))
    for low, high in zip(first[:-1], first[1:], strict=True):
        middle = (streets[low].center + streets[high].center) / 2
        row = [streets[k] for k in second if streets[k].lo < middle < streets[k].hi]
        starts = [-extent] + [s.outer(1) for s in row]
        ends = [s.outer(-1) for s in row] + [extent]
        for left, right in zip(starts, ends, strict=True):
            if right - left > 25:
                lo, hi = (left, streets[low].outer(1)), (right, streets[high].outer(-1))
                city.blocks.append(Block(lo, hi, _block_kind(rng, style)))
    return city
