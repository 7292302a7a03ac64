"""The states of a run on disk: the newest whole one counts, and a full disk costs none."""

from __future__ import annotations

import os
import resource
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dyncity.errors import InputError
from dyncity.inventory import describe
from dyncity.presets import tiny
from dyncity.training.launch import _lines
from dyncity.training.run_folder import load_state, prepare_run, save_state, truncate_metrics


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    save_state(tmp_path, 5, {"x": torch.zeros(1000)})
    return tmp_path


@contextmanager
def little_disk() -> Iterator[None]:
    """Files of more than a page are refused, as by a full disk; no fixture, for what pytest writes is refused too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_the_state_before_stays(run: Path) -> None:
    with little_disk(), pytest.raises(InputError, match=r"state\.safetensors: cannot be written .*make room"):
        save_state(run, 10, {"x": torch.ones(10_000)})
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000005"]
    assert load_state(run)[0] == 5


def test_a_damaged_state_is_replaced_when_its_step_is_reached_again(run: Path) -> None:
    save_state(run, 10, {"x": torch.ones(1000)})
    (run / "checkpoints/step-00000010/state.safetensors").write_bytes(b"short")
    assert load_state(run)[0] == 5
    # A header that would take gigabytes to read is damage like any other.
    (run / "checkpoints/step-00000010/state.safetensors").write_bytes(struct.pack("<Q", 9 * 10**7) + b" " * 9 * 10**7)
    assert load_state(run)[0] == 5
    save_state(run, 10, {"x": torch.ones(1000)})
    step, tensors = load_state(run)
    assert step == 10
    assert tensors["x"].sum() == 1000


def flip_last_bit(path: Path) -> None:
    """Of its last number, which stays finite."""
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_in_a_state_is_found_and_said(tmp_path: Path) -> None:
    """One damaged state costs the steps since the one before; where all are damaged nothing is begun anew silently."""
    run, said = tmp_path / "run", []
    prepare_run(run, tiny(), resume=False, overwrite=False)
    for step in (5, 10):
        save_state(run, step, {"x": torch.ones(1000)})
    old, new = (run / f"checkpoints/step-{step:08d}/state.safetensors" for step in (5, 10))
    prepare_run(run, tiny(), resume=True, overwrite=False, say=said.append)
    assert said == []
    flip_last_bit(new)
    assert load_state(run)[0] == 5
    prepare_run(run, tiny(), resume=True, overwrite=False, say=said.append)
    assert len(said) == 1
    assert said[0].startswith(f"passed over, for step-00000005: {new}: is not what was written: its sha256 is ")
    flip_last_bit(old)
    with pytest.raises(InputError, match=r"is not what was .*so is every other state, 2 in all; restore the file, or"):
        prepare_run(run, tiny(), resume=True, overwrite=False, say=said.append)
    for path in (old, new):
        path.with_name("state.safetensors.sha256").unlink()  # states of older versions have none
    prepare_run(run, tiny(), resume=True, overwrite=False, say=said.append)
    assert load_state(run)[0] == 10
    assert len(said) == 1


def test_lines_of_metrics_that_were_cut_count_for_nothing(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert _lines(path) == ['{"step": 1}']
    path.write_bytes(b'{"step": 1}\n' + b"[" * 10**5 + b'\n\xff\n{"step": "x"}\n{"step": 9}\n{"step": 2}\n')
    truncate_metrics(run, 5)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("left", [(), ("inputs.json",), ("inputs.json", ".config.json.0a1b2c3d", ".lock")])
@pytest.mark.parametrize("option", ["resume", "overwrite", ""])
def test_a_run_that_was_killed_before_it_had_begun_is_begun(tmp_path: Path, left: tuple[str, ...], option: str) -> None:
    """A job that is started again and again by its cluster must not stop at what it left itself."""
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    for name in left:
        (out / name).write_text("")
    prepare_run(out, tiny(), resume=option == "resume", overwrite=option == "overwrite")
    assert (out / "config.json").is_file()
    (out / "config.json").unlink()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not a training run|already exists"):
        prepare_run(out, tiny(), resume=option == "resume", overwrite=option == "overwrite")


def test_an_overwrite_that_was_killed_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of its removals."""
    removals = 0
    for moment in range(99):
        out = tmp_path / str(moment)
        prepare_run(out, tiny(), resume=False, overwrite=False)
        for step in (5, 10):
            save_state(out, step, {"x": torch.zeros(9)})
        (out / "metrics.jsonl").write_text("")
        removals = 0

        def dies(original, path, moment=moment):
            nonlocal removals
            if removals == moment:
                raise KeyboardInterrupt
            removals += 1
            original(path)

        with monkeypatch.context() as patched:
            for owner, name in ((shutil, "rmtree"), (Path, "unlink")):
                original = getattr(owner, name)
                patched.setattr(owner, name, lambda path, original=original, dies=dies: dies(original, path))
            try:
                prepare_run(out, tiny(), resume=False, overwrite=True)
            except KeyboardInterrupt:
                pass
            else:
                break
        prepare_run(out, tiny(), resume=False, overwrite=True)
        assert load_state(out) is None
    assert removals == 5  # two states, their metrics, inputs and configuration


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run that has made no step yet."""
    prepare_run(tmp_path / "run", tiny(), resume=False, overwrite=False)
    return tmp_path / "run"


@pytest.mark.parametrize("odd", [b"\xff\xfe\n", b"x" * 2**20, b"[" * 10**5, b'{"step": 1e999}\n', b"7\n", b"\n\n"])
def test_metrics_that_are_none_are_passed_over_by_info_and_by_a_resume(begun: Path, odd: bytes) -> None:
    path, line = begun / "metrics.jsonl", b'{"step": 2, "loss": 0.5}\n'
    path.write_bytes(line + odd)
    assert _lines(path)[0] == line.decode().rstrip()
    assert ("last metrics", "step 2, loss 0.5; all are in metrics.jsonl") not in describe(begun)
    truncate_metrics(begun, 5)
    assert path.read_bytes() == line
    assert ("last metrics", "step 2, loss 0.5; all are in metrics.jsonl") in describe(begun)


def test_metrics_that_are_a_pipe_are_refused(begun: Path) -> None:
    os.mkfifo(begun / "metrics.jsonl")
    with pytest.raises(InputError, match=r"metrics.jsonl: it is not a file; remove it"):
        prepare_run(begun, tiny(), resume=True, overwrite=False)
