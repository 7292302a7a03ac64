"""What a tree in the layout of a data set is: its writer, its options, and what lies at its top."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters.cameras import Camera


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """What a user may choose; a format takes those that it names in ``TreeFormat.takes``.

    Attributes:
        sequences: numbers of the scenes in the tree, one a scene; None: by their order.
        scans: write simulated LiDAR scans.
        images: write placeholder images.
        cameras: the rig that masks, annotations and views are made with; None: that of the data set.
        points: write point maps.
    """

    sequences: Sequence[int] | None = None
    scans: bool = True
    images: bool = False
    cameras: tuple[Camera, ...] | None = None
    points: bool = False


# What a scene leaves behind for the end of a tree: JSON values only, as it is kept on disk.
SceneRecord = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """What there is to say of a tree when it is complete.

    Attributes:
        roots: what loaders take, relative to the tree.
        beside: files that belong NEXT to the tree, as several tools fail on strangers in it: ending -> text, or an
            open file that is copied from where it stands.
        notes: what a user of the tree should know, one line each.
    """

    roots: tuple[str, ...] = (".",)
    beside: Mapping[str, str | BinaryIO] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class NativeTree(Protocol):
    """What writes the scenes of one tree, in any order and in any process.

    It is made from the number of frames of each scene and the options, and keeps nothing of what it writes:
    what the whole tree needs of a scene is in the scene's record. It can be pickled.
    """

    def write(self, out: Path, number: int, scene: OccupancyScene) -> SceneRecord:
        """Write scene ``number``, counted from 0, below ``out``, which holds none of its files yet.

        Returns:
            Its record: ``folder``, relative to ``out``, and what ``finish`` needs of the scene.
        """
        ...

    def finish(self, out: Path, records: Iterable[SceneRecord]) -> Finished:
        """Write what needs all scenes below ``out``, from their records in order, which are read once."""
        ...


@dataclass(frozen=True, slots=True)
class TreeFormat:
    """A tree that can be written.

    Attributes:
        labels: the label space that its ids belong to; None: that of the corpus, whichever it is.
        entries: a pattern of what lies at the top of such a tree.
        build: (frames of each scene, options) -> the writer.
        takes: names of the options that mean something to it.
        check: looks at the place of the tree; returns warnings.
        covers: its grid in the ego frame; None: it has none.
        classes: label space of the corpus -> uint8 ``[256]`` by class id, one number for what is one class to the tree;
            None: as ``label_map`` takes them to ``labels``.
    """

    labels: str | None
    entries: str
    build: Callable[[Sequence[int], TreeOptions], NativeTree]
    takes: tuple[str, ...] = ()
    check: Callable[[Path], list[str]] = lambda out: []
    covers: GridSpec | None = None
    classes: Callable[[str], NDArray[np.uint8]] | None = None


def check_folder(out: Path, replaced: Sequence[str]) -> list[str]:
    """Lines of warning about the folders above ``out``, whose loaders find files by replacing words in a whole path.

    Raises:
        InputError: when ``out`` itself has a name that they would mangle.
    """
    for word in replaced:
        if word in out.name:
            raise InputError(out, f"the name holds {word!r}, which loaders replace in paths", "choose another name")
    found = [word for word in replaced if any(word in part for part in out.parent.parts)]
    return [
        f"a folder above {out} holds {word!r}: loaders that derive paths by replacing it will fail; move it"
        for word in found
    ]


def read_numbers(text: str) -> list[int]:
    """Numbers from ``8,0,1``.

    Raises:
        InputError: something else stands there.
    """
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise InputError("--sequences", f"found {text!r}", "give numbers, e.g. 0,8,1") from None


def chosen_numbers(sequences: Sequence[int], scenes: int, most: int) -> list[int]:
    """The numbers a user gave the scenes.

    Raises:
        InputError: when they do not give each scene a number of its own from 0 to ``most``.
    """
    numbers = list(sequences)
    if len(numbers) != scenes:
        raise InputError("--sequences", f"found {len(numbers)} for {scenes} scenes", "give one a scene")
    if len(set(numbers)) != scenes or not all(0 <= n <= most for n in numbers):
        raise InputError("--sequences", f"found {numbers}", f"give different numbers from 0 to {most}")
    return numbers


def scene_names(options: TreeOptions, scenes: int) -> list[str]:
    """``scene-0001`` and on, as nuScenes names its scenes, or the numbers that ``options`` give.

    Raises:
        InputError: as ``chosen_numbers``.
    """
    if options.sequences is None:
        numbers = list(range(1, scenes + 1))
    else:
        numbers = chosen_numbers(options.sequences, scenes, 999_999)
    return [f"scene-{number:04d}" for number in numbers]


def held_out(count: int) -> int:
    """How many of ``count`` scenes are the validation split: 15 %, at least one of two or more."""
    return max(1, round(0.15 * count)) if count > 1 else 0
