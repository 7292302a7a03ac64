"""What lies in an exported tree: scenes, folders, and the size and digest of every file; written, read, checked.

The listing lies NEXT to the tree, as ``<tree>.scenes.json`` (``docs/export.md``): JSON, a scene a line, so that it
is written in bounded memory. Its last line is the sha256 of the lines before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyncity.errors import InputError
from dyncity.terminal import size_text
from exporters.shard_digests import Compared, digest, looked_at, told

LISTING = "scenes.json"
ENDING = f".{LISTING}"
MAX_LISTING_BYTES = 2**30  # eight million files
_SCENES, _END = b'"scenes": [\n', b"],\n"
_LINE_BYTES = 2**26  # half a million files of one scene
_DENSE_BYTES = 2**23  # beyond so many, a value has to take 8 bytes, as in a manifest
_HEX = 64
_FIX = "restore it, or export again"
# Path in the tree (or ending of a file next to it) -> bytes and sha256.
Files = dict[str, tuple[int, str]]
Recorded = tuple[Path, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class TreeListing:
    """A listing, as it was read.

    Attributes:
        files: of the tree.
        folders: of the tree, those that need not hold a file.
        beside: files next to the tree, by what follows the tree's name and a dot.
    """

    files: Files
    folders: tuple[str, ...]
    beside: Files


def listing_path(tree: Path) -> Path:
    """Where the listing of a tree lies."""
    return tree.with_name(f"{tree.name}{ENDING}")


def files_below(folder: Path) -> Files:
    """Size and digest of every file below a folder, by path.

    Raises:
        OSError: one of them cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, digest(path)) for path in paths}


def write_listing(path: Path, head: Mapping[str, Any], scenes: Iterable[Any], tail: Mapping[str, Any]) -> None:
    """Write a listing: what comes first, a line a scene, what comes last.

    Raises:
        OSError: the file system refuses.
    """
    sha256 = hashlib.sha256()
    with open(path, "w", encoding="ascii", newline="\n") as file:
        for line in _lines(head, scenes, tail):
            sha256.update(line.encode())
            file.write(line)
        file.write(f'"sha256": "{sha256.hexdigest()}"\n}}\n')


def _lines(head: Mapping[str, Any], scenes: Iterable[Any], tail: Mapping[str, Any]) -> Iterator[str]:
    yield "{\n"
    yield from (f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    yield _SCENES.decode()
    for number, scene in enumerate(scenes):
        yield f"{',' if number else ''}{json.dumps(scene)}\n"
    yield _END.decode()
    yield from (f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in tail.items())


def read_head(path: Path) -> dict[str, Any]:
    """What a listing says before its scenes: format, plan, roots, notes, count, frames, bytes; little memory.

    Raises:
        InputError: it is not a listing.
    """
    head = bytearray()
    try:
        for line in _lines_in(path):
            if line == _SCENES:
                return _value(head.removesuffix(b",\n") + b"}")
            head += line
            if len(head) > _LINE_BYTES:
                break
    except (OSError, ValueError, RecursionError):
        pass
    raise InputError(path, "it does not list a tree", _FIX)


def read_listing(path: Path) -> TreeListing:
    """Read a listing, strictly, a scene at a time: memory holds what it says of the files and one line of it.

    Raises:
        InputError: it is not there, not one, was changed, or has more than ``MAX_LISTING_BYTES``.
    """
    files: Files = {}
    try:
        lines, sha256 = _lines_in(path), hashlib.sha256()
        for line in lines:
            sha256.update(line)
            if line == _SCENES:
                break
        for line in lines:
            sha256.update(line)
            if line == _END:
                break
            files |= _files(_value(line.removeprefix(b","))["files"])
        tail = bytearray()
        for line in lines:
            tail += line
            if len(tail) > _LINE_BYTES:
                raise ValueError("it has more after its scenes than any listing")
        body, _, last = tail.rpartition(b'"sha256": ')
        sha256.update(body)
        if last != f'"{sha256.hexdigest()}"\n}}\n'.encode():
            raise ValueError("it was changed: its sha256 is another")
        values = _value(b"{" + body.removesuffix(b",\n") + b"}")
        shared = values["shared"]
        listing = TreeListing(files | _files(shared["files"]), tuple(shared["folders"]), _files(values["beside"]))
        if not all(isinstance(folder, str) for folder in listing.folders):
            raise TypeError("a folder has no name")
        if not all(re.fullmatch(r"[\w.-]+", ending) for ending in listing.beside):
            raise ValueError("a name leads elsewhere")
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror})", "give an export, or its .scenes.json") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        text_of = str(error) if type(error) is ValueError else "it does not list a tree"
        raise InputError(path, text_of, _FIX) from None
    return listing


