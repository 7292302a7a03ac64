"""Edits keep what they are told to keep, bit for bit, and generate the rest."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_models import small_config

from dyncity.conditions import nearest_axis, poses_from_trajectory, turned, yaw_between
from dyncity.config import SamplingConfig
from dyncity.datasets.corpus import open_corpus
from dyncity.errors import InputError
from dyncity.regions import Prism, Region
from dyncity.scene import UNKNOWN, SceneSpec
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.edits import FromFrame, Inpainting
from generators.plan import CorpusPlan

HALF = Region((Prism(np.array([[-50, 0], [50, 0], [50, 50], [-50, 50]], float), (-np.inf, np.inf)),))


@pytest.fixture(scope="module")
def folder(small_models: Path) -> Path:
    return small_models


def sampling() -> SamplingConfig:
    return small_config().sampling


def test_outside_the_region_every_voxel_stays(folder: Path) -> None:
    editor = Inpainting(folder / "dit", sampling(), folder / "ego", HALF)
    edited = editor.generate([SceneSpec(0, 1), SceneSpec(1, 1)])
    corpus = open_corpus(folder / "ego")
    for scene, source_id in zip(edited, corpus.scene_ids, strict=False):
        source = corpus.scene(source_id)
        inside = HALF.mask(source)
        np.testing.assert_array_equal(scene.semantics[~inside], source.semantics[~inside])
        assert (scene.semantics[inside] != source.semantics[inside]).any()
        np.testing.assert_array_equal(scene.poses, source.poses)
        assert scene.provenance["source"] == source_id
    other = editor.generate([SceneSpec(0, 2), SceneSpec(1, 2)])[0]
    assert (other.semantics != edited[0].semantics).any()


NOWHERE = replace(HALF, prisms=(Prism(HALF.prisms[0].points + 500.0, (0.0, 1.0)),))


def test_a_region_of_nothing_or_everything_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"--inpaint: covers nothing of the first \d+ scenes"):
        Inpainting(folder / "dit", sampling(), folder / "ego", NOWHERE).check()
    everywhere = Inpainting(folder / "dit", sampling(), folder / "ego", Region())
    everywhere.check()
    with pytest.raises(InputError, match=r"covers everything of scene"):
        everywhere.generate([SceneSpec(0, 1), SceneSpec(1, 1)])


def test_a_scene_of_which_a_region_covers_nothing_stays_as_it_is(folder: Path) -> None:
    """A class that some scenes have and others do not must not end the edit of the others."""
    scene = Inpainting(folder / "dit", sampling(), folder / "ego", NOWHERE).generate([SceneSpec(0, 1)])[0]
    corpus = open_corpus(folder / "ego")
    np.testing.assert_array_equal(scene.semantics, corpus.scene(corpus.scene_ids[0]).semantics)


@pytest.mark.parametrize("at", [0, 3])
def test_a_given_frame_is_the_frame_of_the_new_scene(folder: Path, at: int) -> None:
    editor = FromFrame(folder / "dit", sampling(), folder / "ego", frame=2, at=at)
    scenes = editor.generate([SceneSpec(0, 1), SceneSpec(1, 1)])
    corpus = open_corpus(folder / "ego")
    for scene, source_id in zip(scenes, corpus.scene_ids, strict=False):
        frame = corpus.scene(source_id).semantics[2]
        np.testing.assert_array_equal(scene.semantics[at], frame)
        assert not (scene.semantics[at] == UNKNOWN).any()
        assert all((scene.semantics[t] != frame).any() for t in range(4) if t != at)


def test_the_streets_of_a_given_frame_are_those_of_the_new_scene(folder: Path) -> None:
    editor = FromFrame(folder / "dit", sampling(), folder / "ego", frame=1, at=3)
    source = open_corpus(folder / "ego").scene(open_corpus(folder / "ego").scene_ids[0])
    for index in range(3):
        for grid_yaw in (0.0, 0.4, -0.7):
            turned_source = replace(source, conditions=replace(source.conditions, grid_yaw=grid_yaw))
            asked = editor._asked(SceneSpec(index, 1), turned_source)
            poses = poses_from_trajectory(asked.trajectory)
            there = turned(source.poses[2], grid_yaw)
            here = turned(poses[2], asked.grid_yaw)
            seen = yaw_between(source.poses[1], there) - yaw_between(poses[3], here)
            assert nearest_axis(seen) == pytest.approx(0, abs=1e-9)
            assert abs(asked.grid_yaw) <= np.pi / 4 + 1e-9


def test_edits_are_corpora_like_any_other(folder: Path, tmp_path: Path) -> None:
    build = partial(FromFrame, folder / "dit", sampling(), folder / "ego", 0, 0)
    editor = build()
    plan = CorpusPlan(
        editor.name, editor.config, editor.scenes, micro_batch=2, fingerprint_of_generator=editor.fingerprint()
    )
    result = make_corpus(plan, build, ParquetExporter(), tmp_path / "out")
    assert (result.written, result.failed) == (3, 0)
    again = FromFrame(folder / "dit", sampling(), folder / "ego", 1, 0)
    assert again.fingerprint() != editor.fingerprint()


def test_what_does_not_fit_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="its frame is world"):
        FromFrame(folder / "dit", sampling(), folder / "city", 0, 0)
    with pytest.raises(InputError, match="--frame: found 4"):
        FromFrame(folder / "dit", sampling(), folder / "ego", 4, 0)
    with pytest.raises(InputError, match="--at"):
        FromFrame(folder / "dit", sampling(), folder / "ego", 0, -1)
