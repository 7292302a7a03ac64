"""A checkpoint in object storage, fetched once into a cache folder; every later use compares its digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

from dyncity.errors import InputError
from dyncity.noted_digest import ENDING, checked_digest, sha256_of
from dyncity.object_storage import ObjectPath

FILES = ("model.safetensors", "config.json", "README.md", f"model.safetensors{ENDING}")  # two of them a must
_DIGESTS = "sha256.json"


def fetched(checkpoint: Path | ObjectPath) -> Path:
    """The folder of a checkpoint on this machine: its own, or a copy of what lies in object storage.

    Copies are kept in ``$XDG_CACHE_HOME/dyncity/checkpoints`` (by default ``~/.cache``), one for each state
    of the objects. A copy that is not what was fetched is fetched again.

    Raises:
        InputError: no checkpoint there, weights that are not what was written, no access, no answer, a cache folder
            that cannot be written.
    """
    if not isinstance(checkpoint, ObjectPath):
        return checkpoint
    stamps = {name: (checkpoint / name).stamp() for name in FILES}
    for name in FILES[:2]:
        if stamps[name] is None:
            raise InputError(checkpoint, f"there is no {name}", "give a place that holds a checkpoint")
    state = hashlib.sha256(json.dumps([checkpoint.origin, str(checkpoint), stamps]).encode()).hexdigest()
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dyncity" / "checkpoints"
    folder = root / state[:32]
    if _is_sound(folder):
        return folder
    part = root / f".part-{uuid.uuid4().hex}"
    try:
        part.mkdir(parents=True)
        for name in FILES:
            if stamps[name] is not None:
                (checkpoint / name).download(part / name)
        checked_digest(part / FILES[0], "put the checkpoint there again", shown=checkpoint / FILES[0])
        (part / _DIGESTS).write_text(json.dumps({path.name: sha256_of(path) for path in part.iterdir()}))
        shutil.rmtree(folder, ignore_errors=True)
        try:
            part.rename(folder)
        except OSError:  # another process was quicker
            if not _is_sound(folder):
                raise
    except OSError as error:
        raise InputError(root, f"cannot be written ({error.strerror or error})", "set XDG_CACHE_HOME") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _is_sound(folder: Path) -> bool:
    """Whether a copy is there and what was fetched."""
    try:
        digests = json.loads((folder / _DIGESTS).read_bytes())
        return {p.name for p in folder.iterdir()} == {*digests, _DIGESTS} and all(
            sha256_of(folder / name) == digest for name, digest in digests.items()
        )
    except (OSError, ValueError, AttributeError):
        return False
