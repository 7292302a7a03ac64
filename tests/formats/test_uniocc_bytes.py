"""UniOcc trees, read as the published loader reads them, and by their bytes."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from street_scene import DRIVING, STANDING, street
from written_tree import peak_of, write_tree

from dyncity.conditions import poses_from_trajectory
from dyncity.scene import Boxes
from exporters.cameras import NUSCENES_CAMERAS
from exporters.motion import track_poses
from exporters.occ3d import occ3d_frames
from exporters.sensors import HDL_32E
from exporters.uniocc import UniOccTree, voxel_flow

FREE = 10


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    folders, end = write_tree(UniOccTree, out, street("a"), street("b", boxes=False))
    assert folders == ["scene-0001", "scene-0002"]
    assert end.roots == (".",)
    return out


@pytest.fixture(scope="module")
def frames(root) -> list[dict[str, np.ndarray]]:
    """The frames of the first scene, found through ``scene_infos.pkl``; object arrays need allow_pickle."""
    infos = pickle.loads((root / "scene_infos.pkl").read_bytes())
    assert [info["scene_name"] for info in infos] == ["scene-0001", "scene-0002"]
    return [dict(np.load(root / path, allow_pickle=True)) for path in infos[0]["occ_in_scene_paths"]]


def test_arrays_have_the_names_types_and_shapes_of_the_data_set(root, frames):
    assert sorted(p.name for p in root.iterdir()) == ["scene-0001", "scene-0002", "scene_infos.pkl"]
    assert len(frames) == 3
    for frame in frames:
        assert set(frame) == {
            *("occ_label", "occ_mask_camera", "occ_flow_forward", "occ_flow_backward"),
            *("ego_to_world_transformation", "cameras", "annotations"),
        }
        assert frame["occ_label"].shape == frame["occ_mask_camera"].shape == (200, 200, 16)
        assert frame["occ_flow_forward"].shape == frame["occ_flow_backward"].shape == (200, 200, 16, 3)
        assert frame["occ_flow_forward"].dtype == np.float32
        assert frame["ego_to_world_transformation"].shape == (4, 4)
    assert frames[2]["ego_to_world_transformation"][0, 3] == pytest.approx(4.0)


def test_classes_are_the_eleven_and_free_is_10(frames):
    labels = frames[0]["occ_label"]
    assert set(np.unique(labels)) == {1, 4, 7, 8, 9, FREE}
    assert labels[125, 100, 5] == 1
    assert labels[115, 90, 5] == 4
    assert labels[100, 100, 2] == 7
    assert labels[100, 122, 2] == 8
    assert labels[100, 125, 6] == 9
    assert labels[10, 100, 2] == FREE  # not covered


def test_flow_points_at_each_voxels_place_in_the_next_and_the_previous_frame(frames):
    """The ego drives 5 voxels a frame: what stands comes 5 nearer, the driving car 3."""
    for number, frame in enumerate(frames):
        labels, forward, backward = (frame[k] for k in ("occ_label", "occ_flow_forward", "occ_flow_backward"))
        x = 125 - 3 * number
        car = np.zeros(labels.shape, bool)
        car[x : x + 5, 98:102, 3:7] = True
        assert (labels[car] == 1).all()
        still = (labels != FREE) & ~car
        for flow, sign, last in ((forward, 1, number == 2), (backward, -1, number == 0)):
            for where, step in ((still, -5.0), (car, -3.0)):
                expected = [0.0 if last else sign * step, 0.0, 0.0]
                assert np.abs(flow[where] - expected).max() < 1e-4
            assert (flow[labels == FREE] == 0).all()


def test_a_track_that_the_other_frame_does_not_have_has_no_flow():
    """Where a car went that is not there any more nobody knows; what stands still goes by the ego's motion."""
    scene = street()
    gone = (scene.boxes.frame == 1) & (scene.boxes.track == DRIVING)
    boxes = Boxes(**{field.name: getattr(scene.boxes, field.name)[~gone] for field in fields(Boxes)})
    instances, seen = scene.instances.copy(), np.ones(scene.semantics.shape, np.uint8)
    instances[1][instances[1] == DRIVING] = 0
    scene = replace(scene, boxes=boxes, instances=instances, mask_lidar=seen, mask_camera=seen)
    frame = next(occ3d_frames(scene, "native", HDL_32E, NUSCENES_CAMERAS))
    flow = voxel_flow(scene, frame, track_poses(scene), 0, 1)
    assert (frame.instances == DRIVING).any()
    assert (flow[frame.instances == DRIVING] == 0).all()
    np.testing.assert_allclose(flow[frame.instances == STANDING], [[-5.0, 0.0, 0.0]] * (5 * 4 * 4), atol=1e-4)


