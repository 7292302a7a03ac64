"""Places that options name: local paths, and URIs of object storage. What is shown of a URI has no credentials."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dyncity.errors import InputError

if TYPE_CHECKING:
    from dyncity.object_storage import ObjectPath

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ALMOST_URI = re.compile(r"(s3|gs):")
# All up to the last @: keys of AWS hold slashes, which not everybody encodes.
_CREDENTIALS = re.compile(r"(?<=://)\S*@")


def is_uri(text: object) -> bool:
    """Whether a text names a place by a URI."""
    return _URI.match(str(text)) is not None


def without_credentials(text: str) -> str:
    """A text that may hold URIs, without what stands between ``//`` and ``@`` in them."""
    return _CREDENTIALS.sub("", text)


def place(named: str | Path | ObjectPath) -> Path | ObjectPath:
    """A local path, or a place in object storage.

    Raises:
        InputError: a URI of another kind, or one without a bucket; no path.
    """
    if not is_uri(named):
        return check_path(named)
    from dyncity.object_storage import ObjectPath  # pyarrow: not for every --help

    return named if isinstance(named, ObjectPath) else ObjectPath(str(named))


def local_path(text: str) -> Path:
    """A path of this machine, for what does not go to or come from object storage.

    Raises:
        InputError: a URI; no path.
    """
    if is_uri(text):
        raise InputError(without_credentials(text), "only local paths will do here", "copy from or to it yourself")
    return check_path(text)


def check_path(named: object) -> Path:
    """A path.

    Raises:
        InputError: it is empty, as variables of a shell are that were never set; a URI that lacks a slash.
    """
    if not str(named):
        raise InputError("''", "an empty path", "name a folder or a file")
    if _ALMOST_URI.match(str(named)):  # as it is typed, and as pathlib writes a URI
        raise InputError(named, "it is no URI: a slash is missing", "write s3://bucket/prefix, as text")
    return Path(str(named))


def check_outside_corpora(out: Path) -> None:
    """Raise InputError where a place lies inside a corpus, links followed: what is written there would damage it."""
    for parent in Path(os.path.realpath(out)).parents:
        if (parent / "manifest.json").is_file() and (parent / "shards").is_dir():
            raise InputError(out, f"it lies inside the corpus {parent}", "choose a place outside")
