"""The verbs, one after the other, as a user types them."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from killed_drivers import raylet_of, wait_for
from PIL import Image
from safetensors.numpy import load_file, save_file

import cli
import dyncity as package
from dyncity.checkpoint import shipped_checkpoint
from dyncity.datasets.corpus import open_corpus, read_manifest
from dyncity.exit_codes import RESUMABLE


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_a_corpus_has_all_its_files_and_verifies(dyncity, corpus) -> None:
    names = {p.name for p in corpus.iterdir()}
    assert {"README.md", "manifest.json", "config.json", "preview.png", "shards"} <= names
    assert not [n for n in names if n.endswith((".tmp", ".part"))]
    manifest = json.loads((corpus / "manifest.json").read_text())
    assert sum(s["scenes"] + len(s["failures"]) for s in manifest["shards"]) == 4
    done = dyncity("verify", corpus)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_preview_is_a_picture_of_streets(corpus) -> None:
    with Image.open(corpus / "preview.png") as preview:
        pixels = np.asarray(preview.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 100


def test_verify_names_a_flipped_bit_and_exits_1(dyncity, corpus, tmp_path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(corpus, damaged)
    shard = sorted((damaged / "shards").iterdir())[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    done = dyncity("verify", damaged)
    assert done.returncode == 1
    assert shard.name in done.stdout


def test_verify_says_how_far_it_is_and_what_to_type_next(console, corpus, exported, tmp_path) -> None:
    """Lines without a terminal; where there is damage that can be mended, the command that mends it."""
    done = console("verify", corpus)
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert re.fullmatch(r"verify: (\d+)/\1 shards, .* so far", first)
    assert last == f"{corpus}: undamaged"
    damaged = tmp_path / "a copy"
    shutil.copytree(corpus, damaged)
    (damaged / "notes\nof mine").touch()
    done = console("verify", damaged)
    assert [line.partition(": ")[2] for line in done.stdout.splitlines()[1:]] == [
        "it does not belong to the corpus",
        "1 finding",
    ]
    next((damaged / "shards").iterdir()).write_bytes(b"")
    done = console("verify", damaged)
    assert done.returncode == 1
    *_, count, last = done.stdout.splitlines()
    assert count == f"{damaged}: 2 findings"
    assert last == f"next: dyncity generate --repair --out '{damaged}'"
    files = sum(path.is_file() for path in exported.parent.rglob("*")) - 1  # all but the listing
    assert f"verify: {files}/{files} files" in console("verify", exported).stdout


def test_the_same_seed_gives_the_same_shards_and_another_seed_others(console, corpus, tmp_path) -> None:
    """The first was made in one process, the second by two workers of Ray."""
    for name, seed, workers in (("again", 0, 2), ("other", 1, 0)):
        done = console(
            *("generate", "--generator", "procedural", "--num-scenes", 4, "--seed", seed, "--workers", workers),
            *("--out", tmp_path / name),
        )
        assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "again" / "shards") == digests(corpus / "shards")
    assert digests(tmp_path / "other" / "shards") != digests(corpus / "shards")


def test_repair_makes_what_is_damaged_again_by_the_corpus_alone(dyncity, corpus, tmp_path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(corpus, damaged)
    first, second, *_ = sorted((damaged / "shards").iterdir())
    first.write_bytes(first.read_bytes()[:-100])
    (damaged / "preview.png").unlink()
    kept = second.stat().st_mtime_ns
    done = dyncity("generate", "--repair", "--workers", 0, "--out", damaged)
    assert done.returncode == 0, done.stderr
    for expected in (f"1 of {len(list((damaged / 'shards').iterdir()))} made again", first.name, "preview.png"):
        assert expected in done.stdout, expected
    assert digests(damaged) == digests(corpus)
    assert second.stat().st_mtime_ns == kept
    assert dyncity("verify", "--decode", damaged).returncode == 0


def test_overwrite_names_what_goes(dyncity, corpus, tmp_path) -> None:
    shutil.copytree(corpus, tmp_path / "c")
    size = sum(p.stat().st_size for p in corpus.rglob("*") if p.is_file())
    done = dyncity(
        *("generate", "--generator", "procedural", "--num-scenes", 1, "--workers", 0, "--overwrite"),
        *("--out", tmp_path / "c"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"--overwrite deletes {tmp_path / 'c'}: 4 scenes in 4 shards, {size} bytes\n" in done.stdout


def test_info_tells_what_a_corpus_holds(dyncity, corpus) -> None:
    done = dyncity("info", corpus)
    assert done.returncode == 0
    for expected in ("4 written", "64x64x8", "native", "procedural"):
        assert expected in done.stdout, expected


def test_view_draws_a_picture_and_a_film(dyncity, corpus, tmp_path) -> None:
    for name, frames in (("scene.png", 1), ("scene.gif", 8)):
        done = dyncity("view", corpus, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / name) as picture:
            assert getattr(picture, "n_frames", 1) == frames


@pytest.fixture(scope="module")
def exported(dyncity, corpus, tmp_path_factory) -> Path:
    """The corpus as a tree, in a folder of its own."""
    tree = tmp_path_factory.mktemp("exported") / "kitti"
    done = dyncity("export", corpus, "--format", "semantickitti", "--no-scans", "--workers", 0, "--out", tree)
    assert done.returncode == 0, done.stderr
    return tree


def test_export_writes_both_trees(dyncity, corpus, tmp_path) -> None:
    done = dyncity("export", corpus, "--format", "semantickitti", "--out", tmp_path / "kitti")
    assert done.returncode == 0, done.stderr
    sequences = sorted((tmp_path / "kitti" / "dataset" / "sequences").iterdir())
    assert len(sequences) == 4
    assert (sequences[0] / "voxels" / "000000.label").stat().st_size == 256 * 256 * 32 * 2
    done = dyncity("export", corpus, "--format", "occ3d-nuscenes", "--out", tmp_path / "occ3d")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "occ3d" / "gts").rglob("labels.npz"))) == 4 * 8
    assert (tmp_path / "occ3d" / "annotations.json").exists()


def test_numpy_shards_open_without_the_package(dyncity, tmp_path) -> None:
    done = dyncity(
        *("generate", "--generator", "procedural", "--workers", 0, "--num-scenes", 2, "--container", "numpy"),
        *("--labels", "carlasc", "--command", "left", "--out", tmp_path / "c"),
    )
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "c" / "shards").rglob("*.npz"))
    assert len(files) == 2
    with np.load(files[0], allow_pickle=False) as scene:
        semantics = scene["semantics"]
    assert semantics.shape == (8, 64, 64, 8)
    assert semantics[semantics != 255].max() < 11


def test_a_trajectory_from_a_file_is_followed(dyncity, tmp_path) -> None:
    rows = [[1.5 * k, 0.0, 0.0] for k in range(8)]
    (tmp_path / "path.json").write_text(json.dumps(rows))
    done = dyncity(
        *("generate", "--generator", "procedural", "--workers", 0, "--num-scenes", 1, "--container", "numpy"),
        *("--trajectory", tmp_path / "path.json", "--out", tmp_path / "c"),
    )
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "c" / "shards").rglob("*.npz")
    with np.load(file, allow_pickle=False) as scene:
        np.testing.assert_allclose(scene["ego_to_world"].reshape(-1, 4, 4)[:, 0, 3], [r[0] for r in rows], atol=1e-6)


QUICK = ("--set", "sampling.steps=2", "--set", "sampling.micro_batch=2", "--workers", 0)


def test_a_network_that_draws_no_numbers_fails_scene_by_scene(dyncity, tmp_path) -> None:
    """Exit 1; every scene is in the manifest and on the card, with its reason."""
    broken = tmp_path / "broken"
    shutil.copytree(shipped_checkpoint(), broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["latent.std"] = np.full_like(tensors["latent.std"], 3e38, np.float32)  # finite, what it scales is not
    save_file(tensors, broken / "model.safetensors")
    (broken / "model.safetensors.sha256").unlink()
    done = dyncity("generate", "--checkpoint", broken, "--num-scenes", 2, *QUICK, "--out", tmp_path / "c")
    assert (done.returncode, done.stderr) == (1, "")
    assert "0 written, 2 failed of 2" in done.stdout
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    failures = [failure for shard in manifest["shards"] for failure in shard["failures"]]
    assert [failure["index"] for failure in failures] == [0, 1]
    assert all("not finite" in failure["reason"] for failure in failures)
    card = (tmp_path / "c" / "README.md").read_text()
    assert "0 of 2 asked for, 2 failed" in card
    assert "not finite" in card
    assert dyncity("verify", tmp_path / "c").returncode == 0


def test_an_edit_keeps_what_is_outside_its_region(dyncity, corpus, tmp_path) -> None:
    region = tmp_path / "region.json"
    region.write_text('{"boxes": [{"x": [0, 60], "y": [-60, 60]}]}')
    done = dyncity("edit", corpus, "--inpaint", region, "--num-scenes", 2, *QUICK, "--out", tmp_path / "edited")
    assert done.returncode == 0, done.stderr
    before, after = open_corpus(corpus), open_corpus(tmp_path / "edited")
    for old, new in zip(before.scenes(), after.scenes(), strict=False):
        behind = old.semantics[0, : old.grid.shape[0] // 2]
        np.testing.assert_array_equal(new.semantics[0, : old.grid.shape[0] // 2], behind)
        assert (new.semantics[0] != old.semantics[0]).any()


def test_a_frame_is_kept_and_others_are_generated(dyncity, corpus, tmp_path) -> None:
    done = dyncity("edit", corpus, "--frame", 0, "--num-scenes", 2, *QUICK, "--out", tmp_path / "futures")
    assert done.returncode == 0, done.stderr
    old, new = next(open_corpus(corpus).scenes()), next(open_corpus(tmp_path / "futures").scenes())
    np.testing.assert_array_equal(new.semantics[0], old.semantics[0])
    assert (new.semantics[-1] != old.semantics[-1]).any()


def test_chunks_make_longer_scenes(dyncity, tmp_path) -> None:
    done = dyncity("generate", "--chunks", 3, "--num-scenes", 2, *QUICK, "--out", tmp_path / "long")
    assert done.returncode == 0, done.stderr
    assert [scene.frames for scene in open_corpus(tmp_path / "long").scenes()] == [16, 16]


def test_two_corpora_are_drawn_side_by_side(dyncity, corpus, tmp_path) -> None:
    done = dyncity("view", corpus, "--beside", corpus, "--scenes", 2, "--out", tmp_path / "both.png")
    assert done.returncode == 0, done.stderr
    done = dyncity("view", corpus, "--scenes", 2, "--out", tmp_path / "one.png")
    with Image.open(tmp_path / "both.png") as both, Image.open(tmp_path / "one.png") as one:
        assert both.width > one.width


def test_dry_run_shows_the_plan_and_writes_nothing(dyncity, tmp_path) -> None:
    done = dyncity("generate", "--generator", "procedural", "--num-scenes", 1000, "--dry-run", "--out", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert "1000" in done.stdout
    assert not list(tmp_path.iterdir())


def test_progress_comes_without_a_terminal_and_the_end_names_the_next_command(console, tmp_path) -> None:
    done = console("generate", "--generator", "procedural", "--workers", 0, "--num-scenes", 2, "--out", tmp_path / "c")
    assert "2/2 scenes" in done.stdout
    assert done.stderr == ""
    assert "next: dyncity " in done.stdout


def test_help_is_quick_and_needs_no_torch() -> None:
    """Half a second on an idle core; what costs time is imported inside the verbs."""
    program = "import sys, cli; heavy = {'torch', 'ray', 'numpy', 'pyarrow'} & set(sys.modules); print(heavy)"
    started = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(cli.__file__).parent
    )
    assert found.stdout.strip() == "set()"
    assert time.perf_counter() - started < 2.0


def test_the_bare_command_shows_its_help(dyncity) -> None:
    done = dyncity()
    assert (done.returncode, done.stderr) == (0, "")
    assert "generate" in done.stdout


def test_the_list_of_verbs_fits_a_terminal_without_being_cut(dyncity) -> None:
    lines = dyncity("--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.startswith("  ") and line.endswith("...")]


def test_the_version_is_that_of_the_package_however_the_command_is_started(dyncity) -> None:
    assert dyncity("--version").stdout.strip() == f"dyncity {package.__version__}"
    root = Path(cli.__file__).parent
    done = subprocess.run([sys.executable, "-m", "dyncity", "--version"], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout.strip()) == (0, f"dyncity {package.__version__}")


def test_doctor_ends_with_a_smoke_run(dyncity) -> None:
    done = dyncity("doctor")
    assert "smoke run" in done.stdout
    assert done.returncode == (1 if " fail " in done.stdout else 0)
    assert done.stderr == ""


@pytest.mark.parametrize("verb", [c.name or c.callback.__name__ for c in cli.app.registered_commands])
def test_every_example_of_the_help_parses(dyncity, verb: str, tmp_path: Path, capsys) -> None:
    """Each example is accepted as it stands: it may fail on files that are not there, never on its options."""
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    examples = [line for line in lines if line.startswith(f"dyncity {verb}")]
    assert examples, f"{verb} --help shows no example"
    for example in examples:
        arguments = example.split()[1:]
        extra = ["--dry-run"] if verb in ("generate", "import", "train") else []
        if verb == "generate" and "procedural" not in example:
            extra += ["--steps", "1", "--micro-batch", "1"]
        done = dyncity(*arguments, *extra, cwd=tmp_path)
        assert done.returncode in ((0, 1) if verb == "doctor" else (0, 2)), (example, done.stderr)
        for refusal in ("no such option", "missing", "invalid value", "use one of"):
            assert refusal not in done.stderr, (example, done.stderr)


def test_every_verb_that_resumes_says_so_when_it_is_interrupted() -> None:
    verbs = typer.main.get_command(cli.app).commands.items()
    assert set(RESUMABLE) == {name for name, verb in verbs if any("--resume" in option.opts for option in verb.params)}


def test_an_interrupted_run_says_how_to_go_on_and_does(start, dyncity, tmp_path) -> None:
    """Ctrl-C: exit 130, the last line is the command that finishes the corpus."""
    words = ("generate", "--generator", "procedural", "--num-scenes", 200, "--scenes-per-shard", 5, "--workers", 0)
    words = (*words, "--out", tmp_path / "c")
    process = start(*words)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "c").glob("shards/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("interrupted; go on with: dyncity generate")
    again = shlex.split(last.partition(": ")[2])[1:]
    assert "--resume" in again
    done = dyncity(*again)
    assert done.returncode == 0, done.stderr
    assert dyncity("verify", tmp_path / "c").returncode == 0


def test_a_run_that_is_told_to_end_records_what_it_has_and_says_how_to_go_on(start, tmp_path) -> None:
    """SIGTERM, what nodes and jobs are ended by: as an interrupt, with an exit code of its own."""
    out = tmp_path / "c"
    words = ("generate", "--generator", "procedural", "--num-scenes", 200, "--scenes-per-shard", 1, "--workers", 0)
    process = start(*words, "--out", out)
    deadline = time.monotonic() + 300
    while not list(out.glob("shards/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    (last,) = errors.strip().splitlines()
    assert last.startswith("ended; go on with: dyncity generate")
    assert last.endswith("--resume")
    assert read_manifest(out).written == len(list(out.glob("shards/*.parquet"))) > 0
    assert {path.name for path in out.iterdir()} == {"config.json", "manifest.json", "shards"}


def test_a_driver_of_ray_that_is_told_to_end_twice_says_how_to_go_on(start, tmp_path) -> None:
    """Ray's own handler would print a stack and abort after three seconds; from its end there is none at all."""
    out = tmp_path / "c"
    words = ("generate", "--generator", "procedural", "--num-scenes", 200, "--scenes-per-shard", 1, "--workers", 1)
    process = start(*words, "--out", out)
    deadline = time.monotonic() + 300
    while not list(out.glob("shards/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: raylet_of(process.pid) is None)  # in the middle of the end of Ray, which takes two seconds
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert not re.search("SIGTERM received|Traceback", errors), errors
    assert errors.strip().splitlines()[-1].startswith("ended; go on with: dyncity generate"), errors
    assert process.returncode == 143
    assert {path.name for path in out.iterdir()} == {"config.json", "manifest.json", "shards"}
    assert read_manifest(out).written > 0
