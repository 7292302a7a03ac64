"""A training run on disk: configuration, metrics, resumable state, and the checkpoint it ships.

``RUN/config.json``, ``RUN/inputs.json`` (digests of the data and of the start), ``RUN/metrics.jsonl``,
``RUN/checkpoints/step-N/`` (the state to resume from and its digest, written under a temporary name and renamed; the
last two are kept), and the averaged weights as ``RUN/model.safetensors`` with digest and card, so that a run is a
checkpoint folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dyncity.bounded_files import check_is_file, check_tensors_header, read_json
from dyncity.checkpoint import save_tensors
from dyncity.config import Config
from dyncity.config_file import config_json, read_config
from dyncity.errors import InputError
from dyncity.noted_digest import ENDING, checked_digest, note_digest, sha256_of
from dyncity.places import check_outside_corpora
from dyncity.training.sharding import laid_out

_KEPT = 2
_LINE_BYTES = 2**16  # no line of metrics has more
_LOCK, _INPUTS = ".lock", "inputs.json"
_STATE = "state.safetensors"
_WEIGHTS = ("model.safetensors", f"model.safetensors{ENDING}")
_OWN = ("config.json", _INPUTS, "metrics.jsonl", *_WEIGHTS, "README.md", "checkpoints", ".ray", ".error.json")
_PARTS = (".metrics.", ".model.safetensors.", ".config.json.", ".README.md.")  # that a killed run leaves
_SECONDS_OF_ORPHANS = 10.0  # that the workers of a killed driver live on


def prepare_run(
    out: Path,
    config: Config,
    *,
    resume: bool,
    overwrite: bool,
    inputs: dict[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Make or check the folder of a run before anything is launched.

    Args:
        out: the folder.
        config: what is going to be trained.
        resume, overwrite: what to do with a run that is there.
        inputs: digests of what the run learns from and starts from, by option; a resume has to give the same.
        say: told in one line what is going to be deleted, before anything is touched; a line for each damaged state.

    Raises:
        InputError: the folder exists and neither option says what to do, is no run, was started under
            another configuration or on other inputs, has damaged states alone, or is being trained by another process.
    """
    given = inputs or {}
    if check_run(out, config, resume=resume, overwrite=overwrite):
        if resume:
            _same_inputs(out, given)
            check_is_file(out / "metrics.jsonl", "remove it")
            _has_a_sound_state(out, say)
            return
        _clear(out, say)
    try:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        (out / _INPUTS).write_text(json.dumps(given, indent=2) + "\n")
        part = out / f".config.json.{uuid.uuid4().hex[:8]}"
        part.write_text(config_json(config))
        os.replace(part, out / "config.json")  # last, and whole: it makes the folder a run
    except OSError as error:
        raise InputError(out, f"cannot be written ({error.strerror})", "give a folder you may write to") from None


def check_run(out: Path, config: Config, *, resume: bool, overwrite: bool) -> bool:
    """Whether there is a run in ``out`` that may be gone on with, or replaced; touches nothing.

    Raises:
        InputError: as ``prepare_run``, of what can be told from the place and the configuration alone.
    """
    check_outside_corpora(out)
    if not out.exists() or _is_unbegun(out):
        return False
    if not (resume or overwrite):
        raise InputError(out, "already exists", "use --resume or --overwrite, or another --out")
    if not ((out / "config.json").is_file() and (out / "checkpoints").is_dir()):
        raise InputError(out, "exists and is not a training run", "give another --out")
    if resume and _decisive(read_config(out / "config.json")) != _decisive(config):
        raise InputError(
            out / "config.json", "was started under another configuration", "resume with the same settings"
        )
    return True


def _is_unbegun(out: Path) -> bool:
    """Whether a folder is empty, or what a run left that was killed before it had begun."""
    if not out.is_dir():
        return False
    early = (_INPUTS, _LOCK)
    return all(
        path.name in early or path.name.startswith(_PARTS) or (path.name == "checkpoints" and _is_empty(path))
        for path in out.iterdir()
    )


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _decisive(config: Config) -> Config:
    """A configuration without what may change on the way: where the weights lie."""
    trainings = {name: replace(getattr(config, name), sharding="auto") for name in ("train_vae", "train_dit")}
    return replace(config, **trainings)


def _same_inputs(out: Path, given: dict[str, str]) -> None:
    """Raise InputError unless the run was started on the same inputs."""
    begun = read_json(out / _INPUTS, "start over with --overwrite")
    if begun == given:
        return
    names = {*begun, *given} if isinstance(begun, dict) else set(given)
    option = next(name for name in sorted(names) if not isinstance(begun, dict) or begun.get(name) != given.get(name))
    raise InputError(option, f"is not what {out} was started on", "resume with the same, or use --overwrite")


