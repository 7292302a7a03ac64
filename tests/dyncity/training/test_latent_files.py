"""Latents are what was encoded: every changed, cut, missing, extra and swapped file is found, before any training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_models import small_config

import cli
from dyncity.errors import InputError
from dyncity.noted_digest import forget_digest
from dyncity.training.latent_files import OWN, verify_latents
from dyncity.training.latents import open_latents
from dyncity.training.launch import train_dit

ROOT = Path(__file__).parents[3]
NOTE = "latents.json.sha256"


@pytest.fixture
def latents(small_models: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_models / "latents", tmp_path / "latents")


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def train(small_models: Path, latents: Path, out: Path) -> None:
    train_dit(small_config("train_dit.steps=1"), latents, small_models / "vae", out)


def test_a_bit_flipped_anywhere_is_found(latents: Path) -> None:
    names = sorted(path.name for path in latents.iterdir())
    assert set(names) == OWN
    assert verify_latents(latents) == []
    draws = np.random.default_rng(7)
    for name in names:
        whole = (latents / name).read_bytes()
        for place in draws.integers(0, len(whole), 256 // len(names) + 1):
            flip(latents / name, int(place), int(draws.integers(8)))
            findings = verify_latents(latents)
            assert len(findings) == 1, (name, place)
            assert findings[0].startswith(str(latents / (name if name != NOTE else "latents.json"))), (name, place)
            (latents / name).write_bytes(whole)


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_cut_or_missing_file_is_found(latents: Path, name: str) -> None:
    content = (latents / name).read_bytes()
    (latents / name).write_bytes(content[:-1])
    assert len(verify_latents(latents)) == (name != NOTE), "the note's last byte is the end of its line"
    (latents / name).unlink()
    assert len(verify_latents(latents)) == 1
    (latents / name).symlink_to("/etc/hostname")
    assert len(verify_latents(latents)) == 1


def test_swapped_and_foreign_files_are_found(latents: Path) -> None:
    os.rename(latents / "rollout.npy", latents / "x")
    os.rename(latents / "movers.npy", latents / "rollout.npy")
    os.rename(latents / "x", latents / "movers.npy")
    findings = verify_latents(latents)
    assert [finding.partition(":")[0] for finding in findings] == [
        str(latents / f"{n}.npy") for n in ("movers", "rollout")
    ]
    (latents / "notes.txt").write_text("mine")
    assert verify_latents(latents)[2:] == [f"{latents / 'notes.txt'}: it does not belong to the latents"]


def test_training_refuses_damaged_latents_before_there_is_a_run(
    latents: Path, small_models: Path, tmp_path: Path
) -> None:
    flip(latents / "rollout.npy", -1)  # a number like any other
    assert np.isfinite(open_latents(latents).rollout).all()
    with pytest.raises(
        InputError, match=r"rollout.npy: it was changed .other sha256 than in latents.json.; restore it"
    ):
        train(small_models, latents, tmp_path / "dit")
    assert not (tmp_path / "dit").exists()


def test_a_run_does_not_go_on_with_latents_of_other_numbers(latents: Path, small_models: Path, tmp_path: Path) -> None:
    train(small_models, latents, tmp_path / "dit")
    facts = json.loads((latents / "latents.json").read_text())
    facts["sha256"]["rollout.npy"] = facts["sha256"]["movers.npy"]
    (latents / "latents.json").write_text(json.dumps(facts))
    forget_digest(latents / "latents.json")
    shutil.copyfile(latents / "movers.npy", latents / "rollout.npy")
    config = small_config("train_dit.steps=1")
    with pytest.raises(InputError, match=r"--data: is not what .* was started on"):
        train_dit(config, latents, small_models / "vae", tmp_path / "dit", resume=True)


def test_latents_of_older_versions_are_trained_on_and_verify_says_so(
    latents: Path, small_models: Path, tmp_path: Path
) -> None:
    facts = json.loads((latents / "latents.json").read_text())
    del facts["sha256"]
    (latents / "latents.json").write_text(json.dumps(facts))
    forget_digest(latents / "latents.json")
    train(small_models, latents, tmp_path / "dit")
    assert "it has no digests of its files (an older version wrote it); encode again" in verify_latents(latents)[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"../outside": "0" * 64},
        lambda d: {name: digest for name, digest in d.items() if name != "rollout.npy"},
        lambda d: d | {"rollout.npy": 7},
        lambda d: [*d],
    ],
)
def test_a_record_that_names_other_files_than_those_of_latents_is_refused(
    latents: Path, change: Callable[[dict[str, str]], object]
) -> None:
    facts = json.loads((latents / "latents.json").read_text())
    (latents / "latents.json").write_text(json.dumps(facts | {"sha256": change(facts["sha256"])}))
    forget_digest(latents / "latents.json")
    assert verify_latents(latents)[-1].startswith(f"{latents / 'latents.json'}: sha256: not a digest for each file")


def test_verify_of_the_command_line_takes_latents(latents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def verify() -> tuple[object, list[str]]:
        with pytest.raises(SystemExit) as end:
            cli.main(["verify", str(latents)])
        return end.value.code, capsys.readouterr().out.splitlines()[1:]  # after the progress

    assert verify() == (0, [f"{latents}: undamaged"])
    flip(latents / "given.npy", 1000)
    code, said = verify()
    assert (code, len(said)) == (1, 2)
    assert said[0].startswith(f"{latents / 'given.npy'}: it was changed")
    assert said[1] == f"{latents}: 1 finding"


def test_a_full_disk_is_one_line_and_leaves_nothing(small_models: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("mounting takes rights that this user does not have")
    options = ["--data", small_models / "city", "--vae", small_models / "vae", "--out", disk / "latents"]
    try:  # in a process of its own, as a map of a file without room would end it
        done = subprocess.run([sys.executable, ROOT / "cli.py", "encode", *options], capture_output=True, text=True)
        assert done.returncode == 2, done
        found = "cannot be written (No space left on device); free space or give another --out"
        assert done.stderr.splitlines() == [f"error: {disk / 'latents'}: {found}"]
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
