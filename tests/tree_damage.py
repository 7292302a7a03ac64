"""Ways to damage a file of a native tree: each takes its path, or is made by a function that says how."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from exporters.pickles import portable_pickle

Damage = Callable[[Path], None]


def gone(path: Path) -> None:
    path.unlink()


def both_gone(path: Path) -> None:
    """A frame with its label and what belongs to it."""
    for other in path.parent.glob(f"{path.stem}.*"):
        other.unlink()


def counted_on(path: Path) -> None:
    shutil.copy(path, path.with_name("000003.label"))


def number(row: int, column: int, value: str) -> Damage:
    """Another number in a line of numbers."""

    def damage(path: Path) -> None:
        lines = [line.split(" ") for line in path.read_text().splitlines()]
        lines[row][column] = value
        path.write_text("".join(f"{' '.join(words)}\n" for words in lines))

    return damage


def pipe(path: Path) -> None:
    """Something that can be opened and never ends."""
    path.unlink()
    os.mkfifo(path)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def first_value(value: float, dtype: str) -> Damage:
    """Another value in the first voxel of a plain file."""

    def damage(path: Path) -> None:
        array = np.fromfile(path, dtype)
        array[0] = value
        path.write_bytes(array.tobytes())

    return damage


def text(old: str, new: str) -> Damage:
    """The first ``old`` of a text replaced."""

    def damage(path: Path) -> None:
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return damage


def last_line_gone(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def same_times(path: Path) -> None:
    path.write_text("0.0\n0.1\n0.1\n")


def scaled(path: Path) -> None:
    """All numbers of the last row doubled: no rotation any more."""
    *rows, last = path.read_text().splitlines()
    path.write_text("\n".join([*rows, " ".join(str(2 * float(v) + 1) for v in last.split())]) + "\n")


def array(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Damage:
    """An array of an npz changed, or left out."""

    def damage(path: Path) -> None:
        with np.load(path) as npz:
            arrays = dict(npz)
        changed = change(arrays.pop(name))
        np.savez_compressed(path, **arrays, **({} if changed is None else {name: changed}))

    return damage


def repacked(change: Callable[[bytes], bytes], method: int = zipfile.ZIP_DEFLATED) -> Damage:
    """The members of an npz changed as bytes, packed by a method of zip."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(name, change(data))

    return damage


def header(content: bytes) -> Damage:
    """Headers of the arrays of an npz with another content."""
    return repacked(lambda data: data[:8] + len(content).to_bytes(2, "little") + content + data[128:])


def padded(path: Path) -> None:
    """An npz behind so much else that its directory could be as large."""
    data = path.read_bytes()
    with open(path, "wb") as file:
        file.truncate(2**26)
        file.seek(2**26)
        file.write(data)


def many_lines(path: Path) -> None:
    path.write_text("0\n" * 1_000_001)


def flipped(path: Path) -> None:
    """A byte in the middle of the first member: the directory is whole, the content is not."""
    data = bytearray(path.read_bytes())
    data[len(data) // 6] ^= 255
    path.write_bytes(data)


def with_value(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[1, 2, 3] = value
        return values

    return change


def annotated(change: Callable[[dict[str, Any]], None]) -> Damage:
    """The frames of the one scene of annotations.json changed."""

    def damage(path: Path) -> None:
        annotations = json.loads(path.read_text())
        change(annotations["scene_infos"]["scene-0001"])
        path.write_text(json.dumps(annotations))

    return damage


def frame_with(**values: Any) -> Damage:
    return annotated(lambda frames: next(iter(frames.values())).update(values))


def infos(change: Callable[[list[dict[str, Any]]], Any]) -> Damage:
    """The list of an info file changed."""

    def damage(path: Path) -> None:
        values = pickle.loads(path.read_bytes())
        changed = change(values)
        path.write_bytes(portable_pickle(values if changed is None else changed))

    return damage


class Hostile:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("hostile",)


def hostile(path: Path) -> None:
    path.write_bytes(pickle.dumps([{"image": Hostile()}]))


def nested_json(path: Path) -> None:
    path.write_text("[" * 100_000)
