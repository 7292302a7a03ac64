"""The files of a folder of latents and their digests: noted in its record when it is made, compared before training

``latents.json`` has the sha256 of every other file, and ``latents.json.sha256`` beside it its own: a flipped bit in a
latent is another latent, and nothing else would tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dyncity.bounded_files import read_json
from dyncity.errors import InputError
from dyncity.noted_digest import ENDING, checked_digest, sha256_of

RECORD = "latents.json"
DIGESTS = "sha256"  # the field of the record
ALWAYS = ("rollout", "trajectory", "command", "variance", "grid_yaw")
SOMETIMES = ("layout", "given", "movers")
DATA = frozenset({"config.json", *(f"{name}.npy" for name in (*ALWAYS, *SOMETIMES))})
OWN = DATA | {RECORD, RECORD + ENDING}
_FIX = "restore it, or make it anew by dyncity encode"


def is_latents(folder: Path) -> bool:
    """Whether a folder is one of latents, sound or damaged."""
    return (folder / RECORD).is_file() or (folder / (RECORD + ENDING)).is_file()


def digests_of(folder: Path) -> dict[str, str]:
    """sha256 of every file of latents that is there, by name: what the record is going to say."""
    names = sorted(path.name for path in folder.iterdir() if path.name in DATA)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: sha256_of(folder / name), names), strict=True))


def check_latents(folder: Path) -> None:
    """Read every byte of latents once. Older versions noted no digests: of theirs nothing is compared.

    Raises:
        InputError: a file is not what was written, or not there.
    """
    for damage in _damages(folder, _recorded(folder) or {}):
        raise damage


def verify_latents(folder: Path, compared: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """What is wrong with the files of latents, one line a finding; empty where every byte is as it was written.

    Args:
        folder: the latents.
        compared: told how many files of how many were looked at.
    """
    try:
        recorded = _recorded(folder)
    except InputError as error:
        return [str(error)]
    if recorded is None:
        return [f"{folder / RECORD}: it has no digests of its files (an older version wrote it); encode again"]
    findings = [] if (folder / (RECORD + ENDING)).exists() else [f"{folder / (RECORD + ENDING)}: it is missing; {_FIX}"]
    findings += map(str, _damages(folder, recorded, compared))
    known = {*recorded, RECORD, RECORD + ENDING}
    foreign = sorted(path for path in folder.iterdir() if path.name not in known)
    return [*findings, *(f"{path}: it does not belong to the latents" for path in foreign)]


def _recorded(folder: Path) -> dict[str, str] | None:
    """The digests that the record has, compared with its own; None where an older version wrote none.

    Raises:
        InputError: the record is missing, no record, or was changed.
    """
    path = folder / RECORD
    values = read_json(path, _FIX)  # first, as it is bounded
    checked_digest(path, _FIX)
    recorded = values.get(DIGESTS) if isinstance(values, dict) else {}
    if recorded is None:
        return None
    whole = isinstance(recorded, dict) and all(isinstance(digest, str) for digest in recorded.values())
    if not whole or not {"config.json", *(f"{name}.npy" for name in ALWAYS)} <= recorded.keys() <= DATA:
        raise InputError(path, f"{DIGESTS}: not a digest for each file of latents", _FIX)
    return recorded


def _damages(
    folder: Path, recorded: dict[str, str], compared: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[InputError]:
    """The files that are not what was recorded of them."""
    compared(0, len(recorded))
    with ThreadPoolExecutor() as pool:
        for number, damage in enumerate(pool.map(lambda name: _damage(folder / name, recorded[name]), recorded)):
            compared(number + 1, len(recorded))
            if damage is not None:
                yield damage


def _damage(path: Path, recorded: str) -> InputError | None:
    """How a file differs from what was recorded of it; None where it does not."""
    try:
        if path.is_symlink() or not path.is_file():
            return InputError(path, "it is missing" if not path.exists() else "it is not a plain file", _FIX)
        return (
            None
            if sha256_of(path) == recorded
            else InputError(path, f"it was changed (other sha256 than in {RECORD})", _FIX)
        )
    except OSError as error:
        return InputError(path, f"not readable ({error.strerror or error})", _FIX)
