"""Regions are read strictly and cover what they say, wherever the ego looks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.conditions import poses_from_trajectory
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.regions import Region, read_region
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import NATIVE

GRID = GridSpec((20, 16, 4), (0.5, 0.5, 0.5), (-5.0, -4.0, 0.0), 5.0)


def scene(trajectory: np.ndarray, anchor: int | None = None) -> OccupancyScene:
    semantics = np.zeros((len(trajectory), *GRID.shape), np.uint8)
    semantics[:, 12:16, 8:10, :2] = NATIVE.id("car")
    poses = poses_from_trajectory(trajectory)
    return OccupancyScene("s", semantics, poses, GRID, "native", np.arange(len(poses)), anchor=anchor)


def region(tmp_path: Path, values: object) -> Region:
    path = tmp_path / "region.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return read_region(path)


def test_a_box_covers_its_volume(tmp_path: Path) -> None:
    mask = region(tmp_path, {"boxes": [{"x": [1, 3], "y": [-1, 1], "z": [0, 1]}]}).mask(scene(np.zeros((2, 3))))
    assert mask[0].sum() * 0.5**3 == pytest.approx(2 * 2 * 1)
    assert mask[:, 12:16, 6:10, :2].all()


def test_a_region_stays_in_the_world_while_the_ego_drives_through_it(tmp_path: Path) -> None:
    found = region(tmp_path, {"boxes": [{"x": [1, 3], "y": [-1, 1]}]})
    moved = found.mask(scene(np.array([[0, 0, 0], [1.0, 0, 0]])))
    np.testing.assert_array_equal(moved[1, :-2], moved[0, 2:])
    turned = found.mask(scene(np.array([[0, 0, 0], [0, 0, np.pi / 2]])))
    np.testing.assert_array_equal(np.argwhere(turned[1]).mean(0)[:2], (9.5, 3.5))  # on the right hand now
    fixed = found.mask(scene(np.array([[0, 0, 0], [1.0, 0, 0]]), anchor=0))
    np.testing.assert_array_equal(fixed[0], fixed[1])


def test_classes_and_frames_narrow_it(tmp_path: Path) -> None:
    made = scene(np.zeros((3, 3)))
    mask = region(tmp_path, {"classes": ["car"], "frames": [1, 3]}).mask(made)
    assert not mask[0].any()
    np.testing.assert_array_equal(mask[1:], made.semantics[1:] == NATIVE.id("car"))


@settings(max_examples=40)
@given(yaw=st.floats(-3, 3), x=st.floats(-3, 3), y=st.floats(-2, 2), length=st.floats(1, 6), width=st.floats(1, 4))
def test_a_turned_box_is_a_polygon(tmp_path_factory, yaw, x, y, length, width) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("r")
    box = {"x": [x - length / 2, x + length / 2], "y": [y - width / 2, y + width / 2], "yaw": yaw}
    mask = region(folder, {"boxes": [box]}).mask(scene(np.zeros((1, 3))))[0, :, :, 0]
    cos, sin = np.cos(yaw), np.sin(yaw)
    centers = GRID.centers()[:, :, 0, :2] - (x, y)
    along, across = centers @ (cos, sin), centers @ (-sin, cos)
    inner = (np.abs(along) < length / 2 - 1e-6) & (np.abs(across) < width / 2 - 1e-6)
    outer = (np.abs(along) < length / 2 + 1e-6) & (np.abs(across) < width / 2 + 1e-6)
    assert (mask >= inner).all()
    assert (mask <= outer).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "not readable as JSON"),
        ({}, "says nothing"),
        ([], "says nothing"),
        ({"box": []}, "unknown key 'box'"),
        ({"boxes": {}}, "boxes is"),
        ({"boxes": [{"x": [0, 1]}]}, r"boxes\[0\] is"),
        ({"boxes": [{"x": [0, 1], "y": [0, 1], "yaw": "north"}]}, r"boxes\[0\].yaw is north; give one .* radians"),
        ('{"boxes": [{"x": [0, 1], "y": [0, 1]}], "boxes": []}', "says 'boxes' twice"),
        ({"boxes": [{"x": [1, 0], "y": [0, 1]}]}, "lower bound first"),
        ({"boxes": [{"x": [0, 1], "y": [0, 1e999]}]}, "finite"),
        ({"boxes": [{"x": [0, "1"], "y": [0, 1]}]}, "finite numbers"),
        ({"boxes": [{"x": [0, 10**400], "y": [0, 1]}]}, "finite numbers"),
        ({"polygons": [{"points": [[0, 0], [1, 1]]}]}, "at least three"),
        ({"polygons": [{"points": [[0, 0], [1, 1], [2]]}]}, r"points\[2\]"),
        ({"frames": [0, 1.5]}, "two whole numbers"),
        ({"classes": [3]}, "names of classes"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        region(tmp_path, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": ["zebra"]}, "region.json, classes: found 'zebra'"),
        ({"frames": [1, 9]}, r"region.json, frames: found \[1, 9\]; give two numbers from 0 to 2"),
        ({"frames": [1, 1]}, "0"),
    ],
)
def test_what_a_scene_has_not_is_named(tmp_path: Path, values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        region(tmp_path, values).mask(scene(np.zeros((2, 3))))


def test_a_region_written_down_is_the_region_again(tmp_path: Path) -> None:
    box = {"x": [1, 3], "y": [-1, 1], "z": [0, 1], "yaw": 0.4}
    polygon = {"points": [[-4, -3], [0, -3], [0, 3]]}
    for values in (
        {"boxes": [box], "polygons": [polygon], "classes": ["car"], "frames": [0, 1]},
        {"polygons": [polygon]},
        {"classes": ["car", "truck"]},
        {"frames": [1, 2]},
    ):
        first = region(tmp_path, values)
        again = region(tmp_path, first.to_json())
        np.testing.assert_array_equal(again.mask(scene(np.zeros((2, 3)))), first.mask(scene(np.zeros((2, 3)))))
        assert (again.classes, again.frames, len(again.prisms)) == (first.classes, first.frames, len(first.prisms))


def test_a_long_region_is_written_down_as_its_digest(tmp_path: Path) -> None:
    """It goes into the provenance of each scene, which holds 64 KiB."""
    points = np.random.default_rng(0).normal(size=(2000, 2)).tolist()
    said = region(tmp_path, {"polygons": [{"points": points}]}).to_json()
    assert said.startswith("sha256:")
    assert said != region(tmp_path, {"polygons": [{"points": points[:-1]}]}).to_json()
