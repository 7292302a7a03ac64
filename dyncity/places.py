"""Places that options name: local paths, and URIs of object storage. What is shown of a URI has no credentials."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dyncity.errors import InputError

if TYPE_CHECKING:
    from dyncity.object_storage import ObjectPath

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
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
        InputError: a URI of another kind, or one without a bucket.
    """
    if not is_uri(named):
        return Path(str(named))
    from dyncity.object_storage import ObjectPath  # pyarrow: not for every --help

    return named if isinstance(named, ObjectPath) else ObjectPath(str(named))


def local_path(text: str) -> Path:
    """A path of this machine, for what does not go to or come from object storage.

    Raises:
        InputError: a URI.
    """
    if is_uri(text):
        raise InputError(without_credentials(text), "only local paths will do here", "copy from or to it yourself")
    return Path(text)
