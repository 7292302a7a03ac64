"""Weights and states are what was written: a flipped bit leaves finite numbers, and only their digest tells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dyncity.checkpoint import halve_checkpoint, load_checkpoint, shipped_checkpoint, start_from, weights_digest
from dyncity.errors import InputError
from dyncity.inventory import describe
from dyncity.noted_digest import checked_digest, forget_digest, note_digest, sha256_of

WEIGHTS, NOTE = "model.safetensors", "model.safetensors.sha256"


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return shutil.copytree(shipped_checkpoint(), tmp_path / "tiny")


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("place", [-1, -5_000_000, -12_345_678])
def test_a_flipped_bit_in_finite_weights_is_one_line_that_names_the_file(shipped: Path, place: int) -> None:
    flip(shipped / WEIGHTS, place)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(shipped / WEIGHTS).values())
    noted = (shipped / NOTE).read_text()[:16]
    said = rf"tiny/{WEIGHTS}: is not what was written: its sha256 is \w+\.\.\., {NOTE} beside it says {noted}"
    vae = load_checkpoint(shipped_checkpoint()).vae
    for read in (load_checkpoint, describe, weights_digest, lambda folder: start_from(folder, "vae", vae)):
        with pytest.raises(InputError, match=said):
            read(shipped)
    with pytest.raises(InputError, match=said):
        halve_checkpoint(shipped, shipped.parent / "half")
    assert not (shipped.parent / "half").exists()


def test_every_checkpoint_is_written_with_its_digest(small_models: Path, tmp_path: Path) -> None:
    """The checkpoint of a training run, and a copy in half precision over another one."""
    halve_checkpoint(small_models / "dit", tmp_path / "half")
    halve_checkpoint(shipped_checkpoint(), tmp_path / "half")
    for folder in (small_models / "vae", small_models / "dit", tmp_path / "half", shipped_checkpoint()):
        subprocess.run(["sha256sum", "--check", "--strict", NOTE], cwd=folder, check=True)
        assert load_checkpoint(folder).sha256 == weights_digest(folder) == (folder / NOTE).read_text()[:64]


def test_checkpoints_that_say_nothing_of_their_digest_are_read_as_ever(shipped: Path) -> None:
    forget_digest(shipped / WEIGHTS)
    flip(shipped / WEIGHTS, -1)
    assert load_checkpoint(shipped).sha256 == sha256_of(shipped / WEIGHTS)


@pytest.mark.parametrize("content", [b"", b"\xff" * 10**6, b"4bf9d71b", b"0" * 64 + b"  other.safetensors\n"])
def test_what_is_no_digest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    (tmp_path / NOTE).write_bytes(content)
    with pytest.raises(InputError, match=rf"{NOTE}: not a line of sha256sum for {WEIGHTS}; restore the file, or"):
        checked_digest(tmp_path / WEIGHTS, "restore the file")


def test_who_reads_while_a_checkpoint_is_replaced_is_not_told_of_damage(tmp_path: Path, monkeypatch) -> None:
    """Between the reader's looks at the note and at the file, a writer replaces both, or is half way."""
    path = tmp_path / WEIGHTS
    for through in (True, False):
        path.write_bytes(b"old")
        note_digest(path, sha256_of(path))

        def replaced_meanwhile(read: Path, through: bool = through) -> str:
            forget_digest(read)
            read.write_bytes(b"new")
            if through:
                note_digest(read, sha256_of(read))
            return sha256_of(read)

        with monkeypatch.context() as patched:
            patched.setattr("dyncity.noted_digest.sha256_of", replaced_meanwhile)
            assert checked_digest(path, "") == sha256_of(path)