def _has_a_sound_state(out: Path, say: Callable[[str], None] | None) -> None:
    """Say which states are damaged, down to the first that is not; raise InputError where all are."""
    faults = []
    for folder in _states(out):
        try:
            _check_state(folder)
        except InputError as error:
            faults.append(error)
            continue
        if say is not None:
            for fault in faults:
                say(f"passed over, for {folder.name}: {fault.where}: {fault.found}")
        return
    if faults:
        more = f"; so is every other state, {len(faults)} in all" if len(faults) > 1 else "; there is no other state"
        raise InputError(
            faults[0].where, f"{faults[0].found}{more}", "restore the file, or start over with --overwrite"
        )


def _states(out: Path) -> list[Path]:
    """The folders of the states of a run, the newest first."""
    return sorted((out / "checkpoints").glob("step-*"), reverse=True)


def _check_state(folder: Path) -> None:
    """Raise InputError where the file of a state is missing, has no header that can be read, or another digest."""
    fix = "start over with --overwrite"
    check_tensors_header(folder / _STATE, fix)
    checked_digest(folder / _STATE, fix)


def _clear(out: Path, say: Callable[[str], None] | None) -> None:
    """Remove a run and no file of others, unless another process is training it."""
    with sole_writer(out, patience=_SECONDS_OF_ORPHANS):
        own = [path for path in out.iterdir() if path.name in _OWN or path.name.startswith(_PARTS)]
        files = [file for path in own for file in (path, *path.rglob("*")) if file.is_file()]
        if say is not None:
            size = sum(path.stat().st_size for path in files)
            say(f"--overwrite deletes {out}: a run of {len(files)} files, {size} bytes")
        # To the end it is a run, which a killed command can be told to overwrite again.
        kept = (out / "checkpoints", out / "config.json")
        for path in (*(p for p in own if p not in kept), *(out / "checkpoints").iterdir(), out / "config.json"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def sole_writer(out: Path, patience: float = 90.0, work: str = "training this run") -> Iterator[None]:
    """Hold a folder for one writer: the workers of a killed driver live on for some seconds.

    Raises:
        InputError: another process still writes after ``patience`` seconds.
    """
    with (out / _LOCK).open("w") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise InputError(out, f"another process is {work}", "wait for it or stop it") from None
                time.sleep(0.5)
        yield


def save_state(out: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Write the state after ``step`` steps: a reader finds it whole or not at all."""
    folder = out / "checkpoints"
    part = folder / f".part-{uuid.uuid4().hex[:8]}"
    part.mkdir()
    target = folder / f"step-{step:08d}"
    try:
        plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        save_tensors(plain, part / _STATE)
        with (part / _STATE).open("rb") as file:
            os.fsync(file.fileno())
        note_digest(part / _STATE, sha256_of(part / _STATE))
        if target.exists():  # nobody who could read it would have come to this step again
            shutil.rmtree(target)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    for left in folder.glob(".part-*"):
        shutil.rmtree(left, ignore_errors=True)


def load_state(out: Path) -> tuple[int, dict[str, Tensor]] | None:
    """The newest state that is what was written and of finite numbers, as (step, tensors), or None."""
    for folder in _states(out):
        try:
            _check_state(folder)
            step, tensors = int(folder.name.removeprefix("step-")), load_file(folder / _STATE)
        except (SafetensorError, OSError, ValueError):  # InputError is a ValueError
            continue
        if all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            return step, tensors
    return None


def truncate_metrics(out: Path, step: int) -> None:
    """Drop the lines of ``metrics.jsonl`` after ``step``: they will be written again."""
    path = out / "metrics.jsonl"
    if not path.exists():
        return
    part = out / f".metrics.{uuid.uuid4().hex[:8]}"
    with path.open("rb") as lines, part.open("wb") as kept:
        while line := lines.readline(_LINE_BYTES):
            try:
                if json.loads(line)["step"] <= step:
                    kept.write(line.rstrip() + b"\n")
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
    os.replace(part, path)


def log_metrics(out: Path, metrics: dict[str, float | int]) -> None:
    """Append one line to ``metrics.jsonl``."""
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(metrics) + "\n")


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The moments of Adam by parameter name, as plain tensors."""
    tensors = {}
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        for key in ("step", "exp_avg", "exp_avg_sq"):
            stored = tensors.get(f"optimizer.{key}.{name}")
            if stored is not None:
                whole = key == "step"  # a number, which every worker has
                optimizer.state[parameter][key] = stored.to(parameter.device) if whole else laid_out(stored, parameter)
