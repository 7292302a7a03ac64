"""Pictures show what is in the scene, are the same bytes every time, and are quick enough to look at."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dyncity.conditions import Conditions, poses_from_trajectory
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import NATIVE
from exporters.isometric import BACKGROUND, fit_view, visible_faces
from exporters.pictures import render_scene, render_top
from exporters.sheets import contact_sheet, draw_corpus, side_by_side, write_gif, write_png

GRID = GridSpec((32, 32, 8), (0.8, 0.8, 0.8), (-12.8, -12.8, -1.2), 5.0)
ROAD, BUILDING, CAR = NATIVE.id("road"), NATIVE.id("building"), NATIVE.id("car")


def street(t: int = 3, anchor: int | None = None, grid: GridSpec = GRID) -> OccupancyScene:
    """A road with a building on the left and a car ahead; the ego drives 2 m a frame."""
    semantics = np.zeros((t, *grid.shape), np.uint8)
    nx, ny, _ = grid.shape
    semantics[:, :, :, 0] = ROAD
    semantics[:, nx // 4 : nx // 2, ny * 3 // 4 :, 1:5] = BUILDING
    semantics[:, nx * 3 // 4 : nx * 3 // 4 + 5, ny // 3 : ny // 3 + 2, 1:3] = CAR
    trajectory = np.zeros((t, 3))
    trajectory[:, 0] = 2.0 * np.arange(t)
    return OccupancyScene(
        "street-0",
        semantics,
        poses_from_trajectory(trajectory),
        grid,
        "native",
        (np.arange(t) * 200_000).astype(np.int64),
        Conditions("forward", trajectory),
        anchor=anchor,
    )


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_nearer_voxels_hide_farther_ones(seed: int, share: float) -> None:
    """The picture of all voxels is that of single voxels laid over each other from far to near."""
    grid = GridSpec((5, 4, 3), (1.0, 1.0, 0.8), (0.0, 0.0, 0.0), 1.0)
    solid = np.random.default_rng(seed).random(grid.shape) < share
    view = fit_view(grid, (60, 60))
    expected = np.zeros((view.canvas[1], view.canvas[0]), int)
    places = np.argwhere(solid)
    for x, y, z in places[np.argsort((places + 0.5) @ view.towards_camera, kind="stable")]:
        alone = np.zeros_like(solid)
        alone[x, y, z] = True
        face, _ = visible_faces(alone, view)
        expected[face > 0] = 100 * (1 + x + 5 * y + 20 * z) + face[face > 0]
    seen, (vx, vy, vz) = visible_faces(solid, view)
    voxel, face = (seen - 1) // 3, (seen - 1) % 3 + 1
    shown = np.zeros_like(expected)
    if len(vx):
        shown = np.where(seen > 0, 100 * (1 + vx[voxel] + 5 * vy[voxel] + 20 * vz[voxel]) + face, 0)
    np.testing.assert_array_equal(shown, expected)


def test_a_slab_has_no_holes() -> None:
    """Between the first and the last drawn pixel of every row nothing of the background shows."""
    solid = np.zeros(GRID.shape, bool)
    solid[:, :, 0] = True
    seen, _ = visible_faces(solid, fit_view(GRID, (200, 150)))
    for row in seen > 0:
        drawn = np.flatnonzero(row)
        assert len(drawn) == 0 or row[drawn[0] : drawn[-1] + 1].all()


def test_voxels_enclosed_by_others_are_not_drawn() -> None:
    solid = np.ones(GRID.shape, bool)
    _, (x, y, z) = visible_faces(solid, fit_view(GRID, (200, 150)))
    assert ((x == 0) | (y == 0) | (z == GRID.shape[2] - 1)).all()


def test_colours_of_the_classes_are_in_the_picture_and_free_and_unknown_are_not() -> None:
    scene = street()
    image = pixels(render_scene(scene))
    palette = NATIVE.palette().astype(int)
    for label in (ROAD, BUILDING, CAR):
        assert (np.abs(image - palette[label]).max(axis=2) <= 4).sum() > 40, NATIVE.classes[label]
    hidden = street()
    hidden.semantics[hidden.semantics == BUILDING] = UNKNOWN
    assert (np.abs(pixels(render_scene(hidden)) - palette[BUILDING]).max(axis=2) <= 4).sum() == 0
    empty = street(t=1)
    empty.semantics[:] = UNKNOWN
    assert (pixels(render_scene(empty)) == BACKGROUND).all(axis=2).mean() > 0.99  # the ego alone


def test_forward_is_up_and_right_and_left_is_up_and_left() -> None:
    view = fit_view(GRID, (640, 480))
    forward, left, up = view.axes
    assert forward[0] > 0 > forward[1]
    assert left[0] < 0
    assert left[1] < 0
    assert up[0] == 0
    assert up[1] < 0


def test_in_a_world_fixed_grid_the_ego_moves_and_in_an_ego_centred_one_it_stays() -> None:
    def change(scene: OccupancyScene) -> float:
        first, last = (pixels(render_top(scene, k, (200, 200))) for k in (0, 2))
        dark = [np.argwhere((p < 60).all(axis=2)).mean(axis=0) for p in (first, last)]
        return float(dark[0][0] - dark[1][0])

    assert change(street(anchor=1)) > 15
    assert abs(change(street())) < 8


def test_the_same_scene_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, write in (("a.gif", write_gif), ("a.png", write_png)):
        write(street(), tmp_path / name)
        write(street(), tmp_path / f"again-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4  # no temporary files stay


def test_a_gif_has_the_frames_and_the_rate_of_the_scene_and_loops(tmp_path: Path) -> None:
    write_gif(street(t=4), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4
        assert gif.info["duration"] == 200
        assert gif.info["loop"] == 0


def test_a_gif_of_a_scene_names_its_classes(tmp_path: Path) -> None:
    """Below the picture are the colours of the three classes that occur, and of no other."""
    write_gif(street(), tmp_path / "a.gif", size=(420, 240))
    with Image.open(tmp_path / "a.gif") as gif:
        legend = pixels(gif.convert("RGB"))[-60:]
    near = {
        name: (np.abs(legend - color).max(axis=2) <= 4).sum()
        for name, color in zip(NATIVE.classes, NATIVE.palette(), strict=False)
    }
    assert {name for name, count in near.items() if count > 100} == {"road", "building", "car"}


def test_a_contact_sheet_takes_at_most_16_scenes_and_names_the_classes(tmp_path: Path) -> None:
    taken = []

    def scenes():
        for k in range(100):
            taken.append(k)
            yield street(t=1)

    contact_sheet(scenes(), tmp_path / "sheet.png", tile=(120, 90))
    assert len(taken) == 16
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 120
        assert sheet.height > 4 * 90
        assert (np.abs(pixels(sheet)[-60:] - NATIVE.palette()[CAR]).max(axis=2) == 0).sum() > 100


def test_a_sheet_over_time_has_the_frames_of_the_longest_scene(tmp_path: Path) -> None:
    contact_sheet([street(t=2), street(t=5)], tmp_path / "sheet.gif", tile=(120, 90))
    with Image.open(tmp_path / "sheet.gif") as gif:
        assert gif.n_frames == 5


@pytest.mark.parametrize("name", ["both.png", "both.gif"])
def test_two_sources_lie_beside_each_other_as_many_of_each(tmp_path: Path, name: str) -> None:
    scenes = [street(t=1)] * 3
    side_by_side(scenes, scenes[:2], tmp_path / name, ("ours", "theirs"), tile=(120, 90), columns=2)
    side_by_side(scenes[:2], scenes, tmp_path / f"other-{name}", ("ours", "theirs"), tile=(120, 90), columns=2)
    with Image.open(tmp_path / name) as both, Image.open(tmp_path / f"other-{name}") as other:
        assert both.size == other.size
        left, right = (pixels(both.convert("RGB"))[44:134, x : x + 260] for x in (0, both.width - both.width // 2 + 8))
        assert np.abs(left - right).max() <= 1  # the same scenes, but for the titles


def test_labels_that_differ_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="like with like"):
        side_by_side([street()], [replace(street(), taxonomy="carlasc")], tmp_path / "a.png", ("a", "b"))


def test_a_contact_sheet_of_nothing_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scenes"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_a_frame_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InputError, match="use 0 to 2"):
        render_scene(street(), 3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 200, 2), (64, 64, 64)])
def test_grids_of_any_shape_can_be_drawn(shape: tuple[int, int, int]) -> None:
    grid = GridSpec(shape, (0.5, 0.5, 0.5), (0.0, 0.0, 0.0), 10.0)
    scene = OccupancyScene(
        "s",
        np.full((1, *shape), BUILDING, np.uint8),
        np.eye(4)[None],
        grid,
        "native",
        np.zeros(1, np.int64),
    )
    assert render_scene(scene, size=(320, 200)).size == (320, 200)
    assert render_top(scene, size=(100, 100)).size == (100, 100)


def test_a_frame_is_quick_to_draw() -> None:
    """In time of the processor, which a busy machine does not change much: 0.08 s on a core of 2024."""
    scene = street(grid=GridSpec((64, 64, 8), (0.8, 0.8, 0.8), (-25.6, -25.6, -1.2), 5.0))
    render_scene(scene)
    times = []
    for _ in range(5):
        start = time.process_time()
        render_scene(scene)
        times.append(time.process_time() - start)
    assert min(times) < 0.25


def test_a_corpus_of_other_labels_beside_is_named_before_anything_is_drawn(make_scene, write_corpus, tmp_path) -> None:  # type: ignore[no-untyped-def]
    native = write_corpus(tmp_path / "native", [make_scene(0)])
    other = write_corpus(tmp_path / "other", [make_scene(1, labels="carlasc")], labels="carlasc")
    with pytest.raises(InputError, match=r"labels are carlasc, those of .*native native") as error:
        draw_corpus(native, tmp_path / "a.png", 4, other)
    assert error.value.where == str(other)
    assert not (tmp_path / "a.png").exists()
