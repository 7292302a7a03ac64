"""A page of scenes: one HTML file for a browser, scenes over time under a slider, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from html import escape
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import taxonomy
from exporters.pictures import render_scene, render_top, save_bytes
from exporters.sheets import Render, caption, classes_of, moment, opened, scene_of, spread

MAX_FRAMES = 40  # of a scene; longer ones are shown in equal steps
_SIZE, _ABOVE = (420, 330), (330, 330)

_STYLE = """
body { margin: 0; background: #f6f6f3; color: #26282e; font: 15px/1.5 system-ui, sans-serif; }
header { position: sticky; top: 0; background: #f6f6f3; border-bottom: 1px solid #d5d5ce; padding: 10px 20px; }
h1 { font-size: 18px; margin: 0 0 6px; }
header div { display: flex; gap: 12px; align-items: center; }
input { flex: 1; }
ul { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; margin: 8px 0 0; padding: 0; font-size: 13px; }
li i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border: 1px solid #26282e; }
main { display: flex; flex-wrap: wrap; gap: 20px; padding: 20px; }
figure { margin: 0; }
figure img { display: block; float: left; }
figcaption { clear: both; font-size: 13px; }
"""

# Frame k of the slider is frame k of each scene, or its last one.
_SCRIPT = """
const slider = document.querySelector("input"), button = document.querySelector("button");
const said = document.querySelector("output"), figures = [...document.querySelectorAll("figure")];
let timer = null;
function show() {
  figures.forEach((figure, n) => {
    const frame = SCENES[n][Math.min(slider.value, SCENES[n].length - 1)];
    figure.querySelectorAll("img").forEach((image, side) => { image.src = "data:image/png;base64," + frame[side]; });
  });
  said.value = TIMES[slider.value];
}
function play() {
  if (timer) { clearInterval(timer); timer = null; } else {
    timer = setInterval(() => { slider.value = (+slider.value + 1) % (+slider.max + 1); show(); }, MILLISECONDS);
  }
  button.textContent = timer ? "pause" : "play";
}
slider.addEventListener("input", show);
button.addEventListener("click", play);
show();
play();
"""


def draw_page(
    corpus: Path | ObjectPath, out: Path, most: int, scene_id: str | None = None, render: Render = render_scene
) -> str:
    """Draw the first scenes of a corpus, or one, as a page; what was drawn.

    Raises:
        InputError: not a corpus, or no such scene.
    """
    found = opened(corpus)
    if scene_id is not None:
        write_page([scene_of(found, scene_id)], out, str(corpus), render)
        return scene_id
    count = write_page(islice(found.scenes(), most), out, str(corpus), render)
    return f"{count} scene{'s' * (count > 1)}"


def write_page(scenes: Iterable[OccupancyScene], path: Path, title: str, render: Render = render_scene) -> int:
    """Write a page of scenes (whole or not at all), each as ``render`` draws it and from above; how many.

    Raises:
        InputError: there are no scenes, or they differ in label space.
    """
    figures: list[str] = []
    pictures: list[list[tuple[str, str]]] = []
    times: list[str] = []  # of the scene with most pictures, by the numbers that frames have everywhere else
    occurring, spaces, rate = np.zeros(256, bool), set(), 1.0
    for scene in scenes:
        frames = spread(scene.frames, MAX_FRAMES)
        pictures.append([_pictures(scene, frame, render) for frame in frames])
        if len(frames) > len(times):
            times = [f"frame {k}, {moment(scene, k):.1f} s" for k in frames]
        figures.append(_figure(scene))
        occurring |= classes_of([scene])
        spaces.add(scene.taxonomy)
        rate = scene.grid.frame_rate * len(frames) / scene.frames
    if len(spaces) != 1:
        found = "no scenes to draw" if not spaces else f"the scenes have labels {' and '.join(sorted(spaces))}"
        raise InputError(path, found, "give a corpus with scenes of one label space")
    space, last = taxonomy(spaces.pop()), max(map(len, pictures)) - 1
    legend = [
        f'<li><i style="background: rgb{tuple(space.colors[i])}"></i>{escape(space.classes[i].replace("_", " "))}</li>'
        for i in np.flatnonzero(occurring[: len(space)])
        if i != space.free
    ]
    script = f"const SCENES = {json.dumps(pictures)}, MILLISECONDS = {round(1000 / rate)};"
    script += f" const TIMES = {json.dumps(times)};{_SCRIPT}"
    page = f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>
<body>
<header>
<h1>{escape(title)}</h1>
<div><button>play</button><input type="range" min="0" max="{last}" value="0"><output></output></div>
<ul>{"".join(legend)}</ul>
</header>
<main>
{"".join(figures)}
</main>
<script>{script}</script>
</body>
</html>
"""
    save_bytes(page.encode(), path)
    return len(pictures)


def _figure(scene: OccupancyScene) -> str:
    images = [f'<img width="{width}" height="{height}" alt="">' for width, height in (_SIZE, _ABOVE)]
    return f"<figure>{''.join(images)}<figcaption>{escape(caption(scene))}</figcaption></figure>\n"


def _pictures(scene: OccupancyScene, frame: int, render: Render) -> tuple[str, str]:
    """A frame as it is asked for and from above, as PNG files in base64."""
    return _encoded(render(scene, frame, _SIZE)), _encoded(render_top(scene, frame, _ABOVE))


def _encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.quantize(64).save(buffer, "PNG", optimize=True)  # few colours: a third of the bytes
    return base64.b64encode(buffer.getvalue()).decode()
