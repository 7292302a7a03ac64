"""Copies of training clips as the benchmark finds them: as the metric does, which it asks once for each distance."""

from __future__ import annotations

import numpy as np
from checkpoint import novelty, show, told

from dyncity.metrics.neighbours import copied, nearest


def test_copies_are_those_of_the_metric() -> None:
    rng = np.random.default_rng(0)
    held, training, maps = (rng.integers(0, 6, (n, 12, 10)).astype(np.uint8) for n in (5, 40, 6))
    maps[2], maps[4] = training[7], training[9][:, ::-1]
    row = novelty(maps, held, training, float(nearest(held, training)[0].min()))
    assert row["copies of training clips"] == copied(maps, training, held).sum() == 2
    assert row["distance to the nearest training clip, least"] == 0
    assert "copies of training clips" not in novelty(maps, held, None, 0.0)


def test_how_far_it_is_is_told(capsys) -> None:
    assert list(told(iter(range(3)), "read", "clips")) == [0, 1, 2]  # type: ignore[arg-type]
    assert "read: 3 clips" in capsys.readouterr().out


def test_a_table_is_whole_in_a_pipe(capsys) -> None:
    columns = {f"a set of scenes, number {n}": {"distance to the nearest training clip, least": 0.25} for n in range(5)}
    show("scenes", columns, {"distance to the nearest training clip, least": ">= 0.1"})
    title, header, row = capsys.readouterr().out.splitlines()
    assert title == "scenes"
    assert all(name in header for name in columns)
    assert row.startswith("distance to the nearest training clip, least  0.25")
    assert (row.count("0.25"), row[-6:]) == (5, ">= 0.1")
