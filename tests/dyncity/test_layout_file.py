"""Layouts from pictures, arrays and agents: read as they are meant, refused with one line."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import make_city, small_config

from dyncity.conditions import LAYOUT_CLASSES
from dyncity.datasets.corpus import open_corpus
from dyncity.errors import InputError
from dyncity.layout import layout_of
from dyncity.layout_file import read_layout
from dyncity.metrics.layout_adherence import layout_iou
from dyncity.taxonomy import NATIVE

CONFIG = small_config()
FRAMES, X, Y, _ = CONFIG.clip_shape
ROAD, BUILDING, VEHICLE = (LAYOUT_CLASSES.index(n) for n in ("road", "building", "vehicle"))


def color(name: str) -> tuple[int, ...]:
    return tuple(int(v) for v in NATIVE.palette()[NATIVE.id(name)])


@pytest.mark.parametrize("scale", [1, 4])
def test_a_picture_asks_for_the_classes_of_its_colours(tmp_path: Path, scale: int) -> None:
    picture = Image.new("RGBA", (Y, X))
    picture.putpixel((0, 0), (*color("building"), 255))  # ahead, on the left
    picture.putpixel((Y - 1, X - 1), (*color("crosswalk"), 255))  # behind, on the right
    picture.resize((Y * scale, X * scale), Image.Resampling.NEAREST).save(tmp_path / "a.png")
    layout = read_layout(tmp_path / "a.png", CONFIG)
    assert np.flatnonzero(layout.given).tolist() == [ROAD, BUILDING]
    assert np.argwhere(layout.maps[BUILDING]).tolist() == [[t, X - 1, Y - 1] for t in range(FRAMES)]
    assert np.argwhere(layout.maps[ROAD]).tolist() == [[t, 0, 0] for t in range(FRAMES)]


def test_an_array_says_asked_none_or_not_asked(tmp_path: Path) -> None:
    values = np.zeros((6, X, Y), np.uint8)
    values[ROAD, :, 4:8] = 1
    values[VEHICLE] = 255
    np.save(tmp_path / "a.npy", values)
    layout = read_layout(tmp_path / "a.npy", CONFIG)
    assert layout.given.tolist() == [True, True, True, True, False, True]
    assert layout.maps[ROAD].sum() == FRAMES * X * 4
    assert layout.maps.sum() == layout.maps[ROAD].sum()


def test_an_agent_follows_its_path(tmp_path: Path) -> None:
    agent = {"class": "vehicle", "size": [4.0, 2.0], "path": [[0, -3, 1, 0], [3, 3, 1, 0]]}
    (tmp_path / "a.json").write_text(json.dumps({"agents": [agent]}))
    layout = read_layout(tmp_path / "a.json", CONFIG)
    assert np.flatnonzero(layout.given).tolist() == [VEHICLE]
    x = CONFIG.clip_grid.axis(0)
    centers = [x[np.flatnonzero(frame.any(1))].mean() for frame in layout.maps[VEHICLE]]
    np.testing.assert_allclose(centers, [-3, -1, 1, 3], atol=0.41)
    area = layout.maps[VEHICLE].sum(axis=(1, 2)) * 0.64
    assert ((area > 5) & (area < 12)).all()


def test_an_agent_smaller_than_a_column_stands_in_one(tmp_path: Path) -> None:
    agent = {"class": "pedestrian", "size": [0.2, 0.2], "path": [[0, 0.1, 0.1, 0]]}
    (tmp_path / "a.json").write_text(json.dumps({"agents": [agent]}))
    maps = read_layout(tmp_path / "a.json", CONFIG).maps
    assert maps.sum() == FRAMES


GOOD = {"class": "vehicle", "size": [4, 2], "path": [[0, 0, 0, 0]]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "not a kind"),
        ("a.png", b"no picture", "not readable as a picture"),
        ("a.npy", b"no array", "not readable as an array"),
        ("a.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|u1',", "not readable as an array"),
        ("a.json", b"{", "not readable as JSON"),
        ("a.json", b"[]", "no list of agents"),
        ("a.json", b'{"agents": []}', "asks for no class"),
        ("a.json", json.dumps({"agents": [{**GOOD, "class": "tree"}]}).encode(), "class is 'tree'"),
        ("a.json", json.dumps({"agents": [{**GOOD, "size": [4, -1]}]}).encode(), "size is"),
        ("a.json", json.dumps({"agents": [{**GOOD, "path": [[1, 0, 0, 0], [0, 0, 0, 0]]}]}).encode(), "in order"),
        ("a.json", json.dumps({"agents": [{**GOOD, "path": [[9, 0, 0, 0]]}]}).encode(), "from frame 9"),
        ("a.json", json.dumps({"agents": [{**GOOD, "path": "left"}]}).encode(), "path has no rows"),
        (
            "a.json",
            json.dumps({"agents": [{**GOOD, "path": [[0, 0, 0, 0], [1, "1", 0, 0]]}]}).encode(),
            r"path\[1\] is",
        ),
        ("a.json", json.dumps({"agents": [{**GOOD, "path": [[0, 10**400, 0, 0]]}]}).encode(), r"path\[0\] is"),
        ("a.json", json.dumps({"agents": [{**GOOD, "size": [True, True]}]}).encode(), "size is"),
        ("a.json", json.dumps({"agents": [{**GOOD, "size": [31, 2]}]}).encode(), "at most 30"),
        ("a.json", json.dumps({"agents": [{**GOOD, "path": [[0, 1e3, 1e3, 0]]}]}).encode(), r"\[0\] is never on the"),
        ("a.json", json.dumps({"agents": [{**GOOD, "path": [[0, 0, 0, 0], [1, 13, 0, 0]]}]}).encode(), "at 65 m/s"),
        ("a.json", json.dumps({"agents": [GOOD] * 129}).encode(), "129 agents"),
        ("a.json", b'{"agents": [], "agents": []}', "says 'agents' twice"),
        ("a.json", b'{"agents": [{"size": [4, 2], "size": [9, 2]}]}', "says 'size' twice"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_layout(tmp_path / name, CONFIG)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((6, 3, 3)), "found shape"),
        (np.full((6, X, Y), 2), "other values"),
        (np.zeros((6, X, Y), [("a", "u1")]), "give numbers"),
        (np.zeros((6, X, Y), complex), "found complex128"),
        (np.full((6, X, Y), 255), "asks for no class"),
        (np.where(np.arange(Y) > 3, 255, np.zeros((6, X, Y))), "in places only"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match=message):
        read_layout(tmp_path / "a.npy", CONFIG)


LONG = replace(CONFIG, clip=replace(CONFIG.clip, frames=8))


def test_the_layout_of_a_long_scene_is_as_wide_as_its_file(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (Y, X + 6))
    picture.putpixel((0, 0), (*color("building"), 255))
    picture.save(tmp_path / "a.png")
    values = np.zeros((6, 8, X + 6, Y), np.uint8)
    values[BUILDING, :, X + 5, Y - 1] = 1
    np.save(tmp_path / "a.npy", values)
    clip = LONG.clip_grid
    picture.crop((0, 0, Y, X)).resize((4 * Y, 4 * X), Image.Resampling.NEAREST).save(
        tmp_path / "clip.png"
    )  # of a clip's size, enlarged
    assert read_layout(tmp_path / "clip.png", LONG, longer=True).grid == clip
    for name in ("a.png", "a.npy"):
        layout = read_layout(tmp_path / name, LONG, longer=True)
        grid = layout.grid
        assert grid is not None
        assert (grid.shape, layout.anchor) == ((X + 6, Y, clip.shape[2]), 4)
        assert np.argwhere(layout.maps[BUILDING]).tolist() == [[t, X + 5, Y - 1] for t in range(8)]
        assert grid.origin[0] == pytest.approx(clip.origin[0] - 3 * clip.voxel_size[0])
        assert grid.origin[1:] == clip.origin[1:]
    np.save(tmp_path / "odd.npy", np.zeros((6, X + 3, Y)))
    np.save(tmp_path / "small.npy", np.zeros((6, X - 2, Y)))
    Image.new("RGB", (Y, 800)).save(tmp_path / "huge.png")
    for name in ("odd.npy", "small.npy", "huge.png"):
        with pytest.raises(InputError, match="or an even number more"):
            read_layout(tmp_path / name, LONG, longer=True)


def test_the_layout_of_a_long_scene_holds_its_agents(tmp_path: Path) -> None:
    agent = {"class": "vehicle", "size": [4.0, 2.0], "path": [[0, 0, 0, 0], [7, 70, 0, 0]]}
    (tmp_path / "a.json").write_text(json.dumps({"agents": [agent]}))
    layout = read_layout(tmp_path / "a.json", LONG, longer=True)
    assert layout.grid is not None
    assert layout.maps[VEHICLE].any(axis=(1, 2)).all()
    assert layout.grid.axis(0)[layout.maps[VEHICLE, 7].any(1)].mean() == pytest.approx(70, abs=0.41)
    far = {**agent, "path": [[0, 1e4, 0, 0]]}
    (tmp_path / "far.json").write_text(json.dumps({"agents": [far]}))
    with pytest.raises(InputError, match=r"m from the ego of the middle frame; stay within 307\.2"):
        read_layout(tmp_path / "far.json", LONG, longer=True)


def test_a_long_scene_asks_for_what_is_along_all_of_its_drive(tmp_path: Path) -> None:
    make_city(tmp_path / "city", scenes=2, frame="ego", config=LONG)
    corpus = open_corpus(tmp_path / "city")
    scene = corpus.scene(corpus.scene_ids[1])
    layout = read_layout(tmp_path / "city" / scene.scene_id, LONG, longer=True)
    told = replace(scene, conditions=replace(scene.conditions, layout=layout))
    assert layout_iou([told])["road"] > 90
    with pytest.raises(InputError, match="has 8 frames; use a scene of 12, as long as"):
        read_layout(tmp_path / "city", replace(LONG, clip=replace(LONG.clip, frames=12)), longer=True)


def test_a_picture_without_a_colour_that_asks_is_told_which_there_are(tmp_path: Path) -> None:
    """Pictures that other programs paint have other colours, 16 bits, or none at all."""
    for picture, found in (
        (Image.new("L", (Y, X), 128), "most are #808080"),
        (Image.fromarray(np.full((X, Y), 40000, np.uint16)), "most are #"),
        (Image.new("RGBA", (Y, X)), "all are transparent"),
        (Image.new("RGB", (Y, X), color("parking")), "most are #7d6f8a"),
    ):
        picture.save(tmp_path / "a.png")
        with pytest.raises(InputError, match=f"{found}.*use #5a5560 road, .*#3f7fe0 vehicle, #e03c4a pedestrian"):
            read_layout(tmp_path / "a.png", CONFIG)


def test_an_animated_picture_is_not_read_as_its_first(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (Y, X), color(name)) for name in ("road", "building"))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="animated, 2 pictures; give one"):
        read_layout(tmp_path / "a.png", CONFIG)


@pytest.mark.filterwarnings("error")
def test_a_huge_picture_is_one_line_without_a_warning(tmp_path: Path) -> None:
    """Pillow warns of pictures above 89 million pixels, on stderr."""
    Image.new("1", (1, 1)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = (10_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match="found 10000x10000 pixels; give"):
        read_layout(tmp_path / "a.png", CONFIG)


def test_pictures_of_another_size_and_missing_files_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (Y + 1, X)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="pixels"):
        read_layout(tmp_path / "a.png", CONFIG)
    with pytest.raises(InputError, match="no such file"):
        read_layout(tmp_path / "b.png", CONFIG)


def test_a_scene_of_a_corpus_asks_for_what_is_in_it(tmp_path: Path) -> None:
    make_city(tmp_path / "city", scenes=2)
    corpus = open_corpus(tmp_path / "city")
    for name, scene_id in (("city", corpus.scene_ids[0]), (f"city/{corpus.scene_ids[1]}", corpus.scene_ids[1])):
        layout = read_layout(tmp_path / name, CONFIG)
        assert layout.given.all()
        np.testing.assert_array_equal(layout.maps, layout_of(corpus.scene(scene_id).semantics, "native").maps)
    with pytest.raises(InputError, match="has no scene 'nobody'"):
        read_layout(tmp_path / "city/nobody", CONFIG)
    make_city(tmp_path / "short", scenes=1, config=small_config("clip.frames=2"))
    with pytest.raises(InputError, match="has 2 frames; use a scene of 4"):
        read_layout(tmp_path / "short", CONFIG)
