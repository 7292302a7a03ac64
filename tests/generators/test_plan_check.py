"""Conditions that contradict themselves: warned of before the work, recorded with the scene, refused by --strict."""

from __future__ import annotations

import json
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_models import make_city

import cli
from dyncity.conditions import LAYOUT_CLASSES, Conditions, Layout
from dyncity.config_file import override
from dyncity.datasets.corpus import open_corpus
from dyncity.errors import InputError
from dyncity.presets import preset
from dyncity.scene import SceneSpec
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.diffusion import LatentDiffusion
from generators.plan import CorpusPlan
from generators.plan_check import CHECKED, check_plan
from generators.procedural.city import ProceduralCity


@pytest.fixture(scope="module")
def folder(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint, a layout whose agents overlap, one that is fine, and a path."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("city", "dit"):
        (folder / name).symlink_to(small_models / name)
    car = {"class": "vehicle", "size": [4.0, 2.0], "path": [[0, 4, 4, 0]]}
    (folder / "fine.json").write_text(json.dumps({"agents": [car]}))
    (folder / "twice.json").write_text(json.dumps({"agents": [car, car]}))
    (folder / "path.json").write_text(json.dumps([[0.5 * t, 0, 0] for t in range(4)]))
    return folder


def test_a_plan_that_asks_more_of_short_clips_than_they_last_is_refused_before_any_scene_is_made():
    config = override(preset("tiny"), ["clip.frames=2"])
    city = ProceduralCity(config)
    for command in ("left", "mixed"):
        with pytest.raises(InputError, match="2 at 5 Hz are too short for --command left"):
            check_plan(CorpusPlan("procedural", config, 4, command=command), city)
    assert check_plan(CorpusPlan("procedural", config, 2, command="mixed"), city) == 0  # static, forward


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def generate(folder: Path, layout: str, out: Path) -> tuple[object, ...]:
    words = ("generate", "--checkpoint", folder / "dit", "--trajectory", folder / "path.json", "--num-scenes", 2)
    return (*words, "--layout", folder / layout, "--workers", 0, "--out", out)


def test_a_contradiction_is_a_warning_and_goes_with_the_scene(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *generate(folder, "twice.json", tmp_path / "c"))
    assert code == 0
    assert err == "warning: scenes 0 to 1: frames 0 to 3: agents[0] and agents[1] overlap, at x 4.0, y 4.0 m\n"
    corpus = open_corpus(tmp_path / "c")
    for scene in corpus.scenes():
        assert scene.provenance["contradictions"] == 1
        layout = scene.conditions.layout
        assert layout is not None
        assert (layout.grid, layout.anchor) == (corpus.config.clip_grid, 2)
        assert layout.maps[LAYOUT_CLASSES.index("vehicle")].any()
    text = (tmp_path / "c/README.md").read_text()
    assert "| layout of vehicle | 2 |" in text
    assert "contradictions: 2" in text
    assert "--layout FILE" in text


def test_conditions_that_fit_are_not_warned_of(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *generate(folder, "fine.json", tmp_path / "c"), "--strict")
    assert (code, err) == (0, "")
    assert "contradict" not in (tmp_path / "c/README.md").read_text()
    assert all("contradictions" not in scene.provenance for scene in open_corpus(tmp_path / "c").scenes())


def test_strict_refuses_with_one_line_and_leaves_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *generate(folder, "twice.json", tmp_path / "c"), "--strict")
    assert code == 2
    assert err.startswith("error: --strict, scene 0: frames 0 to 3: agents[0] and agents[1] overlap")
    assert err.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_the_first_scenes_are_looked_at_and_all_of_them_where_it_is_strict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wall ahead: scenes that stand still fit it, those that drive do not."""
    source = LatentDiffusion(folder / "dit")
    maps = np.zeros((6, *source.config.clip_shape[:3]), bool)
    maps[LAYOUT_CLASSES.index("building"), :, 15:18] = True  # from 2.4 m on: a hand beyond the bonnet
    layout = Layout(maps, np.array([name == "building" for name in LAYOUT_CLASSES]))
    plan = CorpusPlan("diffusion", source.config, 40, micro_batch=2, command="mixed", layout=layout)
    assert check_plan(plan, source) > 0
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: scene") for line in lines[:-1])
    named = {int(word) for line in lines for word in line.split(": ")[1].replace(",", "").split()[1:] if word.isdigit()}
    assert named
    assert max(named) < CHECKED
    assert not {n for n in named if n % 4 == 0}, "scenes that stand still"
    with pytest.raises(InputError, match=r"--strict, scene \d+: .*building"):
        check_plan(plan, source, strict=True)
    standing = CorpusPlan("diffusion", source.config, 40, micro_batch=2, command="static", layout=layout)
    assert check_plan(standing, source, strict=True) == 0


def test_given_voxels_are_counted_in_the_provenance(folder: Path, tmp_path: Path) -> None:
    source = LatentDiffusion(folder / "dit")
    given = np.full(source.config.clip_shape, 255, np.uint8)
    given[0, :3] = 0
    specs = [SceneSpec(0, 0, Conditions("static", given=given)), SceneSpec(1, 0)]
    first, second = source.generate(specs)
    assert first.provenance["given_voxels"] == given[0, :3].size
    assert "given_voxels" not in second.provenance


def test_a_corpus_is_evaluated_by_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, *generate(folder, "fine.json", tmp_path / "c"))
    with chdir(tmp_path):
        code, out, err = run(capsys, "evaluate", "conditions", "c", "--json", "values.json")
    assert (code, err) == (0, "")
    values = json.loads((tmp_path / "values.json").read_text())
    assert values["corpus"] == "c"
    for name in ("command accuracy, %", "trajectory error, voxels rms", "layout IoU, vehicle, %"):
        assert name in values["conditions"]
        assert name in out
    assert values["conditions"]["scenes with conditions"] == 2
    assert not any("road" in name or "seam" in name for name in values["conditions"])
    assert not list(tmp_path.glob(".tmp-*"))


def test_long_scenes_are_evaluated_at_their_seams(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("generate", "--checkpoint", folder / "dit", "--chunks", 3, "--num-scenes", 2, "--workers", 0)
    assert run(capsys, *words, "--out", tmp_path / "c")[0] == 0
    code, out, _ = run(capsys, "evaluate", "conditions", tmp_path / "c", "--scenes", 1)
    assert code == 0
    assert "agreement at seams" in out
    assert "poses continuous, %           100" in out
    assert "| chunks: 3 | 2 |" in (tmp_path / "c/README.md").read_text()


def test_what_cannot_be_evaluated_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_scene, write_corpus
) -> None:  # type: ignore[no-untyped-def]
    plain = write_corpus(tmp_path / "plain", [make_scene(0, conditions=Conditions())])
    cases = {
        "carry no conditions": ("conditions", plain),
        "use conditions": ("looks", plain),
        "no such folder": ("conditions", tmp_path / "none"),
        "no folder": ("conditions", folder / "city", "--json", tmp_path / "none/values.json"),
    }
    for message, words in cases.items():
        code, _, err = run(capsys, "evaluate", *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err
    assert not (tmp_path / "none").exists()


def test_edits_say_what_was_given(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_city(tmp_path / "ego", scenes=2, frame="ego")
    region = {"boxes": [{"x": [2, 6], "y": [-3, 3], "yaw": 0.2}], "frames": [1, 3]}
    (tmp_path / "region.json").write_text(json.dumps(region))
    words = ("edit", tmp_path / "ego", "--checkpoint", folder / "dit", "--workers", 0)
    assert run(capsys, *words, "--inpaint", tmp_path / "region.json", "--out", tmp_path / "in")[0] == 0
    assert run(capsys, *words, "--frame", 1, "--at", 3, "--out", tmp_path / "from")[0] == 0
    sources = open_corpus(tmp_path / "ego").scene_ids
    for scene, source in zip(open_corpus(tmp_path / "in").scenes(), sources, strict=True):
        said = scene.provenance
        assert (said["edit"], said["source"]) == ("inpaint", source)
        assert json.loads(str(said["region"]))["frames"] == [1, 3]
        assert said["given_voxels"] > 0
    for scene, source in zip(open_corpus(tmp_path / "from").scenes(), sources, strict=True):
        said = scene.provenance
        assert (said["edit"], said["source"], said["frame"], said["at"]) == ("from a frame", source, 1, 3)
    text = (tmp_path / "from/README.md").read_text()
    assert "| edit: from a frame | 2 |" in text
    assert "dyncity edit SOURCE" in text
    assert "--frame 1 --at 3" in text


def test_agents_are_part_of_what_decides_a_corpus(folder: Path) -> None:
    from dyncity.layout_file import read_layout

    source = LatentDiffusion(folder / "dit")
    one, two = (read_layout(folder / name, source.config) for name in ("fine.json", "twice.json"))
    np.testing.assert_array_equal(one.maps, two.maps)
    plans = [CorpusPlan("diffusion", source.config, 2, layout=layout) for layout in (one, two)]
    assert plans[0].fingerprint() != plans[1].fingerprint()


def test_the_same_plan_gives_the_same_shards_with_layouts(folder: Path, tmp_path: Path) -> None:
    from functools import partial

    from dyncity.layout_file import read_layout

    build = partial(LatentDiffusion, folder / "dit")
    source = build()
    layout = read_layout(folder / "twice.json", source.config)
    plan = CorpusPlan(
        "diffusion", source.config, 3, micro_batch=2, layout=layout, fingerprint_of_generator=source.fingerprint()
    )
    for name in ("a", "b"):
        make_corpus(plan, build, ParquetExporter(), tmp_path / name)
    for path in (tmp_path / "a/shards").iterdir():
        assert path.read_bytes() == (tmp_path / "b/shards" / path.name).read_bytes()


def test_paths_off_the_grid_are_refused_before_the_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One a scene: the second one leaves the clip's grid, slowly enough to be driven."""
    grid = LatentDiffusion(folder / "dit").config.clip_grid
    ways = np.zeros((2, 4, 3))
    ways[1, :, 0] = np.arange(4) * 10.0
    assert grid.upper[0] < 20.0
    np.save(tmp_path / "ways.npy", ways)
    words = ("generate", "--checkpoint", folder / "dit", "--trajectory", tmp_path / "ways.npy", "--num-scenes", 2)
    code, _, err = run(capsys, *words, "--workers", 0, "--out", tmp_path / "c")
    assert code == 2
    assert err.startswith("error: --trajectory, scene 1: frame 0 leaves the clip's grid: x -20, y 0 m")
    assert err.count("\n") == 1
    assert not (tmp_path / "c").exists()
    ways[1] *= 0.1
    np.save(tmp_path / "ways.npy", ways)
    code, _, err = run(capsys, *words, "--workers", 0, "--out", tmp_path / "c")
    assert (code, err) == (0, "")
    asked = [scene.conditions.trajectory for scene in open_corpus(tmp_path / "c").scenes()]
    np.testing.assert_allclose(asked, ways)


