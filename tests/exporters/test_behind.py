"""From behind the ego: what is ahead on the left is on the left, what is behind is not there, the path lies ahead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import NATIVE
from exporters.behind import render_behind
from exporters.rgbd import SKY

GRID = GridSpec((40, 30, 6), (0.8, 0.8, 0.8), (-16.0, -12.0, -0.8), 5.0)
ROAD, CAR = NATIVE.classes.index("road"), NATIVE.classes.index("car")


def a_street(*car: slice, speed: float = 0.0) -> OccupancyScene:
    """A road as large as the grid, two frames, with a car at these voxels."""
    semantics = np.zeros((2, *GRID.shape), np.uint8)
    semantics[:, :, :, 0] = ROAD
    if car:
        semantics[(slice(None), *car)] = CAR
    poses = np.repeat(np.eye(4)[None], 2, axis=0)
    poses[1, 0, 3] = speed
    return OccupancyScene("a", semantics, poses, GRID, "native", np.arange(2, dtype=np.int64) * 200_000)


def blue(picture: Image.Image) -> NDArray[np.bool_]:
    """Pixels that are clearly of the car's hue."""
    red, _, blue = (np.asarray(picture, int)[..., k] for k in range(3))
    return (blue > red + 60) & (blue > 80)


def test_what_is_ahead_on_the_left_is_on_the_left_and_what_is_behind_is_not_seen() -> None:
    left = blue(render_behind(a_street(slice(28, 33), slice(19, 22), slice(1, 3))))
    assert left[:, :320].sum() > 300
    assert not left[:, 320:].any()
    right = blue(render_behind(a_street(slice(28, 33), slice(8, 11), slice(1, 3))))
    assert right[:, 320:].sum() > 300
    assert not right[:, :320].any()
    assert not blue(render_behind(a_street(slice(0, 5), slice(13, 17), slice(1, 3)))).any()


def test_there_is_sky_above_and_road_below_and_the_ego_in_the_middle() -> None:
    picture = np.asarray(render_behind(a_street(), size=(320, 240)))
    assert picture.shape == (240, 320, 3)
    assert tuple(picture[0, 160]) == SKY
    road = picture[200, 20]
    assert abs(int(road[0]) - int(NATIVE.palette()[ROAD][0])) < 30
    middle = picture[120:220, 150:170].reshape(-1, 3)
    assert (np.abs(middle.astype(int) - (38, 40, 46)).max(axis=1) < 3).any()


def test_the_path_is_drawn_where_the_ego_drives() -> None:
    stands, drives = (np.asarray(render_behind(a_street(speed=v)), int) for v in (0.0, 9.0))
    changed = np.abs(stands - drives).max(axis=2) > 60
    assert changed.any()
    rows, columns = np.nonzero(changed)
    assert abs(columns.mean() - 320) < 10
    assert rows.max() < 300  # ahead of the ego, not under it


def test_the_same_scene_gives_the_same_bytes_and_no_other_frame_is_drawn() -> None:
    scene = a_street(slice(28, 33), slice(19, 22), slice(1, 3))
    assert render_behind(scene, 1).tobytes() == render_behind(scene, 1).tobytes()
    with pytest.raises(InputError, match="has no frame 2; use 0 to 1"):
        render_behind(scene, 2)


@pytest.mark.parametrize("words", [("--out", "a.png"), ("--out", "a.gif"), ("--scenes", "2", "--out", "a.png")])
def test_the_command_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    import cli

    def run(*arguments: str) -> None:
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments])
        assert not ended.value.code, capsys.readouterr().err

    city = str(tmp_path / "city")
    run("generate", "--generator", "procedural", "--num-scenes", "2", "--workers", "0", "--out", city)
    (option, name) = words[-2:]
    seen = {}
    for seen_from in ("outside", "ego"):
        path = tmp_path / f"{seen_from}-{name}"
        run("view", city, "--from", seen_from, *words[:-2], option, str(path))
        seen[seen_from] = Image.open(path).convert("RGB")
    assert seen["ego"].size == seen["outside"].size
    sky = {name: (np.abs(np.asarray(p, int) - SKY).max(axis=2) < 8).mean() for name, p in seen.items()}
    assert sky["ego"] > 0.05 > sky["outside"]