def test_flow_from_a_frame_leads_to_the_same_class_in_the_next(frames):
    for frame, following in zip(frames, frames[1:], strict=False):
        cars = np.argwhere(frame["occ_label"] == 1)
        to = np.rint(cars + frame["occ_flow_forward"][tuple(cars.T)]).astype(int)
        assert (following["occ_label"][tuple(to.T)] == 1).all()


def test_flow_where_the_ego_turns_is_that_of_the_corners_that_the_data_set_moves(tmp_path):
    """ComputeFlowsForBackground of uniocc_flow_gen.py, on OccFrameToEgoFrame of its uniocc_utils.py."""
    poses = poses_from_trajectory(np.array([[0.0, 0.0, 0.0], [2.0, 0.3, 0.2]]))
    nod = np.eye(4)
    nod[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(0.02), np.sin(0.02), -np.sin(0.02), np.cos(0.02)
    poses[1] = poses[1] @ nod
    write_tree(UniOccTree, tmp_path, replace(street(frames=2), poses=poses, instances=None, boxes=None))
    for number, key in ((0, "occ_flow_forward"), (1, "occ_flow_backward")):
        frame = dict(np.load(tmp_path / f"scene-0001/{number}.npz", allow_pickle=True))
        voxels = np.argwhere(frame["occ_label"] != FREE)
        corners = voxels * 0.4 - [40, 40, 2.2]
        step = np.linalg.inv(poses[1 - number]) @ poses[number]
        expected = (corners @ step[:3, :3].T + step[:3, 3] - corners) / 0.4
        assert np.abs(frame[key][tuple(voxels.T)] - expected).max() < 1e-4


def test_the_list_of_scenes_is_written_in_memory_that_does_not_grow_with_them(tmp_path):
    tree = UniOccTree([4] * 20_000)
    assert peak_of(lambda: tree.finish(tmp_path, ())) < 2**20
    infos = pickle.loads((tmp_path / "scene_infos.pkl").read_bytes())
    assert infos[19_999] == {
        "scene_name": "scene-20000",
        "occ_in_scene_paths": [f"scene-20000/{frame}.npz" for frame in range(4)],
    }


def test_boxes_and_cameras_are_lists_of_what_readers_look_for(frames):
    for number, frame in enumerate(frames):
        rows = {row["token"]: row for row in frame["annotations"]}
        assert len(rows) == 3
        car = rows[f"a/{DRIVING}"]
        assert car["category_id"] == 1
        assert car["size"] == pytest.approx([2.0, 1.6, 1.6])
        assert car["agent_to_ego"][:3, 3] == pytest.approx([11.0 - 1.2 * number, 0.0, 1.0], abs=1e-5)
        world = frame["ego_to_world_transformation"] @ car["agent_to_ego"]
        assert world == pytest.approx(car["agent_to_world"])
        assert frame["cameras"][0]["name"] == "CAM_FRONT"
        assert frame["cameras"][0]["intrinsics"].shape == (3, 3)
        assert frame["cameras"][0]["extrinsics"].shape == (4, 4)


def test_without_boxes_annotations_are_those_around_instances(root, tmp_path):
    """What FindGMMForCategory of uniocc_eval.py takes the sizes of a class from, and cannot do without."""
    rows = {row["token"]: row for row in np.load(root / "scene-0002/0.npz", allow_pickle=True)["annotations"]}
    assert {row["category_id"] for row in rows.values()} == {1, 4}
    car = rows[f"b/{DRIVING}"]
    assert car["size"] == pytest.approx([2.0, 1.6, 1.6])
    assert car["agent_to_ego"][:3, 3] == pytest.approx([11.0, 0.0, 1.0], abs=1e-5)
    write_tree(UniOccTree, tmp_path, replace(street("c", boxes=False), instances=None))
    assert len(np.load(tmp_path / "scene-0001/0.npz", allow_pickle=True)["annotations"]) == 0


def test_without_boxes_flow_follows_the_middle_of_each_tracks_voxels(root):
    frame = dict(np.load(root / "scene-0002/0.npz", allow_pickle=True))
    assert frame["occ_flow_forward"][127, 100, 4] == pytest.approx([-3.0, 0.0, 0.0], abs=1e-4)


def test_members_of_an_npz_are_plain_npy_files_that_any_numpy_reads(root):
    with zipfile.ZipFile(root / "scene-0001/0.npz") as archive:
        assert archive.testzip() is None
        assert all(m.compress_type == zipfile.ZIP_DEFLATED for m in archive.infolist())
        for name in archive.namelist():
            data = archive.read(name)
            assert data[:6] == b"\x93NUMPY"
            assert b"numpy._core" not in data
