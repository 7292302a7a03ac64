"""How well tracks are estimated from voxels: a corpus that says who is who, against what its voxels alone tell.

    python benchmarks/tracks.py CORPUS

CORPUS has instances and boxes (``--columns instances,boxes``).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dyncity.datasets.corpus import open_corpus
from dyncity.errors import InputError
from dyncity.metrics.vehicles import vehicle_ids
from dyncity.scene import OccupancyScene
from exporters.motion import moving_tracks
from exporters.tracks_from_voxels import with_tracks


@dataclass
class Found:
    """What is counted over scenes: voxels, and errors of the boxes of vehicles that touch nobody."""

    voxels: int = 0
    right: int = 0
    told: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))  # moves, thought to move
    seconds: float = 0.0
    centers: list[tuple[bool, float]] = field(default_factory=list)
    headings: list[tuple[bool, float]] = field(default_factory=list)
    sizes: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, truth: OccupancyScene) -> None:
        """Estimate the tracks of a scene and compare."""
        assert truth.instances is not None
        start = time.process_time()
        found = with_tracks(replace(truth, instances=None, boxes=None))
        self.seconds += time.process_time() - start
        assert found.instances is not None
        moves, thought = moving_tracks(truth), moving_tracks(found)
        owners: dict[int, list[int]] = {}
        for track in np.unique(truth.instances[truth.instances > 0]).tolist():
            own = found.instances[truth.instances == track]
            votes = np.bincount(own[own > 0], minlength=2)
            owners.setdefault(int(votes.argmax()), []).append(track)
            self.voxels, self.right = self.voxels + len(own), self.right + int(votes.max())
            self.told[int(moves[track]), int(thought[votes.argmax()])] += len(own)
        self._compare(truth, found, {n: tracks[0] for n, tracks in owners.items() if len(tracks) == 1}, moves)

    def _compare(
        self, truth: OccupancyScene, found: OccupancyScene, owner: dict[int, int], moves: NDArray[np.bool_]
    ) -> None:
        """Boxes of vehicles whose voxels are those of one estimated track."""
        a, b, wheels = truth.boxes, found.boxes, vehicle_ids(truth.taxonomy)
        assert a is not None
        assert b is not None
        rows = {key: n for n, key in enumerate(zip(a.frame.tolist(), a.track.tolist(), strict=True))}
        for n, (frame, number) in enumerate(zip(b.frame.tolist(), b.track.tolist(), strict=True)):
            track = owner.get(number, 0)
            row = rows.get((frame, track))
            if row is None or a.label[row] not in wheels:
                continue
            turn = abs((float(a.yaw[row] - b.yaw[n]) + np.pi) % (2 * np.pi) - np.pi)
            moving = bool(moves[track])
            self.centers.append((moving, float(np.linalg.norm(a.center[row, :2] - b.center[n, :2]))))
            self.headings.append((moving, float(np.rad2deg(turn if moving else min(turn, np.pi - turn)))))
            self.sizes.append(b.size[n].astype(float) - a.size[row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    options = parser.parse_args()
    try:
        corpus = open_corpus(options.corpus)
        if not {"instances", "boxes"} <= set(corpus.columns):
            raise InputError(options.corpus, "it has no instances and boxes", "make it with --columns instances,boxes")
    except InputError as error:
        sys.exit(f"error: {error}")
    found = Found()
    for scene in corpus.scenes():
        found.add(scene)

    def halves(values: list[tuple[bool, float]], moving: bool) -> str:
        own = [value for flag, value in values if flag == moving]
        return "{:.2f}, {:.2f}".format(*np.quantile(own, [0.5, 0.9])) if own else "none"

    table = Table("", "", title=f"{options.corpus}: {len(corpus.scene_ids)} scenes")
    table.add_row("voxels of agents with the number that most of their agent have", f"{found.right / found.voxels:.1%}")
    table.add_row("of the voxels of agents that move, known to", f"{found.told[1, 1] / found.told[1].sum():.1%}")
    table.add_row("of those of agents that stand", f"{found.told[0, 0] / found.told[0].sum():.1%}")
    for moving, name in ((False, "standing"), (True, "moving")):
        table.add_row(f"centres of {name} vehicles, m off: median, 90 %", halves(found.centers, moving))
        table.add_row(f"headings of {name} vehicles, degrees off", halves(found.headings, moving))
    length, width, height = np.median(found.sizes, axis=0)
    table.add_row("vehicles too long, wide, high by, m, median", f"{length:+.2f}, {width:+.2f}, {height:+.2f}")
    table.add_row("CPU ms a scene", f"{1e3 * found.seconds / len(corpus.scene_ids):.0f}")
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
