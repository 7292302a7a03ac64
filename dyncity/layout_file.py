"""A layout from a file: a picture or an array of what must be where seen from above, agents with paths, or a scene.

All lie in the ego's frame of the scene's middle frame, t // 2 (x forward, y left), which places the grid of a clip.
That of a scene of several clips may have more columns, as many more on the one side as on the other; its picture, of
another size than a multiple of a clip's, has one pixel a column.

- ``.png``: forward is up, left is left, one pixel (or a square of them) a column of the clip's grid. A pixel in the
  colour of a class of the label space asks for it, in all frames; transparent pixels and other colours ask for none.
  Classes of which there is no pixel are not asked for at all.
- ``.npy``: ``[6, x, y]`` or ``[6, t, x, y]`` in the order of ``LAYOUT_CLASSES``; 1 asks for the class, 0 for none of
  it, and a map of 255 alone asks for nothing.
- ``.json``: ``{"agents": [{"class": "vehicle", "size": [4.5, 1.9], "path": [[0, 10, 3, 0], [7, 18, 3, 0]]}]}``: length
  and width in metres, and rows of frame, x, y, yaw, between which it moves straight and before and after which it
  stands; one row: it stands. Only the classes of the agents are asked for, and nowhere else.
- ``CORPUS`` or ``CORPUS/SCENE_ID``: what is where in the first scene of a corpus, or in that one. All six classes are
  asked for; columns that the scene does not know ask for none.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dyncity.anchoring import anchored
from dyncity.bounded_files import are_numbers, read_array, read_request
from dyncity.conditions import LAYOUT_CLASSES, Agent, Layout
from dyncity.config import Config
from dyncity.datasets.corpus import open_corpus
from dyncity.datasets.manifest import MANIFEST
from dyncity.drivable import TOP_SPEED
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.layout import MOVING, covered_columns, layout_of, members
from dyncity.taxonomy import taxonomy

_NOT_ASKED = 255
_MAX_PIXELS = 2**24
_MAX_AGENTS = 128
_LONGEST = 30.0  # metres
_WIDEST = 768  # columns along a side of the layout of a long scene


def read_layout(path: Path, config: Config, longer: bool = False) -> Layout:
    """A layout on the grid of the clips of ``config``.

    Args:
        path: the file.
        config: of the scenes.
        longer: they are of several clips: the layout has a grid of its own, at least as large.

    Raises:
        InputError: no such file, another kind, or contents of another form; the message says what was found.
    """
    if path.is_dir() or (path.parent / MANIFEST).is_file():
        return _scene(path, config, longer)
    readers = {".png": _picture, ".npy": _array, ".json": _agents}
    if path.suffix.lower() not in readers:
        raise InputError(path, "not a kind of layout that is read here", "give .png, .npy, .json or a corpus")
    if not path.is_file():
        raise InputError(path, "there is no such file", "give a layout")
    layout = readers[path.suffix.lower()](path, config, longer)
    if not layout.given.any():
        raise InputError(path, "it asks for no class", f"give some of {', '.join(LAYOUT_CLASSES)}")
    return layout


def _scene(path: Path, config: Config, longer: bool) -> Layout:
    corpus = open_corpus(path if path.is_dir() else path.parent)
    scene_id = path.name if not path.is_dir() else next(iter(corpus.scene_ids), "")
    if scene_id not in corpus.scene_ids:
        raise InputError(path, f"the corpus has no scene {scene_id!r}", "dyncity info shows which it has")
    if corpus.frames(scene_id) != config.clip.frames:
        found = f"scene {scene_id} has {corpus.frames(scene_id)} frames"
        whole = "as long as what is made" if longer else "one clip of this checkpoint"
        raise InputError(path, found, f"use a scene of {config.clip.frames}, {whole}")
    scene, grid = corpus.scene(scene_id), config.clip_grid
    if longer:
        steps = np.linalg.inv(scene.poses[scene.frames // 2]) @ scene.grid_poses()
        reach = np.hypot(*scene.grid.shape[:2]) * max(scene.grid.voxel_size[:2]) / 2  # whichever way it is turned
        grid = _holding(path, grid, np.abs(steps[:, :2, 3]).max() + reach)
    layout = layout_of(anchored(scene, grid).semantics, scene.taxonomy)
    return _placed(replace(layout, grid_yaw=scene.conditions.grid_yaw), grid, longer)


def _placed(layout: Layout, grid: GridSpec, longer: bool) -> Layout:
    """The layout; one of several clips says where it lies."""
    return replace(layout, grid=grid, anchor=layout.maps.shape[1] // 2) if longer else layout


def _widened(path: Path, grid: GridSpec, x: int, y: int) -> GridSpec:
    """The grid of a clip with columns added on its sides, the same number on opposite ones, ``x`` by ``y`` in all.

    Raises:
        InputError: fewer than a clip has, an odd number more, or too many.
    """
    more = x - grid.shape[0], y - grid.shape[1]
    if min(more) < 0 or more[0] % 2 or more[1] % 2 or max(x, y) > _WIDEST:
        fix = f"give {grid.shape[0]}x{grid.shape[1]} (ahead x left), or an even number more, at most {_WIDEST}"
        raise InputError(path, f"found {x}x{y} columns (ahead x left)", fix)
    (dx, dy, _), (ox, oy, oz) = grid.voxel_size, grid.origin
    return replace(grid, shape=(x, y, grid.shape[2]), origin=(ox - more[0] / 2 * dx, oy - more[1] / 2 * dy, oz))


def _holding(path: Path, grid: GridSpec, metres: float) -> GridSpec:
    """The grid of a clip, widened until it holds all that is so near to its middle pose.

    Raises:
        InputError: that is too far.
    """
    most = _WIDEST // 2 * min(grid.voxel_size[:2])
    if metres > most:
        raise InputError(path, f"it reaches {metres:.4g} m from the ego of the middle frame", f"stay within {most:.4g}")
    sides = [
        n + 2 * max(0, math.ceil((metres - min(-o, u)) / d))
        for n, o, u, d in zip(grid.shape[:2], grid.origin[:2], grid.upper[:2], grid.voxel_size[:2], strict=True)
    ]
    return _widened(path, grid, sides[0], sides[1])


def _picture(path: Path, config: Config, longer: bool) -> Layout:
    frames, x, y, _ = config.clip_shape
    pixels = _pixels(path, f"give {y}x{x} (width x height)")
    grid, factor = config.clip_grid, max(1, pixels.shape[0] // x)
    if longer and pixels.shape[:2] != (x * factor, y * factor):
        x, y = pixels.shape[:2]
        grid, factor = _widened(path, grid, x, y), 1
    if pixels.shape[:2] != (x * factor, y * factor):
        size = f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
        raise InputError(path, f"found {size}", f"give {y}x{x} (width x height), or a multiple of it")
    # The middle of each square; forward is up and left is left, so both axes run against the picture's.
    pixels = pixels[factor // 2 :: factor, factor // 2 :: factor][::-1, ::-1]
    space = taxonomy(config.taxonomy)
    ids = np.full((x, y), space.free, np.uint8)
    for index, color in enumerate(space.palette()[: len(space)]):
        ids[(pixels[..., :3] == color).all(-1) & (pixels[..., 3] > 0)] = index
    found = layout_of(np.broadcast_to(ids[None, :, :, None], (frames, x, y, 1)), config.taxonomy)
    if not found.maps.any():
        colors, count = np.unique(pixels[pixels[..., 3] > 0][:, :3], axis=0, return_counts=True)
        most = f", most are #{bytes(colors[count.argmax()].tolist()).hex()}" if len(colors) else ", all are transparent"
        tables = zip(LAYOUT_CLASSES, members(space.name), strict=True)
        firsts = [(name, int(table.argmax())) for name, table in tables if table.any()]
        fix = f"use {', '.join(f'{space.colors[i]} {name}' for name, i in firsts)}"
        raise InputError(path, f"no pixel has the colour of a class that can be asked for{most}", fix)
    return _placed(Layout(found.maps, np.asarray(found.maps.any(axis=(1, 2, 3)))), grid, longer)


def _pixels(path: Path, fix: str) -> NDArray[np.uint8]:
    """``[height, width, 4]`` red, green, blue and opacity of a PNG.

    Raises:
        InputError: no PNG, one of several pictures, or of far too many pixels.
    """
    try:
        ignored = warnings.catch_warnings(
            action="ignore", category=Image.DecompressionBombWarning
        )  # it is refused here
        with ignored, Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise InputError(path, f"found {image.width}x{image.height} pixels", fix)
            if (count := getattr(image, "n_frames", 1)) > 1:
                raise InputError(path, f"it is animated, {count} pictures", "give one, or a .npy with frames")
            return np.asarray(image.convert("RGBA"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"not readable as a picture ({error})", "give a PNG") from None


def _array(path: Path, config: Config, longer: bool) -> Layout:
    frames, x, y, _ = config.clip_shape
    values = read_array(path, "give a .npy of numbers")
    classes = len(LAYOUT_CLASSES)
    if values.dtype.kind not in "buif":
        raise InputError(path, f"found {values.dtype}", "give numbers: 1 asked, 0 none, 255 not asked")
    grid = config.clip_grid
    if longer and values.ndim in (3, 4):
        x, y = values.shape[-2:]
        grid = _widened(path, grid, x, y)
    if values.shape == (classes, x, y):
        values = np.broadcast_to(values[:, None], (classes, frames, x, y))
    if values.shape != (classes, frames, x, y):
        fix = f"give {[classes, x, y]} or {[classes, frames, x, y]}"
        raise InputError(path, f"found shape {list(values.shape)}", fix)
    if values.dtype != np.bool_ and not np.isin(values, (0, 1, _NOT_ASKED)).all():
        raise InputError(path, "found other values than 0, 1 and 255", "give 1 asked, 0 none, 255 not asked")
    given = ~(values == _NOT_ASKED).all(axis=(1, 2, 3)) if values.dtype != np.bool_ else np.ones(classes, bool)
    for name, row, asked in zip(LAYOUT_CLASSES, values, given, strict=True):
        if asked and values.dtype != np.bool_ and (row == _NOT_ASKED).any():
            raise InputError(path, f"{name} is 255 in places only", "leave out a class as a whole, by 255 everywhere")
    return _placed(Layout(np.asarray(values == 1), given), grid, longer)


def _agents(path: Path, config: Config, longer: bool) -> Layout:
    values = read_request(path, "give a JSON file of agents")
    if not isinstance(values, dict) or values.keys() != {"agents"} or not isinstance(values["agents"], list):
        raise InputError(path, "it has no list of agents", 'write {"agents": [...]}')
    frames, grid = config.clip.frames, config.clip_grid
    if len(values["agents"]) > _MAX_AGENTS:
        raise InputError(path, f"it has {len(values['agents'])} agents", f"give at most {_MAX_AGENTS}")
    agents = tuple(
        _agent(path, f"agents[{n}]", agent, frames, config.grid.frame_rate) for n, agent in enumerate(values["agents"])
    )
    if longer and agents:
        grid = _holding(path, grid, max(float(np.abs(agent.path[:, 1:3]).max()) + _LONGEST for agent in agents))
    maps = np.zeros((len(LAYOUT_CLASSES), frames, *grid.shape[:2]), bool)
    given = np.zeros(len(LAYOUT_CLASSES), bool)
    for n, agent in enumerate(agents):
        kind = LAYOUT_CLASSES.index(agent.kind)
        given[kind] = True
        columns = np.stack([covered_columns(grid, agent.size, agent.at(t)) for t in range(frames)])
        if not columns.any():
            (low_x, low_y, _), (high_x, high_y, _) = grid.origin, grid.upper
            fix = f"lead it through x {low_x:g} to {high_x:g}, y {low_y:g} to {high_y:g} m"
            raise InputError(path, f"agents[{n}] is never on the clip's grid", fix)
        maps[kind] |= columns
    return _placed(Layout(maps, given, agents=agents), grid, longer)


def _agent(path: Path, name: str, agent: Any, frames: int, frame_rate: float) -> Agent:
    """One agent from its JSON."""
    if not isinstance(agent, dict) or agent.keys() != {"class", "size", "path"}:
        raise InputError(path, f"{name} is {str(agent)[:80]}", "give class, size and path")
    movers = LAYOUT_CLASSES[MOVING:]
    if agent["class"] not in movers:
        raise InputError(path, f"{name}.class is {str(agent['class'])[:80]!r}", f"use one of {', '.join(movers)}")
    size = _numbers(path, f"{name}.size", [agent["size"]], 2)[0]
    if (size <= 0).any() or (size > _LONGEST).any():
        raise InputError(
            path, f"{name}.size is {agent['size']}", f"give length and width, metres, above 0 and at most {_LONGEST:g}"
        )
    rows = _numbers(path, f"{name}.path", agent["path"], 4)
    if (np.diff(rows[:, 0]) <= 0).any():
        raise InputError(path, f"{name}.path has frames {rows[:, 0].tolist()}", "give rows in order of frames")
    if rows[0, 0] < 0 or rows[-1, 0] > frames - 1:
        raise InputError(
            path, f"{name}.path goes from frame {rows[0, 0]:g} to {rows[-1, 0]:g}", f"use 0 to {frames - 1}"
        )
    seconds, way = np.diff(rows[:, 0]) / frame_rate, np.hypot(*np.diff(rows[:, 1:3], axis=0).T)
    if (way > TOP_SPEED * seconds + 1e-6).any():
        found = f"{name}.path moves at {(way / seconds).max():.4g} m/s at {frame_rate:g} frames a second"
        raise InputError(path, found, f"give at most {TOP_SPEED:g}")
    rows[:, 3] = np.unwrap(rows[:, 3])
    return Agent(agent["class"], (float(size[0]), float(size[1])), rows)


def _numbers(path: Path, name: str, rows: Any, columns: int) -> NDArray[np.float64]:
    """``[n, columns]`` finite numbers of JSON, at least one row of them."""
    what = {2: "length and width in metres", 4: "rows of frame, x, y, yaw"}[columns]
    if not isinstance(rows, list) or not rows:
        raise InputError(path, f"{name} has no rows", f"give {what}")
    for n, row in enumerate(rows):
        if not are_numbers(row, columns):
            where = name if columns == 2 else f"{name}[{n}]"
            raise InputError(path, f"{where} is {str(row)[:80]}", f"give {what}")
    return np.array(rows, np.float64)