def _lines_in(path: Path) -> Iterator[bytes]:
    """The lines of a listing. Raises ValueError where it, or one of them, is larger than any listing's."""
    with open(path, "rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_LISTING_BYTES:
            raise ValueError(f"it has {size} bytes, at most {MAX_LISTING_BYTES} are read")
        while line := file.readline(_LINE_BYTES + 1):
            if len(line) > _LINE_BYTES:
                raise ValueError(f"it has a line of more than {_LINE_BYTES} bytes")
            yield line


def _value(text: bytes | bytearray) -> Any:
    """The value of a JSON text. Raises ValueError where it has more values than text that lists files."""
    if len(text) > _DENSE_BYTES and text.count(b",") > len(text) // 8:
        raise ValueError("it has more values than a list of files")
    return json.loads(text)


def _files(recorded: dict[str, Any]) -> Files:
    """Sizes and digests by path, of JSON values. Raises TypeError where they are none."""
    for value in recorded.values():
        whole = isinstance(value, list) and [type(part) for part in value] == [int, str]
        if not whole or len(value[1]) != _HEX:
            raise TypeError("a file has no size or sha256")
    return {name: (size, sha256) for name, (size, sha256) in recorded.items()}


def is_tree(place: Path) -> bool:
    """Whether a place is an exported tree, or the listing of one, and no corpus."""
    place = Path(os.path.abspath(place))
    return place.name.endswith(ENDING) or (listing_path(place).is_file() and not (place / "manifest.json").exists())


def describe_tree(place: Path) -> list[tuple[str, str]]:
    """Names and values of what an exported tree holds, as its listing says.

    Raises:
        InputError: the listing is none.
    """
    place = Path(os.path.abspath(place))
    listing = place if place.name.endswith(ENDING) else listing_path(place)
    head = read_head(listing)
    return [
        ("kind", "exported tree"),
        ("format", str(head.get("format"))),
        ("scenes", str(head.get("count"))),
        ("frames", str(head.get("frames"))),
        ("files", size_text(float(head.get("bytes", 0)))),
        ("listing", str(listing)),
        *(("note", str(note)) for note in head.get("notes", [])),
    ]


def verify_tree(place: Path, compared: Compared | None = None) -> list[str]:
    """What is wrong with an exported tree, one line a finding; empty where every byte is as it was written.

    Finds changed, cut, missing and extra files, folders and links. No link is followed, and no name in
    the listing is: what lies in the tree is looked up in the listing.

    Args:
        place: the tree, or its listing.
        compared: told how many files of how many were looked at.

    Raises:
        InputError: there is no listing.
    """
    place = Path(os.path.abspath(place))
    path = place if place.name.endswith(ENDING) else listing_path(place)
    if not path.is_file():
        raise InputError(path, "there is no such listing of a tree", "give an export, or its .scenes.json")
    try:
        listing = read_listing(path)
    except InputError as error:
        return [str(error)]
    tree = path.with_name(path.name.removesuffix(ENDING))
    missing = dict(listing.files)
    folders = {*listing.folders, *(str(parent) for name in missing for parent in Path(name).parents)}
    beside = [(path.with_name(f"{tree.name}.{ending}"), recorded) for ending, recorded in listing.beside.items()]
    found = [*_walk(tree, "", missing, folders), *(f"{tree / name}: it is missing" for name in missing), *beside]
    return [line for _, lines in told(looked_at(_findings, found), len(found), compared) for line in lines]


def _findings(found: str | Recorded) -> list[str]:
    """A finding itself, or those about one file."""
    return [found] if isinstance(found, str) else list(_check(*found))


def _walk(folder: Path, prefix: str, missing: Files, folders: set[str]) -> Iterator[str | Recorded]:
    """Findings below a folder, and its recorded files, yet to be looked at; those are taken out of ``missing``."""
    if folder.is_symlink() or not folder.is_dir():
        yield f"{folder}: it is not a folder"
        return
    for path in sorted(folder.iterdir()):
        name = f"{prefix}{path.name}"
        if name in missing:
            yield path, missing.pop(name)
        elif name in folders:
            yield from _walk(path, f"{name}/", missing, folders)
        else:
            yield f"{path}: it does not belong to the tree"


def _check(path: Path, recorded: tuple[int, str]) -> Iterator[str]:
    """Findings about one file."""
    size, sha256 = recorded
    try:
        found = path.lstat().st_size
        if path.is_symlink() or not path.is_file():
            yield f"{path}: it is not a plain file"
        elif found != size:
            yield f"{path}: it has {found} bytes, not {size}"
        elif digest(path) != sha256:
            yield f"{path}: it was changed (other sha256 than in the listing)"
    except FileNotFoundError:
        yield f"{path}: it is missing"
    except OSError as error:
        yield f"{path}: not readable ({error.strerror or error})"
