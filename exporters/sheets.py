"""Sheets of pictures: a scene frame by frame, many scenes at once, two corpora side by side, as PNG or GIF."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import Taxonomy, taxonomy
from exporters.isometric import BACKGROUND
from exporters.pictures import INK, render_scene, render_top, save_gif, save_png

MAX_SCENES = 16
Render = Callable[[OccupancyScene, int, tuple[int, int]], Image.Image]  # draws a frame


def write_png(
    scene: OccupancyScene, path: Path, size: tuple[int, int] = (520, 400), render: Render = render_scene
) -> None:
    """Write a PNG of one scene: up to five frames over time and the last of them from above."""
    frames = spread(scene.frames, 5)
    tiles = [(render(scene, k, size), f"frame {k}, {moment(scene, k):.1f} s") for k in frames]
    tiles.append((render_top(scene, frames[-1], size), f"frame {frames[-1]} from above"))
    save_png(_sheet(tiles, min(3, len(tiles)), caption(scene), taxonomy(scene.taxonomy), classes_of([scene])), path)


def write_gif(
    scene: OccupancyScene, path: Path, size: tuple[int, int] = (640, 480), render: Render = render_scene
) -> None:
    """Write a GIF of one scene over time, at its own rate, that loops: the time of each frame, the classes below."""
    space, occurring = taxonomy(scene.taxonomy), classes_of([scene])

    def sheet(frame: int) -> Image.Image:
        tile = render(scene, frame, size), f"frame {frame}, {moment(scene, frame):.1f} s"
        return _sheet([tile], 1, caption(scene), space, occurring, at_least=1)

    save_gif([sheet(frame) for frame in range(scene.frames)], path, scene.grid.frame_rate)


def contact_sheet(
    scenes: Iterable[OccupancyScene],
    path: Path,
    columns: int = 4,
    title: str = "",
    tile: tuple[int, int] = (360, 280),
    most: int = MAX_SCENES,
    render: Render = render_scene,
) -> None:
    """Write the first scenes on one sheet, with captions and the classes that occur.

    Args:
        scenes: any number; no more than ``most`` are taken from the iterable.
        path: a PNG (middle frames) or a GIF (all frames, over time), written whole or not at all.
        columns: tiles a row.
        title: a line at the top; by default the number of scenes.
        tile: (width, height) of a tile in pixels.
        most: scenes on the sheet.
        render: draws a frame.

    Raises:
        InputError: there are no scenes.
    """
    chosen = list(islice(scenes, most))
    if not chosen:
        raise InputError(path, "no scenes to draw", "give a corpus with at least one scene")
    text = title or f"DynCity: {len(chosen)} scene{'s' * (len(chosen) > 1)}"
    space, occurring = taxonomy(chosen[0].taxonomy), classes_of(chosen)

    def sheet(frame: int | None) -> Image.Image:
        return _sheet(_tiles(chosen, frame, tile, render), min(columns, len(chosen)), text, space, occurring)

    _save(sheet, chosen, path)


def side_by_side(
    left: Iterable[OccupancyScene],
    right: Iterable[OccupancyScene],
    path: Path,
    titles: tuple[str, str],
    columns: int = 4,
    tile: tuple[int, int] = (300, 230),
    most: int = MAX_SCENES,
    render: Render = render_scene,
) -> None:
    """Write the first scenes of two sources as two contact sheets beside each other, as many on each.

    Raises:
        InputError: one of the sides has no scenes, or they differ in label space.
    """
    sides = [list(islice(scenes, most)) for scenes in (left, right)]
    count = min(map(len, sides))
    if not count:
        raise InputError(path, "no scenes to draw on one of the sides", "give corpora with at least one scene")
    first, second = (side[:count] for side in sides)
    spaces = {scene.taxonomy for scene in (*first, *second)}
    if len(spaces) > 1:
        raise InputError(path, f"the scenes have labels {' and '.join(sorted(spaces))}", "compare like with like")
    space, occurring = taxonomy(spaces.pop()), classes_of([*first, *second])

    def sheet(frame: int | None) -> Image.Image:
        halves = [
            _sheet(_tiles(side, frame, tile, render), min(columns, count), title, space, occurring)
            for side, title in zip((first, second), titles, strict=True)
        ]
        width, height = halves[0].size
        both = Image.new("RGB", (2 * width + 16, height), INK)
        both.paste(halves[0], (0, 0))
        both.paste(halves[1], (width + 16, 0))
        return both

    _save(sheet, [*first, *second], path)


def draw_scene(corpus: Path | ObjectPath, out: Path, scene_id: str | None = None, render: Render = render_scene) -> str:
    """Draw a scene of a corpus (by default the first) frame by frame (PNG) or over time (GIF); its id.

    Raises:
        InputError: not a corpus, or no such scene.
    """
    scene = scene_of(opened(corpus), scene_id)
    (write_gif if out.suffix.lower() == ".gif" else write_png)(scene, out, render=render)
    return scene.scene_id


def draw_corpus(
    corpus: Path | ObjectPath,
    out: Path,
    most: int,
    beside: Path | ObjectPath | None = None,
    render: Render = render_scene,
) -> str:
    """Draw the first scenes of a corpus on one sheet, with as many of another corpus beside them; how many.

    Raises:
        InputError: not a corpus, or without scenes; the corpora differ in label space.
    """
    drawn = opened(corpus)
    count = min(most, len(drawn.scene_ids))
    if beside is None:
        contact_sheet(drawn.scenes(), out, columns=max(4, round(count**0.5)), most=count, render=render)
        return f"{count} scenes"
    other = opened(beside)
    if other.taxonomy != drawn.taxonomy:
        found = f"its labels are {other.taxonomy}, those of {corpus} {drawn.taxonomy}"
        raise InputError(beside, found, "give corpora with the same labels")
    count = min(count, len(other.scene_ids))
    side_by_side(drawn.scenes(), other.scenes(), out, (str(corpus), str(beside)), most=count, render=render)
    return f"{count} scenes of each"


def opened(corpus: Path | ObjectPath) -> Corpus:
    """A corpus that holds scenes.

    Raises:
        InputError: not a corpus, or one without scenes.
    """
    found = open_corpus(corpus)
    if not found.scene_ids:
        raise InputError(corpus, "it holds no scene", "give a corpus with scenes")
    return found


def scene_of(corpus: Corpus, scene_id: str | None) -> OccupancyScene:
    """A scene of a corpus, by default the first.

    Raises:
        InputError: no such scene.
    """
    wanted = scene_id or corpus.scene_ids[0]
    if wanted not in corpus.scene_ids:
        first = ", ".join(corpus.scene_ids[:3])
        raise InputError("--scene", f"found {wanted!r}", f"use one of {len(corpus.scene_ids)}: {first} ...")
    return corpus.scene(wanted)


def spread(frames: int, most: int) -> list[int]:
    """Numbers of at most so many frames in equal steps, the first and the last among them."""
    return np.unique(np.linspace(0, frames - 1, most).round().astype(int)).tolist()


def _save(sheet: Callable[[int | None], Image.Image], scenes: Sequence[OccupancyScene], path: Path) -> None:
    """A GIF over all frames, or a PNG of the middle ones, as the name asks."""
    if path.suffix.lower() == ".gif":
        frames = [sheet(k) for k in range(max(scene.frames for scene in scenes))]
        save_gif(frames, path, scenes[0].grid.frame_rate)
    else:
        save_png(sheet(None), path)


def _tiles(
    scenes: Sequence[OccupancyScene], frame: int | None, size: tuple[int, int], render: Render
) -> list[tuple[Image.Image, str]]:
    """A frame of each scene (its last if it is shorter; None: its middle one) with its caption."""
    chosen = [s.frames // 2 if frame is None else min(frame, s.frames - 1) for s in scenes]
    return [(render(s, k, size), caption(s)) for s, k in zip(scenes, chosen, strict=True)]


def classes_of(scenes: Iterable[OccupancyScene]) -> NDArray[np.bool_]:
    """bool ``[256]``: the ids that occur."""
    occurring = np.zeros(256, bool)
    for scene in scenes:
        occurring |= np.bincount(scene.semantics.reshape(-1), minlength=256) > 0
    return occurring


def moment(scene: OccupancyScene, frame: int) -> float:
    """Seconds from the first frame of a scene to another."""
    return float(scene.timestamps_us[frame] - scene.timestamps_us[0]) / 1e6


def caption(scene: OccupancyScene) -> str:
    """The scene's id, and its command where it has one."""
    command = scene.conditions.command
    return f"{scene.scene_id} - {command}" if command else scene.scene_id


