"""Places in object storage, s3:// and gs://: read, written whole, listed; errors in one line, never with credentials.

An object is there as a whole or not at all, and cannot be renamed. What is written is listed and read at once
(both services promise that), which is what the commits of a corpus rely on.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from dyncity.errors import InputError
from dyncity.patience import FAILING, UNANSWERED, patiently
from dyncity.places import without_credentials

Answer = TypeVar("Answer")

SCHEMES = ("s3", "gs")
_GCS_SECONDS = 30  # pyarrow's own is 15 minutes, in which a command says nothing
_CHUNK = 2**20
_REASONS = (
    # What the services say, in the words of pyarrow; what that means; what to do.
    ("NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist", "there is no such bucket", "make it, or name another one"),
    (
        r"ACCESS_DENIED|Forbidden|INVALID_ACCESS_KEY|SIGNATURE|INVALID_CLIENT_TOKEN|PERMISSION_DENIED|UNAUTHENTICATED|\b403\b",
        "access is denied",
        "check the credentials and what they allow",
    ),
    (
        r"SLOW_?DOWN|THROTTL|INTERNAL_?(FAILURE|ERROR)|SERVICE_?UNAVAILABLE|HTTP status 5\d\d",
        FAILING,
        "try again later",
    ),
    (
        "NETWORK_CONNECTION|curlCode|UNAVAILABLE|DEADLINE|resolve host|timed? ?out",
        UNANSWERED,
        "check endpoint, region and network",
    ),
)
_answered: set[str] = set()  # URIs whose service this process has had an answer from


class ObjectPath:
    """A prefix or an object, as ``pathlib`` would have it: ``/`` joins, ``str()`` is the URI without credentials.

    It can be pickled and forked: every process opens a connection of its own. A storage that has answered this
    process before and stops, or that answers with errors of its own, is asked again for a minute (``patiently``).

    Args:
        uri: ``s3://bucket/prefix`` or ``gs://bucket/prefix``, with the options and credentials that
            ``pyarrow.fs.FileSystem.from_uri`` takes.
        below: names below it.

    Raises:
        InputError: (all methods too) no such bucket, no access, no answer; one line each.
    """

    def __init__(self, uri: str, below: tuple[str, ...] = ()) -> None:
        self._uri, self._below = uri, below
        try:
            parts = urlsplit(uri)
        except ValueError:
            raise InputError(without_credentials(uri), "not a URI", "give s3://bucket/prefix") from None
        if parts.scheme not in SCHEMES:
            raise InputError(without_credentials(uri), f"found scheme {parts.scheme!r}", "use s3:// or gs://")
        bucket = parts.netloc.rpartition("@")[2]
        if ":" in bucket or "@" in parts.path:
            fix = "write / as %2F and @ as %40 in them, or set them in the environment"
            raise InputError(without_credentials(uri), "its credentials are not encoded", fix)
        prefix = [name for name in parts.path.strip("/").split("/") if name]
        if not bucket or any(name in ("", ".", "..") for name in (*prefix, *below)):
            raise InputError(without_credentials(uri), "not a bucket and a prefix", "give s3://bucket/prefix")
        self._shown = f"{parts.scheme}://" + "/".join((bucket, *prefix, *below))
        user = parts.netloc.rpartition("@")[0]
        self._secrets = tuple(s for part in user.split(":") for s in {part, unquote(part)} if len(s) > 3)

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"ObjectPath({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and (self._uri, self._below) == (other._uri, other._below)

    def __hash__(self) -> int:
        return hash((self._uri, self._below))

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self._uri, (*self._below, *name.split("/")))

    @property
    def name(self) -> str:
        """The last part."""
        return self._shown.rpartition("/")[2]

    def absolute(self) -> ObjectPath:
        """Itself."""
        return self

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Whatever the service says as one line that says what to do."""
        try:
            yield
        except FileNotFoundError:
            raise InputError(self, "there is no such object", "check the URI") from None
        except (OSError, pa.ArrowException, ValueError) as error:
            if isinstance(error, InputError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise  # the latter is about this machine's disk
            text = " ".join(str(error).split())
            said = re.sub("'[^']*'", "", text)  # keys and buckets, which may be called anything
            for pattern, found, fix in _REASONS:
                if re.search(pattern, said, re.IGNORECASE):
                    raise InputError(self, found, fix) from None
            for secret in self._secrets:
                text = text.replace(secret, "...")
            raise InputError(self, without_credentials(text)[:200], "check the URI and its options") from None

    def _asked(self, work: Callable[[], Answer]) -> Answer:
        """What the service answers to ``work``, which may be called again."""

        def once() -> Answer:
            with self._readable_errors():
                answer = work()
            _answered.add(self._uri)
            return answer

        return patiently(once, (FAILING, UNANSWERED) if self._uri in _answered else (FAILING,))

    def _system(self) -> tuple[fs.FileSystem, str]:
        """The file system and the key, by a connection of this process."""
        system, root = _connected(self._uri, os.getpid())
        return system, "/".join((root.rstrip("/"), *self._below))

    @property
    def origin(self) -> str:
        """Which service it is, by the options of the URI; without credentials."""
        return without_credentials(self._uri).partition("?")[2]

    def _info(self) -> Any:
        """What the service says of the object; None where there is none."""

        def look() -> Any:
            system, key = self._system()
            return system.get_file_info(key)

        info = self._asked(look)
        return info if info.type == fs.FileType.File else None

    def size(self) -> int | None:
        """Bytes of the object; None where there is none."""
        info = self._info()
        return None if info is None else int(info.size)

    def stamp(self) -> tuple[int, int] | None:
        """Bytes of the object and when it was put, in nanoseconds; None where there is none."""
        info = self._info()
        return None if info is None else (int(info.size), int(info.mtime_ns))

    def exists(self) -> bool:
        """Whether there is such an object; a prefix is none."""
        return self.size() is not None

    def sizes(self, recursive: bool = True) -> dict[str, int]:
        """The names below this prefix and their bytes, in order; not recursive: -1 for what holds others.

        Names are input from outside: one that would lead elsewhere as a path is refused.
        """

        def look() -> tuple[str, Any]:
            system, key = self._system()
            return key, system.get_file_info(fs.FileSelector(key, allow_not_found=True, recursive=recursive))

        key, found = self._asked(look)
        sizes = {}
        for info in found:
            name = info.path[len(key) :].lstrip("/")
            if info.type == fs.FileType.File:
                sizes[name] = int(info.size)
            elif not recursive:
                sizes[name] = -1
        for name in sizes:
            if name != str(PurePosixPath(name)) or ".." in name.split("/") or "\0" in name:
                raise InputError(self, f"it holds an object named {name[:60]!r}", "remove it")
        return dict(sorted(sizes.items()))

    def open(self) -> StoredFile:
        """The object, opened for reading at any place: only what is read is fetched."""
        return StoredFile(self)

    def buffered(self) -> BinaryIO:
        """The object as a binary file of Python's, fetched 4 MiB at a time or more: most are one request."""
        return cast(BinaryIO, io.BufferedReader(self.open(), 2**22))

    def read(self, most: int) -> bytes:
        """The bytes of the object.

        Raises:
            InputError: it has more than ``most``.
        """
        with self.open() as file:
            if file.size() > most:
                raise InputError(self, f"it has {file.size()} bytes", f"at most {most} are read")
            return file.read()

    def sha256(self) -> str:
        """Digest of the bytes of the object, read a MiB at a time."""
        total = hashlib.sha256()
        with self.open() as file:
            while part := file.read(_CHUNK):
                total.update(part)
        return total.hexdigest()

    def write(self, data: Any) -> None:
        """Put an object in place: a reader sees none, the old or the whole new one. ``data``: bytes or a buffer.

        It is handed over in one piece: a stream that is closed half-way would complete a part of it.
        """

        def put() -> None:
            system, key = self._system()
            with system.open_output_stream(key) as stream:
                stream.write(data)

        self._asked(put)

    def upload(self, path: Path) -> None:
        """Put a file in place as this object."""
        with pa.memory_map(str(path)) as file:
            self.write(file.read_buffer())

    def download(self, path: Path, most: int | None = None) -> None:
        """Copy the object into the new file ``path``, a MiB at a time.

        Raises:
            InputError: it has more than ``most`` bytes.
        """
        with self.open() as file:
            if most is not None and file.size() > most:
                raise InputError(self, f"it has {file.size()} bytes", f"at most {most} are read")
            with open(path, "xb") as copy:
                shutil.copyfileobj(file, copy, _CHUNK)

    def remove(self) -> None:
        """Remove the object, if it is there."""
        self._without("delete_file")

    def remove_all(self) -> None:
        """Remove all objects below this prefix, and the empty one that stands for it as a folder."""
        self._without("delete_dir")

    def _without(self, remove: str) -> None:
        """Call a method of the file system that removes; what is not there is removed."""

        def go() -> None:
            system, key = self._system()
            getattr(system, remove)(key)

        try:
            self._asked(go)
        except InputError as error:
            if error.found != "there is no such object":
                raise

    @contextmanager
    def local(self, *names: str, most: int = 2**25) -> Iterator[Path]:
        """A temporary folder with copies of those objects that are there; errors about it name this place.

        Raises:
            InputError: one of them has more than ``most`` bytes.
        """
        with tempfile.TemporaryDirectory(prefix="dyncity-") as folder:
            there = self.sizes(recursive=False)
            for name in names:
                if there.get(name, -1) >= 0:
                    (self / name).download(Path(folder) / name, most)
            try:
                yield Path(folder)
            except InputError as error:
                raise InputError(error.where.replace(folder, str(self)), error.found, error.fix) from None


class StoredFile(io.RawIOBase):
    """An object opened for reading; each fetch is asked for again as ``ObjectPath`` has it.

    Raises:
        InputError: (by every method) there is no such object, no access, no answer.
    """

    def __init__(self, place: ObjectPath) -> None:
        super().__init__()
        self._place, self._at = place, 0
        self._file: Any = None  # pyarrow's, which stands where the last fetch ended: GCS goes on from there
        place._asked(self._opened)

    def _opened(self) -> Any:
        """The object, opened by pyarrow; anew after a fetch that failed."""
        if self._file is None:
            system, key = self._place._system()
            self._file = system.open_input_file(key)
        return self._file

    def size(self) -> int:
        """Bytes of the object."""
        return int(self._place._asked(lambda: self._opened().size()))

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is fetched."""
        self._at = offset + (self._at if whence == io.SEEK_CUR else self.size() if whence == io.SEEK_END else 0)
        return self._at

    def read(self, count: int | None = -1) -> bytes:
        """The next bytes; all that are left where no number is given."""
        wanted = self.size() - self._at if count is None or count < 0 else count

        def fetch() -> bytes:
            file = self._opened()
            try:
                if file.tell() != self._at:
                    file.seek(self._at)
                return bytes(file.read(wanted))
            except (OSError, pa.ArrowException):
                self._file = None
                raise

        data = self._place._asked(fetch)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; how many bytes there were."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()
        super().close()


@lru_cache(maxsize=16)
def _connected(uri: str, process: int) -> tuple[fs.FileSystem, str]:
    """The file system of a URI and the path in it; ``process`` keeps forks from sharing connections."""
    if uri.startswith("gs:") and "retry_limit_seconds" not in uri:
        uri += ("&" if "?" in uri else "?") + f"retry_limit_seconds={_GCS_SECONDS}"
    if uri.startswith("s3:") and "allow_delayed_open" not in uri:  # small objects in one request instead of three
        with suppress(pa.ArrowInvalid):  # older pyarrow does not know it; a URI that is wrong is wrong again below
            system, root = fs.FileSystem.from_uri(f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true")
            return system, root
    system, root = fs.FileSystem.from_uri(uri)
    return system, root
