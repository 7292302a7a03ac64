"""The comparison of world-fixed with ego-centred planes: what it judges, what it leaves out, that it runs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from argoverse2_log import Car, Drive
from PIL import Image
from small_models import SETTINGS, small_config
from world_fixed import at_seconds, ceiling, main, over_seeds, row
from world_fixed_runs import (
    Clock,
    Data,
    Point,
    curve,
    held_out_clips,
    judged,
    parameters,
    procedural_data,
    recorded_data,
    trained,
    variant,
    world_config,
)

from dyncity.anchoring import ego_windows
from dyncity.datasets.corpus import open_corpus
from dyncity.presets import preset

CONFIG = small_config("clip.margin=[0, 0]")  # so that the window leaves the grid as the ego drives


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return procedural_data(tmp_path_factory.mktemp("comparison"), CONFIG, scenes=2, held_out=4)


def test_a_perfect_ego_centred_reconstruction_is_100_percent(data: Data) -> None:
    clips = held_out_clips(data, CONFIG)
    figures = row(judged(clips, [clip.ego for clip in clips])["ego-rendered"], "native")
    assert set(figures.values()) == {100.0}


def test_a_perfect_world_fixed_reconstruction_reaches_the_ceiling_and_no_more(data: Data) -> None:
    clips = held_out_clips(data, CONFIG)
    matrices = judged(clips, [ego_windows(clip.world, CONFIG.grid) for clip in clips])
    assert set(row(matrices["cut out"], "native").values()) == {100.0}
    by_ego = row(matrices["ego-rendered"], "native")
    assert by_ego == row(ceiling(clips)["ego-rendered"], "native")
    assert 40 < by_ego["mIoU, CarlaSC's ten classes"] < 100


def test_unknown_and_uncovered_voxels_count_for_nobody(data: Data) -> None:
    clips = held_out_clips(data, CONFIG)
    uncovered = [ego_windows(clip.world, CONFIG.grid).semantics == 255 for clip in clips]
    assert any(some.any() for some in uncovered)
    assert any(clip.uncovered > 0 for clip in clips)
    spoilt = [
        replace(clip.ego, semantics=np.where(some, np.uint8(1), clip.ego.semantics))
        for clip, some in zip(clips, uncovered, strict=True)
    ]
    for truth, matrix in judged(clips, spoilt).items():
        np.testing.assert_array_equal(matrix, judged(clips, [clip.ego for clip in clips])[truth])
        assert matrix.sum() == sum((~some).sum() for some in uncovered)


def test_both_corpora_hold_the_same_drives(data: Data) -> None:
    for part in ("train", "held-out"):
        world, ego = (list(open_corpus(data.corpus(part, planes)).scenes()) for planes in ("world", "ego"))
        for a, b in zip(world, ego, strict=True):
            np.testing.assert_array_equal(a.poses, b.poses)
            middle = a.frames // 2  # here both grids lie the same way, but in a turn
            if not a.conditions.grid_yaw:
                np.testing.assert_array_equal(ego_windows(a, b.grid).semantics[middle], b.semantics[middle])


def test_variants_differ_in_what_their_names_say() -> None:
    world = world_config(preset("tiny"))
    ego, wide, published = (variant(world, name) for name in ("ego", "ego-wide", "published"))
    assert (ego.vae, ego.clip.planes, ego.clip_grid) == (world.vae, "ego", world.grid)
    assert parameters(wide)[0] >= parameters(world)[0] > parameters(ego)[0]
    assert (published.vae.encoder, published.vae.fusion, published.vae.projection) == ("frames", "product", "attention")
    assert published.vae.latent_channels == ego.vae.latent_channels
    assert abs(parameters(published)[0] / parameters(ego)[0] - 1) < 0.15
    assert world_config(preset("carlasc")).clip.margin == (32, 16)


def test_curves_are_read_at_equal_seconds() -> None:
    def point(step: int, hits: int) -> Point:
        matrix = np.zeros((11, 11), np.int64)
        matrix[1, 1], matrix[1, 0] = hits, 100 - hits
        return Point(step, float(step), {"cut out": matrix})

    points = [point(10, 40), point(20, 80)]
    assert at_seconds(points, 15.0, "cut out", "carlasc")["building"] == pytest.approx(60)
    assert at_seconds(points, 5.0, "cut out", "carlasc") == {}
    figures = over_seeds([{"building": 1.0, "road": 2.0}, {"building": 3.0}])
    assert figures == {"building": {"mean": 2.0, "std": pytest.approx(np.sqrt(2))}}


def test_the_clock_leaves_out_saving_and_keeps_what_was_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_text("shipped")
    clock, now = Clock(tmp_path, 0, 5, torch.device("cpu")), 0.0
    monkeypatch.setattr(clock, "now", lambda: now)
    for step in range(11):
        clock.tick()
        now += 100.0 if step in (0, 4) else 2.0  # warming up; saving after the fifth
    assert clock.counted["seconds"] / clock.counted["steps"] == 2.0
    assert sorted(p.name for p in (tmp_path / "snapshots").iterdir()) == ["step-00000005", "step-00000010"]
    assert json.loads((tmp_path / "seconds.json").read_text()) == clock.counted


def test_an_interrupted_run_goes_on_to_the_same_curve(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = ["train_vae.steps=10", "train_vae.checkpoint_every=5", "train_vae.batch=1", "clip.margin=[0, 0]"]
    config, cpu, clips = small_config(*schedule), torch.device("cpu"), held_out_clips(data, CONFIG)
    corpus, tick = data.corpus("train", "world"), Clock.tick
    trained(config, corpus, tmp_path / "whole", cpu, lambda metrics: None)

    def killed(clock: Clock) -> None:
        if clock.done == 8:
            raise KeyboardInterrupt
        tick(clock)

    monkeypatch.setattr(Clock, "tick", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(config, corpus, tmp_path / "broken", cpu, lambda metrics: None)
    monkeypatch.setattr(Clock, "tick", tick)
    trained(config, corpus, tmp_path / "broken", cpu, lambda metrics: None)
    whole, broken = (list(curve(tmp_path / run, data, clips, config, cpu)) for run in ("whole", "broken"))
    assert [point.step for point in broken] == [5, 10]
    for a, b in zip(whole, broken, strict=True):
        for truth, matrix in a.matrices.items():
            np.testing.assert_array_equal(matrix, b.matrices[truth])


def test_one_log_is_held_out_whole(tmp_path: Path) -> None:
    for number in range(2):
        Drive(frames=13, cars=[Car(8.0, -3.0)], name=f"{number}0000000-aaaa-3000-b000-000000000000").write(
            tmp_path / "logs"
        )
    data = recorded_data(tmp_path / "out", small_config(), tmp_path / "logs", held_out_log="1", held_out=2)
    held, train = (open_corpus(data.corpus(part, "world")).scene_ids for part in ("held-out", "train"))
    assert (len(held), len(train)) == (2, 4)
    assert {name[0] for name in held} == {"1"}
    assert {name[0] for name in train} == {"0"}
    clips = held_out_clips(data, small_config())
    assert all((clip.truths["cut out"] == 255).any() for clip in clips)
    assert set(row(judged(clips, [clip.ego for clip in clips])["ego-rendered"], "native").values()) == {100.0}


def test_the_comparison_runs_from_scenes_to_figures_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--out", str(tmp_path), "--scenes", "3", "--held-out", "2", "--steps", "10", "--eval-every", "5"]
    arguments += ["--seeds", "0", "1", "--threads", "1", "--steps-of", "world=20"]
    arguments += [part for setting in (*SETTINGS, "train_vae.batch=1") for part in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["world_fixed.py", *arguments])
    main()
    folder = tmp_path / "procedural"
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["facts"]["world"]["voxels a clip"] > figures["facts"]["ego"]["voxels a clip"]
    assert all(
        fact["seconds"] > 0 and fact["steps"] == 10 * (1 + (name == "world")) for name, fact in figures["facts"].items()
    )
    assert {name: [len(run) for run in runs] for name, runs in figures["curves"].items()} == {
        "world": [2, 2],
        "ego": [2, 2],
    }
    for truth in ("ego-rendered", "cut out"):
        for name in ("world", "ego"):
            assert 0 <= figures["final"][truth][name]["mIoU, CarlaSC's ten classes"]["mean"] <= 100
    own = figures["final"]["own"]
    assert own == {"world": figures["final"]["cut out"]["world"], "ego": figures["final"]["ego-rendered"]["ego"]}
    for name in ("figures-curves-ego-rendered.png", "figures-curves-own.png", "figures-side-by-side.png"):
        with Image.open(folder / name) as image:
            assert len(image.getcolors(1 << 16)) > 10
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert times
    main()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == times
    again = json.loads((folder / "figures.json").read_text())
    assert again == figures