@pytest.mark.parametrize("asked", [{"command": "left"}, {"command": None, "trajectory": np.zeros((4, 3))}])
def test_a_checkpoint_that_knows_no_conditions_refuses_them(folder: Path, asked: dict) -> None:
    generator = LatentDiffusion(folder / "dit")
    plain = replace(generator.config.dit, command=False, trajectory=False, path_plane=False)
    generator.config = replace(generator.config, dit=plain)
    plan = CorpusPlan("diffusion", generator.config, num_scenes=2, **asked)
    with pytest.raises(InputError, match="this checkpoint was trained without it"):
        check_plan(plan, generator)
    assert check_plan(replace(plan, command="mixed", trajectory=None), generator) == 0


def test_a_checkpoint_that_knows_no_layouts_names_the_option(folder: Path) -> None:
    generator = LatentDiffusion(folder / "dit")
    layout = Layout(np.ones((6, *generator.config.clip_shape[:3]), bool), np.ones(6, bool))
    generator.config = replace(generator.config, dit=replace(generator.config.dit, layout_plane=False))
    with pytest.raises(InputError, match="--layout: this checkpoint was trained without it"):
        check_plan(CorpusPlan("diffusion", generator.config, num_scenes=2, layout=layout), generator)


def test_a_long_scene_with_a_layout_is_made_by_typing_and_repaired(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, layout = tmp_path / "c", tmp_path / "far.json"
    car = {"class": "vehicle", "size": [4.0, 2.0], "path": [[0, 4, 4, 0], [5, 40, 4, 0]]}  # beyond the grid of a clip
    layout.write_text(json.dumps({"agents": [car]}))
    source = ("--checkpoint", folder / "dit", "--layout", layout, "--workers", 0, "--out", out)
    code, _, err = run(capsys, "generate", "--chunks", 2, "--num-scenes", 2, *source)
    assert (code, err) == (0, "")
    corpus = open_corpus(out)
    asked = corpus.scene(corpus.scene_ids[0]).conditions.layout
    assert asked is not None
    assert asked.grid is not None
    assert asked.grid.shape > corpus.config.clip_grid.shape
    assert asked.maps[LAYOUT_CLASSES.index("vehicle")].any(axis=(1, 2)).all()
    shard = next((out / "shards").iterdir())
    before = shard.read_bytes()
    shard.write_bytes(before[:-100])
    code, _, err = run(capsys, "generate", "--repair", *source)
    assert (code, err) == (0, "")
    assert shard.read_bytes() == before
