"""Bad input: exit 2, ONE line on stderr that starts with ``error:``, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyncity.checkpoint import shipped_checkpoint
from dyncity.config_file import config_json
from dyncity.presets import preset


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[0].count(": ") >= 2, lines[0]
    assert ";" in lines[0], "the line says what to do"
    for word in words:
        assert word in lines[0], lines[0]


SHIPPED = str(shipped_checkpoint())
CITY = ("generate", "--generator", "procedural", "--workers", "0")
PROCEDURAL = (*CITY, "--num-scenes", "1", "--out", "out")
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unknown option": (("generate", "--outt", "x"), ("--outt",)),
    "missing option": (("generate",), ("--out",)),
    "no verb of that name": (("generat", "--out", "x"), ("generat",)),
    "a word for a number": (("generate", "--num-scenes", "many", "--out", "out"), ("--num-scenes",)),
    "a fraction for a number": ((*PROCEDURAL, "--seed", "1.5"), ("--seed: ", "'1.5'")),
    "too small a number": (("view", "empty", "--scenes", "0", "--out", "a.png"), ("--scenes: ", "0", "1")),
    "a URI of another kind": (
        (*PROCEDURAL[:-1], "http://b/x"),
        ("error: --out: http://b/x: found scheme 'http'; use",),
    ),
    "a URI without its second slash": ((*PROCEDURAL[:-1], "s3:/b/x"), ("s3:/b/x", "a slash is missing", "s3://")),
    "a cluster for this process": ((*PROCEDURAL, "--address", "auto"), ("--address", "--workers 0")),
    "a cluster for training in this process": (
        ("train", "vae", "--data", "empty", "--workers", "0", "--address", "auto", "--out", "out"),
        ("--address", "--workers 0"),
    ),
    "no scenes": ((*PROCEDURAL, "--num-scenes", "0"), ("--num-scenes", "0")),
    "fewer than no scenes": ((*PROCEDURAL, "--num-scenes", "-3"), ("--num-scenes", "-3")),
    "negative seed": ((*PROCEDURAL, "--seed", "-1"), ("--seed", "-1")),
    "seed too large": ((*PROCEDURAL, "--seed", str(2**63)), ("--seed",)),
    "wrong preset": ((*PROCEDURAL, "--preset", "huge"), ("--preset", "huge", "tiny")),
    "wrong generator": (("generate", "--generator", "magic", "--out", "out"), ("--generator", "magic")),
    "wrong labels": ((*PROCEDURAL, "--labels", "kitty"), ("--labels", "kitty", "semantickitti")),
    "wrong container": ((*PROCEDURAL, "--container", "zip"), ("--container", "zip", "parquet")),
    "wrong column": ((*PROCEDURAL, "--columns", "instances,depth"), ("--columns", "depth", "use instances, boxes")),
    "columns of masks": ((*PROCEDURAL, "--columns", "mask_lidar"), ("--columns", "mask_lidar", "exported")),
    "wrong command": ((*PROCEDURAL, "--command", "up"), ("--command", "up", "forward")),
    "wrong workers": ((*PROCEDURAL, "--workers", "3:1"), ("--workers", "3:1")),
    "unknown key": ((*PROCEDURAL, "--set", "grid.shap=[1,2,3]"), ("--set", "shap", "shape")),
    "wrong type of a value": ((*PROCEDURAL, "--set", "clip.frames=many"), ("--set", "clip.frames")),
    "no config file": ((*PROCEDURAL, "--config", "none.yaml"), ("none.yaml",)),
    "no trajectory file": ((*PROCEDURAL, "--trajectory", "none.json"), ("none.json",)),
    "option of the other generator": ((*PROCEDURAL, "--steps", "3"), ("--steps",)),
    "no checkpoint": (("generate", "--checkpoint", "none", "--out", "out"), ("none",)),
    "empty checkpoint": (("generate", "--checkpoint", "empty", "--out", "out"), ("empty",)),
    "no tree": (("import", "occ3d-waymo", "none", "--out", "out"), ("none",)),
    "no logs": (("import", "av2", "none", "--out", "out"), ("none",)),
    "empty logs": (("import", "av2", "empty", "--out", "out"), ("empty",)),
    "logs of another kind": (("import", "kitti360", "empty", "--out", "out"), ("kitti360", "av2")),
    "no corpus to train on": (("train", "vae", "--data", "none", "--out", "out"), ("none",)),
    "empty corpus to train on": (("train", "vae", "--data", "empty", "--out", "out"), ("empty",)),
    "no VAE": (("train", "dit", "--data", "empty", "--vae", "none", "--out", "out"), ("none",)),
    "the VAE is not named": (("train", "dit", "--data", "empty", "--out", "out"), ("--vae",)),
    "no model of that name": (("train", "gan", "--data", "empty", "--out", "out"), ("gan",)),
    "no corpus to encode": (("encode", "--data", "none", "--vae", "empty", "--out", "out"), ("empty",)),
    "no corpus to export": (("export", "none", "--format", "semantickitti", "--out", "out"), ("none",)),
    "unknown format": (("export", "empty", "--format", "pcd", "--out", "out"), ("--format", "pcd")),
    "no corpus to verify": (("verify", "none"), ("none",)),
    "empty corpus to verify": (("verify", "empty"), ("empty",)),
    "nothing to describe": (("info", "none"), ("none",)),
    "an empty folder to describe": (("info", "empty"), ("empty",)),
    "no corpus to evaluate": (("evaluate", "conditions", "none"), ("none",)),
    "samples without real scenes": (("evaluate", "samples", "empty"), ("--real",)),
    "no samples to evaluate": (("evaluate", "samples", "none", "--real", "empty"), ("none",)),
    "conditions beside real scenes": (("evaluate", "conditions", "empty", "--real", "empty"), ("--real",)),
    "nothing of that name to evaluate": (("evaluate", "taste", "empty"), ("KIND", "taste")),
    "nothing to draw": (("view", "empty", "--out", "a.png"), ("empty",)),
    "nothing to compare": (("view", "empty", "--beside", "none", "--out", "a.png"), ("empty",)),
    "one scene and many": (("view", "empty", "--scene", "a", "--scenes", "2", "--out", "a.png"), ("--scene",)),
    "a picture from nowhere": (("view", "empty", "--from", "up", "--out", "a.png"), ("--from", "up", "ego")),
    "no edit is named": (("edit", "empty", "--out", "out"), ("--inpaint", "--frame")),
    "two edits": (("edit", "empty", "--frame", "0", "--inpaint", "file", "--out", "out"), ("--inpaint", "--frame")),
    "a region that is no region": (("edit", "empty", "--inpaint", "file", "--out", "out"), ("file", "JSON")),
    "no corpus to edit": (("edit", "none", "--frame", "0", "--out", "out"), ("none",)),
    "no chunks": (("generate", "--chunks", "0", "--out", "out"), ("--chunks",)),
    "chunks of the other generator": ((*PROCEDURAL, "--chunks", "2"), ("--chunks",)),
    "nothing to repair": (("generate", "--repair", "--out", "none"), ("none",)),
    "an empty folder to repair": (("generate", "--repair", "--out", "empty"), ("empty",)),
    "options beside a repair": ((*PROCEDURAL, "--repair"), ("--repair",)),
    "a resume beside a repair": (("generate", "--repair", "--resume", "--out", "out"), ("--resume", "--repair")),
    "a parent that is a file": ((*PROCEDURAL[:-1], "file/out"), ("file",)),
    "a variable that was never set": ((*PROCEDURAL[:-1], ""), ("an empty path",)),
    "a name that is no text": ((*PROCEDURAL[:-1], "bad\udcff"), ("bad\\udcff", "UTF-8")),
    "a picture whose name is no text": (("view", "empty", "--out", "bad\udcff.png"), ("UTF-8",)),
    "a place where nothing can be written": ((*PROCEDURAL[:-1], "/proc/dyncity-out"), ("/proc/dyncity-out",)),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(dyncity, tmp_path: Path, case: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a file\n")
    arguments, words = CASES[case]
    refused(dyncity(*arguments, cwd=tmp_path), *words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file"]
    assert not list((tmp_path / "empty").iterdir())


def test_the_console_script_does_the_same(console, tmp_path: Path) -> None:
    refused(console(*PROCEDURAL, "--seed", "-1", cwd=tmp_path), "--seed", "-1")
    refused(console("generate", cwd=tmp_path), "--out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        (*PROCEDURAL[:-1], "corpus/shards/more"),
        (*PROCEDURAL[:-1], "link/more"),
        ("export", "corpus", "--format", "semantickitti", "--out", "corpus/kitti"),
        ("train", "vae", "--data", "corpus", "--workers", "0", "--out", "corpus/vae"),
        ("encode", "--data", "corpus", "--vae", SHIPPED, "--out", "corpus/../corpus/latents"),
        ("view", "corpus", "--out", "corpus/shards/scene.png"),
    ],
)
def test_nothing_is_written_into_a_corpus(dyncity, corpus: Path, tmp_path: Path, words) -> None:
    """It would be damaged: there would be files that its manifest does not know."""
    shutil.copytree(corpus, tmp_path / "corpus")
    (tmp_path / "link").symlink_to("corpus/shards")
    refused(dyncity(*words, cwd=tmp_path), "it lies inside the corpus")
    assert dyncity("verify", tmp_path / "corpus").returncode == 0


def test_output_that_exists_is_left_alone(dyncity, corpus: Path, tmp_path: Path) -> None:
    before = (corpus / "manifest.json").read_bytes()
    refused(dyncity(*PROCEDURAL[:-1], corpus), str(corpus), "--resume", "--overwrite")
    assert (corpus / "manifest.json").read_bytes() == before
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious.txt").write_text("keep me\n")
    refused(dyncity(*PROCEDURAL[:-1], full, "--overwrite"), str(full))
    assert (full / "precious.txt").read_text() == "keep me\n"


def test_a_resume_of_another_plan_is_refused(dyncity, corpus: Path) -> None:
    done = dyncity(*CITY, "--num-scenes", 4, "--seed", 5, "--resume", "--out", corpus)
    refused(done, "seed")


def test_a_checkpoint_of_another_grid_is_refused(dyncity, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(config_json(preset("carlasc")))
    (tmp_path / "other" / "model.safetensors").touch()
    done = dyncity("generate", "--preset", "tiny", "--checkpoint", "other", "--out", "out", cwd=tmp_path)
    refused(done, "--preset", "grid")
    assert not (tmp_path / "out").exists()


def test_a_corpus_of_another_grid_is_refused_in_training(dyncity, corpus: Path, tmp_path: Path) -> None:
    done = dyncity("train", "vae", "--data", corpus, "--preset", "carlasc", "--out", tmp_path / "run")
    refused(done, "voxel_size")
    assert not (tmp_path / "run").exists()


def test_a_scene_that_is_not_there_and_a_picture_of_an_unknown_kind(dyncity, corpus: Path, tmp_path: Path) -> None:
    refused(dyncity("view", corpus, "--scene", "nobody", "--out", tmp_path / "a.png"), "--scene", "nobody")
    refused(dyncity("view", corpus, "--out", tmp_path / "a.bmp"), "--out", ".png")
    refused(dyncity("view", corpus, "--out", tmp_path / "none" / "a.png"), "--out", "no folder", "none")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.gif").mkdir()
    refused(dyncity("view", corpus, "--out", tmp_path / "a.gif"), "--out", "is a folder")


def test_a_hostile_manifest_is_refused(dyncity, corpus: Path, tmp_path: Path) -> None:
    """A shard name that leads outside the folder is not followed, whatever the digest says."""
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["shards"][0]["name"] = "../../secret.parquet"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    for verb in (("verify",), ("info",), ("view",)):
        extra = ("--out", tmp_path / "a.png") if verb == ("view",) else ()
        done = dyncity(*verb, copy, *extra)
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.png").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 kB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(place)]
    if os.name != "posix" or shutil.which("mount") is None or subprocess.run(options, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=False)


def test_a_full_disk_is_one_line_and_leaves_nothing(dyncity, corpus: Path, small_disk: Path) -> None:
    done = dyncity(*CITY, "--num-scenes", 16, "--scenes-per-shard", 16, "--out", small_disk / "out")
    refused(done, "space")
    assert not list(small_disk.iterdir())
    refused(dyncity("export", corpus, "--format", "semantickitti", "--out", small_disk / "kitti"), "space")
    assert not list(small_disk.iterdir())
    refused(dyncity("view", corpus, "--out", small_disk / "scene.gif"), "space")
    assert not list(small_disk.iterdir())
