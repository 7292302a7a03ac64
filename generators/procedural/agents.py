"""Agents: their kinds, their boxes over time, and the exact test of whether two boxes overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generators.procedural.roadmap import Floats

# Class: (length, width, height) from and to in metres, and the speed it likes, m/s.
KINDS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "car": ((4.1, 5.0), (1.8, 2.0), (1.45, 1.9), (8.0, 14.0)),
    "truck": ((6.5, 9.0), (2.3, 2.5), (2.9, 3.6), (7.0, 11.0)),
    "bus": ((10.5, 12.0), (2.5, 2.55), (3.0, 3.3), (7.0, 11.0)),
    "other_vehicle": ((5.2, 6.2), (1.9, 2.1), (2.2, 2.6), (7.0, 12.0)),
    "trailer": ((6.0, 8.0), (2.3, 2.5), (2.8, 3.4), (0.0, 0.0)),
    "construction_vehicle": ((5.0, 7.0), (2.2, 2.5), (2.7, 3.2), (0.0, 0.0)),
    "motorcycle": ((1.9, 2.2), (0.7, 0.9), (1.1, 1.3), (0.0, 0.0)),
    "bicycle": ((1.6, 1.8), (0.5, 0.6), (1.0, 1.1), (0.0, 0.0)),
    "cyclist": ((1.7, 1.9), (0.6, 0.7), (1.65, 1.8), (3.5, 6.5)),
    "motorcyclist": ((2.0, 2.3), (0.7, 0.9), (1.6, 1.75), (8.0, 14.0)),
    "pedestrian": ((0.5, 0.7), (0.5, 0.7), (1.5, 1.9), (0.8, 1.7)),
}


def draw_size(rng: np.random.Generator, kind: str) -> tuple[float, float, float]:
    """Length, width and height of one agent of a kind, metres."""
    length, width, height = (
        (lo + d * (hi - lo)) for (lo, hi), d in zip(KINDS[kind][:3], rng.random(3).tolist(), strict=True)
    )
    return length, width, height


def draw_kind(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """A kind by the shares of the kinds, which add up to 1."""
    draw = float(rng.random())
    for kind, share in shares.items():
        draw -= share
        if draw < 0:
            return kind
    return next(iter(shares))


@dataclass
class Agents:
    """Boxes of n agents over t frames in real coordinates.

    Attributes:
        kind: class names ``[n]``.
        size: ``[n, 3]`` length, width, height in metres.
        pose: ``[n, t, 3]`` x, y, yaw of the box centre on the ground.
    """

    kind: list[str]
    size: Floats
    pose: Floats

    def keep(self, which: NDArray[np.bool_]) -> Agents:
        """The agents at which ``which`` is true."""
        kinds = [k for k, kept in zip(self.kind, which, strict=True) if kept]
        return Agents(kinds, self.size[which], self.pose[which])

    def held(self, frames: int) -> Agents:
        """These agents of one frame, standing for several."""
        return Agents(self.kind, self.size, np.repeat(self.pose, frames, axis=1))

    def joined(self, other: Agents) -> Agents:
        """These agents, then the others."""
        return Agents(
            self.kind + other.kind,
            np.concatenate([self.size, other.size]),
            np.concatenate([self.pose, other.pose]),
        )


def overlap(pose: Floats, size: Floats, other_pose: Floats, other_size: Floats) -> NDArray[np.bool_]:
    """Whether oriented rectangles overlap (separating axes, exact); the arguments broadcast.

    Args:
        pose, other_pose: ``[..., 3]`` x, y, yaw.
        size, other_size: ``[..., 2+]`` length, width.
    """
    delta = other_pose[..., :2] - pose[..., :2]
    turn = other_pose[..., 2] - pose[..., 2]
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    l1, w1, l2, w2 = size[..., 0] / 2, size[..., 1] / 2, other_size[..., 0] / 2, other_size[..., 1] / 2
    apart = np.zeros(np.broadcast_shapes(delta.shape[:-1], turn.shape), bool)
    for yaw, a, b, c, d in ((pose[..., 2], l1, w1, l2, w2), (other_pose[..., 2], l2, w2, l1, w1)):
        x = delta[..., 0] * np.cos(yaw) + delta[..., 1] * np.sin(yaw)
        y = delta[..., 1] * np.cos(yaw) - delta[..., 0] * np.sin(yaw)
        apart |= np.abs(x) > a + c * cos + d * sin
        apart |= np.abs(y) > b + c * sin + d * cos
    return ~apart


def compatible(pose: Floats, size: Floats, margin: float) -> NDArray[np.bool_]:
    """Which agents to keep so that no two ever overlap: each that is clear of all kept before it.

    Args:
        pose: ``[n, t, 3]``.
        size: ``[n, 3]``.
        margin: metres added to every length and width.
    """
    n = len(pose)
    first, second = np.triu_indices(n, 1)
    reach = np.hypot(size[:, 0], size[:, 1]) / 2 + margin
    gap = np.hypot(*(pose[first, :, :2] - pose[second, :, :2]).transpose(2, 0, 1)).min(axis=1)
    near = gap < reach[first] + reach[second]
    first, second = first[near], second[near]
    grown = size[:, None, :2] + margin
    hit = overlap(pose[first], grown[first], pose[second], grown[second]).any(axis=1)
    keep = np.ones(n, bool)
    for i, j in zip(first[hit], second[hit], strict=True):
        if keep[i]:
            keep[j] = False
    return keep