def _sheet(
    tiles: Sequence[tuple[Image.Image, str]],
    columns: int,
    title: str,
    space: Taxonomy,
    occurring: NDArray[np.bool_],
    at_least: int = 2,
) -> Image.Image:
    """Tiles with captions in rows, a title above, the classes that occur below; wide enough for ``at_least`` tiles."""
    gap, line = 12, 24
    width, height = tiles[0][0].size
    rows = -(-len(tiles) // columns)
    drawn = [i for i in range(len(space)) if occurring[i] and i != space.free]
    total = max(columns, at_least) * (width + gap) + gap
    entry = 190
    entries = max(1, (total - 2 * gap) // entry)
    legend = -(-len(drawn) // entries) * line
    sheet = Image.new("RGB", (total, 44 + rows * (height + line + gap) + legend + gap), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 12), title, fill=INK, font=ImageFont.load_default(20))
    small = ImageFont.load_default(14)
    for number, (tile, caption) in enumerate(tiles):
        x = gap + number % columns * (width + gap)
        y = 44 + number // columns * (height + line + gap)
        sheet.paste(tile, (x, y))
        draw.text((x + 2, y + height + 3), caption, fill=INK, font=small)
    for number, index in enumerate(drawn):
        x = gap + number % entries * entry
        y = 44 + rows * (height + line + gap) + number // entries * line
        draw.rectangle((x, y + 2, x + 14, y + 16), fill=space.colors[index], outline=INK)
        draw.text((x + 22, y), space.classes[index].replace("_", " "), fill=INK, font=small)
    return sheet
