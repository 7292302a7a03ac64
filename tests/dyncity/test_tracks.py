"""Pieces followed from frame to frame, many of them at once."""

from __future__ import annotations

import tracemalloc

import numpy as np

from dyncity.grid import GridSpec
from dyncity.tracks import middle_of, tracks

GRID = GridSpec((120, 120, 1), (0.4, 0.4, 0.4), (-24.0, -24.0, 0.0), 5.0)


def test_each_piece_goes_on_as_the_nearest_both_ways() -> None:
    """Against all pairs of pieces, looked at one by one: single voxels, at random places in two frames."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        mask = np.zeros((2, *GRID.shape), bool)
        mask[:, ::3, ::3] = rng.random((2, 40, 40, 1)) < 0.02
        first, second = (np.argwhere(frame)[:, :2] for frame in mask)
        places = [np.array([middle_of(at, GRID, np.eye(4)) for at in np.argwhere(frame)[:, None]]) for frame in mask]
        gaps = np.linalg.norm(places[0][:, None] - places[1], axis=2)
        gaps[gaps > 4.0] = np.inf  # 20 m/s, five frames a second
        # Of several as near the first counts, on either side.
        expected = {
            (tuple(first[k]), tuple(second[n]))
            for k, n in enumerate(gaps.argmin(axis=1))
            if gaps[:, n].argmin() == k and np.isfinite(gaps[k, n])
        }
        found = tracks(mask, GRID)
        pairs = {(tuple(t[0].voxels[0, :2]), tuple(t[1].voxels[0, :2])) for t in found if len(t) == 2}
        assert pairs == expected
        assert len(found) == len(first) + len(second) - len(expected)


def test_noise_of_thousands_of_pieces_is_followed_in_little_memory() -> None:
    mask = np.zeros((3, *GRID.shape), bool)
    mask[:, ::2, ::2] = True
    tracemalloc.start()
    found = tracks(mask, GRID)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 3600
    assert all(len(track) == 3 for track in found)
    assert peak < 60e6  # all pairs of them are 100 MB an array
