"""A page of scenes: all pictures are in the one file, names cannot break it, and it asks nothing of the network."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from exporters import page
from exporters.page import write_page
from exporters.pictures import render_scene, render_top


class Read(HTMLParser):
    """Tags that are open, texts, attributes, and whether every tag was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [name for name, _ in attributes if name in ("src", "href")]
        if tag not in ("img", "input", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["script"] and self.open[-1:] != ["style"]:
            self.texts.append(data.strip())


def scene(name: str, frames: int, seed: int) -> OccupancyScene:
    grid = GridSpec((12, 10, 4), (0.8, 0.8, 0.8), (-4.8, -4.0, -0.8), 5.0)
    semantics = np.random.default_rng(seed).integers(0, 8, (frames, *grid.shape)).astype(np.uint8)
    poses = np.repeat(np.eye(4)[None], frames, axis=0)
    return OccupancyScene(name, semantics, poses, grid, "native", np.arange(frames, dtype=np.int64) * 200_000)


def pictures(text: str) -> list[list[list[Image.Image]]]:
    found = json.loads(re.search(r"const SCENES = (\[\[.*\]\]), MILLISECONDS = 200;", text)[1])  # type: ignore[index]
    return [[[Image.open(io.BytesIO(base64.b64decode(i))) for i in frame] for frame in one] for one in found]


def test_every_frame_of_every_scene_is_there_as_it_is_drawn(tmp_path: Path) -> None:
    scenes = [scene("a", 3, 0), scene("b", 2, 1)]
    assert write_page(scenes, tmp_path / "page.html", "two scenes") == 2
    text = (tmp_path / "page.html").read_text()
    read, drawn = Read(text), pictures(text)
    assert read.open == []
    assert read.tags.count("figure") == 2
    assert [len(one) for one in drawn] == [3, 2]
    assert 'max="2"' in text
    for one, frames in zip(scenes, drawn, strict=True):
        for k, (behind, above) in enumerate(frames):
            for image, exact in ((behind, render_scene(one, k, behind.size)), (above, render_top(one, k, above.size))):
                difference = np.asarray(image.convert("RGB"), int) - np.asarray(exact, int)
                assert np.abs(difference).mean() < 4
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


def test_it_refers_to_nothing_outside_and_names_are_text(tmp_path: Path) -> None:
    name = 'x"><script>alert(1)</script>&'
    write_page([scene("a", 2, 0)], tmp_path / "page.html", name)
    text = (tmp_path / "page.html").read_text()
    read = Read(text)
    assert read.tags.count("script") == 1
    assert read.texts.count(name) == 2  # title and heading
    assert read.links == []
    assert "http" not in text


def test_long_scenes_are_shown_in_equal_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_FRAMES", 3)
    long = scene("a", 5, 0)
    write_page([replace(long, grid=replace(long.grid, frame_rate=25 / 3))], tmp_path / "p", "p")
    ((_, middle, _),) = pictures((tmp_path / "p").read_text())
    exact = render_top(long, 2, middle[1].size)
    assert np.abs(np.asarray(middle[1].convert("RGB"), int) - np.asarray(exact, int)).mean() < 4
    # The slider says the numbers that PNG, GIF and --frame have, not those of the pictures.
    assert 'TIMES = ["frame 0, 0.0 s", "frame 2, 0.4 s", "frame 4, 0.8 s"];' in (tmp_path / "p").read_text()


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    other = replace(scene("b", 1, 0), taxonomy="semantickitti", semantics=scene("b", 1, 0).semantics % 4)
    for scenes, message in (([], "no scenes"), ([scene("a", 1, 0), other], "labels native and semantickitti")):
        with pytest.raises(InputError, match=message):
            write_page(scenes, tmp_path / "page.html", "none")
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = str(tmp_path / "corpus")
    view = ["view", corpus, "--out"]
    for arguments, code in (
        (["generate", "--generator", "procedural", "--num-scenes", "2", "--workers", "0", "--out", corpus], 0),
        ([*view, str(tmp_path / "a.html")], 0),
        ([*view, str(tmp_path / "b.html"), "--scene", "nobody"], 2),
        ([*view, str(tmp_path / "b.html"), "--beside", corpus], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert (ended.value.code or 0) == code
    assert "2 scenes drawn in" in capsys.readouterr().out
    assert len(pictures((tmp_path / "a.html").read_text())) == 2
    assert not (tmp_path / "b.html").exists()
