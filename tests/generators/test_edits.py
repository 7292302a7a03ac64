"""Edits keep what they are told to keep, bit for bit, and generate the rest."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from small_models import make_city, small_config

from dyncity.anchoring import anchored, ego_windows
from dyncity.checkpoint import load_checkpoint
from dyncity.conditions import COMMANDS, Conditions, nearest_axis, poses_from_trajectory, turned, yaw_between
from dyncity.config import SamplingConfig
from dyncity.datasets.corpus import open_corpus
from dyncity.diffusion.joining import known_cells
from dyncity.errors import InputError
from dyncity.models.given import encode_given
from dyncity.regions import Prism, Region
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import NATIVE
from exporters.parquet import ParquetExporter
from generators import sources
from generators.corpus import make_corpus
from generators.from_frame import FromFrame
from generators.inpainting import Inpainting, clip_starts, known_around
from generators.inpainting_large import LargeInpainting
from generators.long_scenes import long_scenes
from generators.outpainting import Margins, Outpainting
from generators.plan import CorpusPlan
from generators.procedural.city import ProceduralCity

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


@given(
    arrays(np.uint8, (3, 2, 2, 2), elements=st.sampled_from([0, 1, 17, UNKNOWN])),
    arrays(np.bool_, (3, 2, 2, 2)),
)
def test_what_is_seen_once_is_known_in_all_frames(world: NDArray[np.uint8], hole: NDArray[np.bool_]) -> None:
    given = known_around(world, hole, "native")
    seen = (world != UNKNOWN) & ~hole
    assert (given[hole] == UNKNOWN).all()
    np.testing.assert_array_equal(given[seen], world[seen])
    elsewhere = ~hole & ~seen
    np.testing.assert_array_equal(
        given[elsewhere] == NATIVE.free, np.broadcast_to(seen.any(axis=0), seen.shape)[elsewhere]
    )
    assert np.isin(given[elsewhere], [NATIVE.free, UNKNOWN]).all()


def test_the_window_of_an_ego_that_moves_leaves_no_cell_known_in_part(folder: Path) -> None:
    """Else the sampler could not join both sides of a hole, as it did in scenes that stand alone."""
    config = small_config()
    scenes = ProceduralCity(config).generate([SceneSpec(i, 3, Conditions(c)) for i, c in enumerate(COMMANDS)])
    parts = []
    for scene in scenes:
        world = anchored(scene, config.clip_grid).semantics
        assert ((world != UNKNOWN).any(axis=0) != (world != UNKNOWN).all(axis=0)).any() or scene is scenes[0]
        hole = np.zeros(world.shape, bool)
        hole[:, 4:8, 4:8] = True
        parts.append(torch.from_numpy(known_around(world, hole, "native")))
    given = encode_given(load_checkpoint(folder / "dit").vae, torch.stack(parts))
    assert known_cells(given, config.latent_shape).rows.all()


NOWHERE = replace(HALF, prisms=(Prism(HALF.prisms[0].points + 500.0, (0.0, 1.0)),))


def test_a_region_of_nothing_or_everything_is_refused(folder: Path) -> None:
    named = replace(NOWHERE, where="hole.json")
    with pytest.raises(InputError, match=r"hole.json: covers nothing of the first \d+ scenes; give one .* y left"):
        Inpainting(folder / "dit", sampling(), folder / "ego", named).check()
    everywhere = Inpainting(folder / "dit", sampling(), folder / "ego", Region(where="hole.json"))
    everywhere.check()
    with pytest.raises(InputError, match=r"hole.json: covers everything of scene .*; leave some of it out"):
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


@pytest.fixture(scope="module")
def long(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of three chunks: eight frames."""
    return made(partial(long_scenes, folder / "dit", sampling(), 3), 2, tmp_path_factory.mktemp("long") / "c")


