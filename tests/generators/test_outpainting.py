"""Enlarged scenes keep what was known, bit for bit, and leave nothing unknown."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import make_city, small_config

from dyncity.anchoring import anchored
from dyncity.datasets.corpus import open_corpus
from dyncity.errors import InputError
from dyncity.scene import UNKNOWN, SceneSpec
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.outpainting import Margins, Outpainting, read_margins, tile_starts
from generators.plan import CorpusPlan


@pytest.fixture(scope="module")
def folder(small_models: Path) -> Path:
    return small_models


def outpainting(folder: Path, corpus: Path, **margins: float) -> Outpainting:
    return Outpainting(folder / "dit", small_config().sampling, corpus, Margins(**margins))


def test_what_was_known_stays_and_everything_else_is_made(folder: Path) -> None:
    editor = outpainting(folder, folder / "ego", ahead=16.0, left=9.7)
    scenes = editor.generate([SceneSpec(0, 1), SceneSpec(1, 1)])
    corpus, base = open_corpus(folder / "ego"), small_config().clip_grid
    for scene, source_id in zip(scenes, corpus.scene_ids[:2], strict=True):
        source = corpus.scene(source_id)
        known = anchored(source, base).semantics
        there = scene.semantics[:, : base.shape[0], : base.shape[1]]  # nothing is added behind and to the right
        assert scene.grid.shape == (base.shape[0] + 20, base.shape[1] + 14, base.shape[2])
        assert scene.grid.origin == base.origin
        np.testing.assert_array_equal(there[known != UNKNOWN], known[known != UNKNOWN])
        assert not (scene.semantics == UNKNOWN).any()
        np.testing.assert_array_equal(scene.poses, source.poses)
        assert scene.anchor == scene.frames // 2
    assert (scenes[0].semantics != scenes[1].semantics).any()


def test_enlarged_scenes_can_be_enlarged_again(folder: Path, tmp_path: Path) -> None:
    build = partial(outpainting, folder, folder / "ego", behind=4.0)
    editor = build()
    plan = CorpusPlan(
        editor.name, editor.config, editor.scenes, micro_batch=2, fingerprint_of_generator=editor.fingerprint()
    )
    assert make_corpus(plan, build, ParquetExporter(), tmp_path / "once").failed == 0
    again = outpainting(folder, tmp_path / "once", right=3.2).generate([SceneSpec(0, 1), SceneSpec(1, 1)])[0]
    once = open_corpus(tmp_path / "once").scene("diffusion-000000")
    np.testing.assert_array_equal(again.semantics[:, :, 4:], once.semantics)
    assert again.grid.origin[1] == pytest.approx(once.grid.origin[1] - 3.2)


@given(st.integers(1, 300), st.integers(1, 100))
def test_tiles_cover_an_axis_and_overlap_by_a_quarter(more: int, tile: int) -> None:
    size = tile + more
    starts = tile_starts(size, tile)
    assert (starts[0], starts[-1] + tile) == (0, size)
    assert all(b - a <= np.ceil(0.75 * tile) for a, b in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize(
    "text", ["", "x", "-3", "0", "ahead=", "up=3", "ahead=1,ahead=2", "left=nan", "inf", "1.7e308"]
)
def test_margins_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--outpaint"):
        read_margins(text)


def test_margins_by_side() -> None:
    assert read_margins("60") == Margins(60, 60, 60, 60)
    assert read_margins("ahead=60, left=20") == Margins(ahead=60, left=20)


def test_a_corpus_on_a_smaller_grid_is_refused(folder: Path, tmp_path: Path) -> None:
    small = small_config("clip.margin=[0, 0]")
    make_city(tmp_path / "small", scenes=2, config=small)
    with pytest.raises(InputError, match="anchored at frame 2"):
        outpainting(folder, tmp_path / "small", ahead=5.0)
