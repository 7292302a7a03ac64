"""RGB-D trees, read by nerfstudio's conventions: OpenGL cameras, depth along the axis in millimetres."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from street_scene import ALIGNED, CAR, DRIVING, ROAD, STANDING, street
from written_tree import write_tree

from dyncity.conditions import poses_from_trajectory
from dyncity.taxonomy import NATIVE
from exporters.cameras import Camera
from exporters.native_tree import TreeOptions
from exporters.rgbd import SKY, RgbdTree, depth_image

RIG = (
    Camera("LEFT", (1.5, 0.4, 1.6), 40.0, 60.0, width=120, height=80, pitch=10.0),
    Camera("AHEAD", (1.7, 0.0, 1.5), 0.0, 80.0, width=120, height=80),
)


def turning_street():
    """The street seen by an ego that climbs and turns, in a grid fixed to the world."""
    scene = street("turning")
    still = np.repeat(scene.semantics[:1], 3, axis=0)
    poses = poses_from_trajectory(np.array([[0.0, 0, 0], [1.3, 0.2, 0.2], [2.4, 0.7, 0.5]]))
    poses[2, 2, 3] = 0.3
    instances = np.repeat(scene.instances[:1], 3, axis=0)
    return replace(scene, semantics=still, instances=instances, poses=poses, anchor=0, boxes=None)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    options = TreeOptions(cameras=RIG, points=True, sequences=(4, 2))
    bare = replace(street("b", boxes=False), instances=None)
    folders, end = write_tree(RgbdTree, out, turning_street(), bare, options=options)
    assert folders == ["scene-0004", "scene-0002"]
    assert end.roots == (".",)
    return out


def views_of(scene: Path) -> list[dict[str, Any]]:
    return json.loads((scene / "transforms.json").read_text())["frames"]


def pixels(scene: Path, path: str) -> np.ndarray:
    return np.asarray(Image.open(scene / path))


def points_by_nerfstudio(scene: Path, view: dict[str, Any]) -> np.ndarray:
    """``[h, w, 3]`` in the world: pixel centres at a half, camera axes x right, y up, -z along the view."""
    depth = pixels(scene, view["depth_file_path"]) * 0.001
    v, u = np.mgrid[: view["h"], : view["w"]] + 0.5
    rays = np.stack([(u - view["cx"]) / view["fl_x"], -(v - view["cy"]) / view["fl_y"], -np.ones_like(u)], axis=-1)
    matrix = np.array(view["transform_matrix"])
    return (rays * depth[..., None]) @ matrix[:3, :3].T + matrix[:3, 3]


def test_every_camera_of_every_frame_is_listed_with_its_files(root):
    head = json.loads((root / "scene-0004/transforms.json").read_text())
    assert (head["camera_model"], head["depth_unit_scale_factor"], head["scene_id"]) == ("OPENCV", 0.001, "turning")
    assert head["classes"] == list(NATIVE.classes)
    views = head["frames"]
    assert [(v["frame"], v["camera"], v["time"]) for v in views] == [
        (frame, name, 0.5 * frame) for frame in range(3) for name in ("LEFT", "AHEAD")
    ]
    named = [path for view in views for key, path in view.items() if key.endswith("file_path")]
    files = [p.relative_to(root / "scene-0004").as_posix() for p in (root / "scene-0004").rglob("*.*")]
    assert sorted(named) == sorted(set(files) - {"transforms.json"})
    for view in views:
        assert (view["w"], view["h"]) == (120, 80)
        for key, kind, mode in (
            ("file_path", "color", (80, 120, 3)),
            ("depth_file_path", "depth", (80, 120)),
            ("normal_file_path", "normal", (80, 120, 3)),
            ("semantic_file_path", "semantic", (80, 120)),
            ("instance_file_path", "instance", (80, 120)),
        ):
            assert view[key] == f"{kind}/{view['camera']}/{view['frame']:06d}.png"
            image = pixels(root / "scene-0004", view[key])
            assert image.shape == mode
            assert image.dtype == (np.uint16 if kind in ("depth", "instance") else np.uint8)


def test_points_of_all_views_lie_on_the_same_world(root):
    """A millimetre inside along the ray is the voxel whose class, track and face the pixel shows."""
    scene, folder = turning_street(), root / "scene-0004"
    for view in views_of(folder):
        points, matrix = points_by_nerfstudio(folder, view), np.array(view["transform_matrix"])
        hit = pixels(folder, view["depth_file_path"]) > 0
        assert hit.mean() > 0.3
        ahead = points[hit] - matrix[:3, 3]
        index, inside = ALIGNED.index(points[hit] + 2e-3 * ahead / np.linalg.norm(ahead, axis=1, keepdims=True) * 2)
        at = tuple(index[inside].T)
        semantic, instance = (pixels(folder, view[f"{k}_file_path"])[hit][inside] for k in ("semantic", "instance"))
        assert (scene.semantics[0][at] == semantic).mean() > 0.995  # rounded depth may leave a voxel at its edge
        assert (scene.instances[0][at] == instance).mean() > 0.995
        written = np.load(folder / view["points_file_path"])
        assert written.dtype == np.float32
        assert np.isnan(written[~hit]).all()
        np.testing.assert_allclose(written[hit], points[hit], atol=2e-3)


def test_normals_point_at_the_camera_along_an_axis_of_the_voxels(root):
    folder = root / "scene-0004"
    for view in views_of(folder):
        coded = pixels(folder, view["normal_file_path"]).astype(float)
        hit = pixels(folder, view["depth_file_path"]) > 0
        normals = coded[hit] / 127.5 - 1
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=0.02)
        assert np.abs(coded[~hit] - 127.5).max() <= 0.5
        v, u = np.argwhere(hit).T + 0.5
        rays = np.stack([(u - 60) / view["fl_x"], (v - 40) / view["fl_y"], np.ones_like(u)], axis=-1)
        assert (np.einsum("nc,nc->n", rays, normals) < 0.05).all()
        # OpenCV's axes to the world: those of the matrix with y and z turned.
        world = normals @ (np.array(view["transform_matrix"])[:3, :3] * [1, -1, -1]).T
        assert np.abs(np.abs(world).max(axis=1) - 1).max() < 0.02
        up = pixels(folder, view["semantic_file_path"])[hit] == ROAD
        assert (world[up][:, 2] > 0.98).all()


def test_a_face_has_one_colour_in_all_views_and_the_sky_another(root):
    folder, colors = root / "scene-0004", {}
    for view in views_of(folder):
        color, hit = pixels(folder, view["file_path"]), pixels(folder, view["depth_file_path"]) > 0
        assert (color[~hit] == SKY).all()
        matrix = np.array(view["transform_matrix"])[:3, :3] * [1, -1, -1]
        world = np.rint((pixels(folder, view["normal_file_path"])[hit] / 127.5 - 1) @ matrix.T).astype(int)
        semantic = pixels(folder, view["semantic_file_path"])[hit]
        for kind, normal, rgb in zip(semantic, map(tuple, world), map(tuple, color[hit]), strict=True):
            colors.setdefault((int(kind), normal), set()).add(rgb)
    assert len(colors) > 6
    assert all(len(found) == 1 for found in colors.values())
    assert colors[ROAD, (0, 0, 1)] != colors[CAR, (0, 0, 1)]


def test_cars_are_seen_with_their_tracks(root):
    seen = {
        int(n)
        for view in views_of(root / "scene-0004")
        for n in np.unique(pixels(root / "scene-0004", view["instance_file_path"]))
    }
    assert {0, DRIVING, STANDING} <= seen


def test_without_tracks_and_without_asking_there_are_no_such_files(root, tmp_path):
    assert not (root / "scene-0002/instance").exists()
    assert all("instance_file_path" not in view for view in views_of(root / "scene-0002"))
    write_tree(RgbdTree, tmp_path, street(frames=1), options=TreeOptions(cameras=RIG[:1]))
    assert sorted(p.name for p in (tmp_path / "scene-0001").iterdir()) == [
        *("color", "depth", "instance", "normal", "semantic", "transforms.json")
    ]


def test_depth_is_in_millimetres_and_0_where_nothing_is_or_16_bits_end():
    depth = np.array([[1.0004, 65.535, 65.5356, np.inf]], np.float32)
    assert depth_image(depth).tolist() == [[1000, 65535, 0, 0]]