@pytest.fixture(scope="module")
def large(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes with 12.8 m more ahead and on the left."""
    build = partial(Outpainting, folder / "dit", sampling(), folder / "ego", Margins(ahead=12.8, left=12.8))
    return made(build, 2, tmp_path_factory.mktemp("large") / "c")


def made(build, scenes: int, out: Path) -> Path:  # type: ignore[no-untyped-def]
    source = build()
    plan = CorpusPlan(
        source.name, source.config, scenes, seed=3, micro_batch=2, fingerprint_of_generator=source.fingerprint()
    )
    assert make_corpus(plan, build, ParquetExporter(), out).failed == 0
    return out


@pytest.mark.parametrize(
    ("first", "end", "frames", "starts"),
    [
        (0, 8, 8, [0]),
        (3, 5, 20, [0]),
        (9, 11, 20, [6]),
        (18, 20, 20, [12]),
        (0, 20, 20, [0, 4, 8, 12]),
        (1, 11, 21, [1, 5]),
    ],
)
def test_clips_hold_the_frames_of_a_region(first: int, end: int, frames: int, starts: list[int]) -> None:
    assert clip_starts(first, end, frames, 8) == starts


@pytest.mark.parametrize("frames", [None, (5, 7)])
def test_a_region_of_a_long_scene_is_made_anew_in_all_of_its_frames(
    folder: Path, long: Path, frames: tuple[int, int] | None
) -> None:
    region = replace(HALF, frames=frames)
    edited = Inpainting(folder / "dit", sampling(), long, region).generate([SceneSpec(0, 1), SceneSpec(1, 1)])[0]
    source = open_corpus(long).scene("diffusion-000000")
    inside = region.mask(source)
    np.testing.assert_array_equal(edited.semantics[~inside], source.semantics[~inside])
    for t in range(*(frames or (0, 8))):
        assert (edited.semantics[t] != source.semantics[t])[inside[t]].any()
    assert not (edited.semantics == UNKNOWN).any()


def test_a_region_of_a_whole_clip_of_a_long_scene_is_refused(folder: Path, long: Path) -> None:
    editor = Inpainting(folder / "dit", sampling(), long, Region(frames=(0, 4)))
    with pytest.raises(InputError, match="region: covers everything of frames 0 to 3 of scene diffusion-000000"):
        editor.conditions(SceneSpec(0, 1))


def test_what_a_region_holds_stands_from_clip_to_clip(folder: Path, long: Path) -> None:
    """The second clip is given what the first has made of the region, and in later frames what stands there."""
    editor = Inpainting(folder / "dit", sampling(), long, HALF)
    edit = editor._edit(SceneSpec(0, 1))
    assert edit.starts == [0, 2, 4]
    wall = NATIVE.id("building")
    edit.paste(0, np.full(small_config().clip_shape, wall, np.uint8))
    given = edit.asked(1).given
    assert given is not None
    hole = HALF.mask_of_part(edit._clip(1, edit.source.semantics), 2)
    inside = edit._clip(1, edit.semantics).semantics[1] == wall
    assert (hole[1] & inside).any()
    assert (given[:, hole[1] & inside] == wall).mean() > 0.95  # at the edge frames are resampled


def test_a_scene_is_edited_the_same_in_any_company(folder: Path, long: Path) -> None:
    editor = Inpainting(folder / "dit", sampling(), long, HALF)
    a, b = SceneSpec(0, 1), SceneSpec(1, 1)
    np.testing.assert_array_equal(editor.generate([a, b])[0].semantics, editor.generate([b, a])[1].semantics)


def test_a_frame_of_a_long_and_of_an_enlarged_scene_is_kept(folder: Path, long: Path, large: Path) -> None:
    scene = FromFrame(folder / "dit", sampling(), long, 6, 0).generate([SceneSpec(0, 1), SceneSpec(1, 1)])[0]
    np.testing.assert_array_equal(scene.semantics[0], open_corpus(long).scene("diffusion-000000").semantics[6])
    scene = FromFrame(folder / "dit", sampling(), large, 2, 0).generate([SceneSpec(0, 1), SceneSpec(1, 1)])[0]
    seen = ego_windows(open_corpus(large).scene("diffusion-000000"), small_config().grid).semantics[2]
    np.testing.assert_array_equal(scene.semantics[0], seen)


@pytest.mark.parametrize("size", [4.0, 30.0])  # less than a clip's grid, and more
def test_a_region_of_an_enlarged_scene_is_made_anew(folder: Path, large: Path, size: float) -> None:
    corner = np.array([4.0, 4.0])
    region = Region((Prism(corner + size * np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]), (-np.inf, np.inf)),))
    editor = LargeInpainting(folder / "dit", sampling(), large, region)
    edited = editor.generate([SceneSpec(0, 1), SceneSpec(1, 1)])
    for scene, source in zip(edited, open_corpus(large).scenes(), strict=True):
        inside = region.mask(source)
        np.testing.assert_array_equal(scene.semantics[~inside], source.semantics[~inside])
        assert (scene.semantics != source.semantics)[inside].any()
        assert not (scene.semantics == UNKNOWN).any()
        assert scene.anchor == source.anchor
    with pytest.raises(InputError, match="region: covers everything"):
        LargeInpainting(folder / "dit", sampling(), large, Region()).generate([SceneSpec(0, 1), SceneSpec(1, 1)])


def test_edits_are_made_by_the_kind_of_the_corpus(folder: Path, long: Path, large: Path) -> None:
    for corpus, kind in ((folder / "ego", Inpainting), (long, Inpainting), (large, LargeInpainting)):
        assert isinstance(sources.edits(corpus, folder / "dit", [], HALF, None, 0).build(), kind)


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    make_city(tmp_path / "coarse", scenes=1, frame="ego", config=small_config("grid.voxel_size=[1.6, 0.8, 0.8]"))
    with pytest.raises(InputError, match="its grid is"):
        FromFrame(folder / "dit", sampling(), tmp_path / "coarse", 0, 0)
    make_city(tmp_path / "short", scenes=1, frame="ego", config=small_config("clip.frames=2"))
    with pytest.raises(InputError, match="has 2 frames; use scenes of at least 4"):
        Inpainting(folder / "dit", sampling(), tmp_path / "short", HALF)
    with pytest.raises(InputError, match="--frame: found 4"):
        FromFrame(folder / "dit", sampling(), folder / "ego", 4, 0)
    with pytest.raises(InputError, match="--at"):
        FromFrame(folder / "dit", sampling(), folder / "ego", 0, -1)
