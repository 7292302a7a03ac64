"""The comparison of training with generated scenes: equal budgets, scans, pasted pedestrians, that it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import make_city, small_config
from use import Part, main, mixture, shown
from use_data import GROUND, PEDESTRIAN, clips, pedestrian_layout, views
from use_runs import Completion, class_weights, figures, judged, trained

from dyncity.config import Config
from dyncity.datasets.corpus import open_corpus
from dyncity.datasets.shards import OccupancyShards
from dyncity.layout_file import read_layout
from dyncity.presets import preset
from dyncity.taxonomy import CARLASC, label_map


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_config("grid.shape=[32, 32, 8]", "grid.origin=[-12.8, -12.8, -1.2]")
    return make_city(tmp_path_factory.mktemp("use") / "city", scenes=6, frame="ego", config=config)


class Known(torch.nn.Module):
    """Guesses what it was told, frame after frame."""

    def __init__(self, targets: np.ndarray) -> None:
        super().__init__()
        self.targets = iter(targets)

    def forward(self, scan: torch.Tensor) -> torch.Tensor:
        target = torch.from_numpy(next(self.targets)).long()
        return torch.nn.functional.one_hot(target, len(CARLASC)).permute(3, 0, 1, 2)[None].float()


def test_a_scan_is_what_stands_and_targets_are_the_frames_in_their_order(city: Path) -> None:
    table, corpus = label_map("native", "carlasc"), open_corpus(city)
    made = views(city)
    for (scene_id, frame), row in made.rows.items():
        truth = table[corpus.scene(scene_id).semantics[frame]]
        np.testing.assert_array_equal(made.targets[row], truth)
        hit = made.row(row)["scan"].permute(1, 2, 0).numpy() == 1
        assert hit.any()
        assert (truth[hit] != CARLASC.free).all()
        assert hit.sum() < (truth != CARLASC.free).sum()
    item = clips(city)[3]
    row = made.rows[clips(city).clips[3][:2]]
    np.testing.assert_array_equal(item["target"], made.targets[row])


def test_pasted_pedestrians_stand_on_bare_ground_and_change_nothing_else(city: Path) -> None:
    plain, pasted = views(city), views(city, pasted=4)
    new = pasted.targets != plain.targets
    assert new.any(axis=(1, 2, 3)).all()
    assert (pasted.targets[new] == PEDESTRIAN).all()
    assert (plain.targets[new] == CARLASC.free).all()
    below = np.roll(pasted.targets, 1, axis=-1)[new]
    assert np.isin(below, [*GROUND, PEDESTRIAN]).all()


def test_knowing_everything_is_100_percent_and_unknown_counts_for_nobody(city: Path) -> None:
    made = views(city, judge=True)
    matrices = judged(Known(made.targets), made)
    assert set(figures(matrices["all"]).values()) == {100.0}
    turning = made.targets[made.turning]
    assert 0 < matrices["turning"].sum() == (turning < len(CARLASC)).sum() < matrices["all"].sum()
    wrong = np.where(made.targets == CARLASC.free, PEDESTRIAN, made.targets)
    assert figures(judged(Known(wrong), made)["all"])["completion"] < 100


def test_every_arm_has_the_same_budget_and_as_many_frames_of_both_halves(city: Path, tmp_path: Path) -> None:
    drawn: list[str] = []

    def counted(folder: Path, name: str) -> OccupancyShards:
        some, give = clips(folder), views(folder)
        some.transform = lambda item: (drawn.append(name), give(item))[1]
        return some

    few = make_city(tmp_path / "few", scenes=2, frame="ego", config=open_corpus(city).config)
    weights = class_weights(views(few))
    trained([counted(few, "few")], [1], weights, steps=6, batch=2, seed=0)
    assert drawn == ["few"] * 12
    drawn.clear()
    trained([counted(few, "few"), counted(city, "more")], [1, 1], weights, steps=6, batch=2, seed=0)
    assert sorted(drawn) == ["few"] * 6 + ["more"] * 6


def test_half_of_a_mixture_is_recorded_however_many_corpora_there_are() -> None:
    paths = [Path(name) for name in "abcde"]
    parts = mixture([Part(paths[0]), Part(paths[1])], paths[2:])
    assert sum(part.share for part in parts[:2]) == sum(part.share for part in parts[2:])


def test_a_run_learns_and_is_the_same_again(city: Path) -> None:
    weights = class_weights(views(city))
    network, again = (trained([clips(city)], [1], weights, steps=40, batch=4, seed=0) for _ in range(2))
    for one, other in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    untrained = figures(judged(Completion(8), views(city, judge=True))["all"])
    learned = figures(judged(network, views(city, judge=True))["all"])
    assert learned["completion"] > untrained["completion"] + 20
    assert learned["road"] > untrained["road"] + 20


@pytest.mark.parametrize("config", [preset("tiny"), small_config()], ids=["tiny", "small"])
def test_layouts_ask_for_the_pedestrians_alone_and_differ(tmp_path: Path, config: Config) -> None:
    files = [pedestrian_layout(tmp_path / f"{number}.json", number, 8, config) for number in (0, 1)]
    first, second = (read_layout(file, config) for file in files)
    assert first.given.sum() == 1
    assert first.maps[first.given].any(axis=(0, 2, 3)).all()  # in every frame
    assert (first.maps != second.maps).any()


def test_gains_are_taken_seed_by_seed() -> None:
    table = shown("", {"few": [{"mIoU": 10.0}, {"mIoU": 30.0}], "more": [{"mIoU": 12.0}, {"mIoU": 32.0}]}, ["mIoU"])
    assert [*table.columns[1].cells] == ["20.0 ± 14.1", "22.0 ± 14.1"]
    assert [*table.columns[2].cells] == ["0.0 ± 0.0", "2.0 ± 0.0"]


def test_the_comparison_runs_from_commands_to_figures_and_does_nothing_twice(
    small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--out", str(tmp_path), "--recorded", "2", "--rare", "2", "--generated", "2", "--asked", "2"]
    arguments += ["--held-out", "4", "--seeds", "0", "1", "--steps", "2", "--checkpoint", str(small_models / "dit")]
    monkeypatch.setattr(sys, "argv", ["use.py", *arguments])
    main()
    report = json.loads((tmp_path / "figures.json").read_text())
    assert [len(arms) for arms in report.values()] == [3, 2, 5, 4]
    for arms in report.values():
        for rows in arms.values():
            assert len(rows) == 2
            assert all(0 <= value <= 100 for row in rows for value in row.values())
    runs = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert len(runs) == 2 * (3 + 2 + 2 + 4)  # three arms of pedestrians are those of few logs
    main()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()} == runs
    assert json.loads((tmp_path / "figures.json").read_text()) == report
