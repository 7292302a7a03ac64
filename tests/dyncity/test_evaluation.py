"""Samples are compared with as many clips of as many frames of real scenes, and with nothing they cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import written_corpus

from dyncity.conditions import COMMANDS, Conditions
from dyncity.errors import InputError
from dyncity.evaluation import evaluate_samples
from dyncity.presets import tiny
from dyncity.scene import OccupancyScene, SceneSpec
from generators.procedural.city import ProceduralCity


@pytest.fixture(scope="module")
def city() -> list[OccupancyScene]:
    source = ProceduralCity(tiny())
    return [source.generate([SceneSpec(i, 3, Conditions(COMMANDS[i % 4]))])[0] for i in range(6)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, city: list[OccupancyScene]) -> Path:
    return written_corpus(tmp_path_factory.mktemp("evaluation") / "city", city)


def test_as_many_clips_of_each_set(corpus: Path, city: list[OccupancyScene], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    samples = written_corpus(tmp_path / "samples", [city[5], city[4]])
    found = evaluate_samples(samples, corpus, report=lambda done, total: told.append((done, total)))
    assert told == [(n, 6) for n in range(1, 7)]
    assert list(found.sets) == ["samples", "real", "other real"]
    assert found.sets["other real"]["FID_bev / real to real"] == pytest.approx(1)
    assert found.sets["samples"]["FID_bev"] > 0
    assert "FID_bev" not in found.sets["real"]
    assert found.classes["real, %"]["road"] > 0
    assert len(told) == 6
    told.clear()
    evaluate_samples(samples, corpus, scenes=1, report=lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)


def test_longer_real_scenes_are_cut_into_clips(corpus: Path, city: list[OccupancyScene], tmp_path: Path) -> None:
    source = ProceduralCity(replace(tiny(), clip=replace(tiny().clip, frames=4)))
    short = [source.generate([SceneSpec(i, 4)])[0] for i in range(8)]
    told: list[tuple[int, int]] = []
    evaluate_samples(
        written_corpus(tmp_path / "short", short), corpus, report=lambda done, total: told.append((done, total))
    )
    assert told[-1] == (18, 18)  # half of six scenes of two clips each, three sets
    with pytest.raises(InputError, match="two scenes as long"):
        evaluate_samples(corpus, tmp_path / "short")


def test_what_cannot_be_compared_is_refused(corpus: Path, city: list[OccupancyScene], tmp_path: Path) -> None:
    one = written_corpus(tmp_path / "one", city[:1])
    with pytest.raises(InputError, match="two scenes"):
        evaluate_samples(corpus, one)
    none = written_corpus(tmp_path / "none", [])
    with pytest.raises(InputError, match="no scene"):
        evaluate_samples(none, corpus)
    grid = replace(city[0].grid, frame_rate=2.0)
    slow = written_corpus(tmp_path / "slow", [replace(scene, grid=grid) for scene in city[:2]])
    with pytest.raises(InputError, match="frames a second"):
        evaluate_samples(slow, corpus)


def test_a_corpus_is_not_compared_with_itself(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(corpus)
    for real in (corpus, tmp_path / "link", corpus.parent / "." / corpus.name):
        with pytest.raises(InputError, match=r"--real: .* is the corpus of the samples itself"):
            evaluate_samples(corpus, real)
