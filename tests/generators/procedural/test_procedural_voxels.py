"""Voxels agree with the city: static things stand still, boxes and instances say the same."""

import numpy as np
import pytest

from dyncity.presets import preset
from dyncity.scene import SceneSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.city import ProceduralCity

TINY = preset("tiny")
SPECS = [SceneSpec(k, 40) for k in range(10)]


@pytest.fixture(scope="module")
def world_scenes():
    return ProceduralCity(TINY, frame="world").generate(SPECS)


@pytest.fixture(scope="module")
def ego_scenes():
    return ProceduralCity(TINY, frame="ego").generate(SPECS)


def test_static_voxels_of_the_world_frame_never_change(world_scenes):
    for scene in world_scenes:
        assert scene.anchor == 4
        assert scene.grid == TINY.clip_grid
        never = (scene.instances == 0).all(axis=0)
        assert (scene.semantics[:, never] == scene.semantics[0, never]).all()
        for t in range(1, scene.frames):
            both = (scene.instances[t] == 0) & (scene.instances[0] == 0)
            assert np.array_equal(scene.semantics[t][both], scene.semantics[0][both])


def test_both_frames_show_the_same_drive(ego_scenes, world_scenes):
    for ego, world in zip(ego_scenes, world_scenes, strict=True):
        assert np.array_equal(ego.poses, world.poses)
        assert ego.conditions.command == world.conditions.command


def test_windows_cut_from_the_world_frame_agree_with_the_ego_frames(ego_scenes, world_scenes):
    for ego, world in zip(ego_scenes, world_scenes, strict=True):
        to_world = np.linalg.inv(world.grid_poses()[0])
        points = np.concatenate([ego.grid.centers(), np.ones((*ego.grid.shape, 1))], axis=-1)
        for t in range(ego.frames):
            index, inside = world.grid.index((points @ (to_world @ ego.poses[t]).T)[..., :3])
            cut = world.semantics[t][tuple(index.transpose(3, 0, 1, 2))]
            assert inside.mean() > 0.9
            occupied = inside & ((ego.semantics[t] > 0) | (cut > 0))
            assert (cut == ego.semantics[t])[inside].mean() > 0.94
            assert (cut == ego.semantics[t])[occupied].mean() > 0.6


def test_at_the_anchor_both_frames_are_the_same_voxels_where_the_grid_is_not_turned(ego_scenes, world_scenes):
    mx, my = TINY.clip.margin
    pairs = [pair for pair in zip(ego_scenes, world_scenes, strict=True) if pair[1].conditions.grid_yaw == 0]
    assert 2 <= len(pairs) < len(world_scenes)
    for ego, world in pairs:
        cut = world.semantics[world.anchor, mx:-mx, my:-my]
        assert np.array_equal(cut, ego.semantics[world.anchor])


def test_instances_are_where_movers_are_and_tracks_name_one_class(ego_scenes):
    for scene in ego_scenes:
        assert np.array_equal(np.isin(scene.semantics, NATIVE.movers), scene.instances > 0)
        boxes = scene.boxes
        label = dict(zip(boxes.track.tolist(), boxes.label.tolist(), strict=True))
        assert all(label[t] == c for t, c in zip(boxes.track.tolist(), boxes.label.tolist(), strict=True))
        for t in range(scene.frames):
            for track in np.unique(scene.instances[t]):
                if track in label:
                    assert set(scene.semantics[t][scene.instances[t] == track]) == {label[track]}


def test_every_box_holds_voxels_and_its_voxels_lie_in_it(ego_scenes):
    """A quarter of a voxel of margin is the drawing's, half a diagonal the voxel's own."""
    for scene in ego_scenes:
        centers = scene.grid.centers()
        boxes = scene.boxes
        assert len({*zip(boxes.frame.tolist(), boxes.track.tolist(), strict=True)}) == len(boxes)
        for k in range(len(boxes)):
            t = boxes.frame[k]
            mine = scene.instances[t] == boxes.track[k]
            assert mine.any()
            world = centers[mine] @ scene.poses[t, :3, :3].T + scene.poses[t, :3, 3]
            delta = world - boxes.center[k]
            cos, sin = np.cos(boxes.yaw[k]), np.sin(boxes.yaw[k])
            ahead, aside = cos * delta[:, 0] + sin * delta[:, 1], cos * delta[:, 1] - sin * delta[:, 0]
            reach = 0.8 * np.sqrt(0.5) + 0.01
            assert (np.abs(ahead) < boxes.size[k, 0] / 2 + reach).all()
            assert (np.abs(aside) < boxes.size[k, 1] / 2 + reach).all()
            assert (np.abs(delta[:, 2]) < boxes.size[k, 2] / 2 + 0.8).all()


def test_a_car_keeps_its_size_while_it_moves(ego_scenes):
    """In the window's middle a car is 8 to 24 columns of 0.8 m in every frame, two layers high."""
    for scene in ego_scenes:
        for track in np.unique(scene.boxes.track[scene.boxes.label == NATIVE.id("car")]):
            for t in range(scene.frames):
                mine = scene.instances[t] == track
                columns = np.argwhere(mine.any(axis=2))
                if len(columns) and (columns > 4).all() and (columns < 59).all():
                    assert 8 <= len(columns) <= 24
                    assert 2 <= mine.any(axis=(0, 1)).sum() <= 3


def test_poles_and_pedestrians_are_whole_columns_on_coarse_grids(ego_scenes):
    for scene in ego_scenes:
        for track in np.unique(scene.boxes.track[scene.boxes.label == NATIVE.id("pedestrian")]):
            for t in scene.boxes.frame[scene.boxes.track == track]:
                mine = scene.instances[t] == track
                assert 1 <= mine.sum() <= 8
        pole = scene.semantics == NATIVE.id("pole")
        assert pole.any()


def test_lights_and_signs_sit_on_poles():
    scene_grids = ProceduralCity(TINY, frame="world").generate([SceneSpec(k, 41) for k in range(8)])
    heads = 0
    for scene in scene_grids:
        voxels = scene.semantics[0]
        for x, y, z in np.argwhere(voxels == NATIVE.id("traffic_light")):
            below = voxels[x, y, :z]
            assert NATIVE.id("pole") in below or NATIVE.id("traffic_light") in below
            heads += 1
    assert heads > 0


def test_buildings_are_hollow():
    """Inside there is no floor: columns without ground exist, and walls stand around them."""
    scene = ProceduralCity(TINY, frame="world").generate([SceneSpec(3, 0)])[0]
    ground = scene.semantics[0, :, :, 1]
    assert (ground == 0).mean() > 0.05
    assert (ground == NATIVE.id("building")).any()
    assert (ground[1:][ground[:-1] == 0] != NATIVE.id("road")).all()
