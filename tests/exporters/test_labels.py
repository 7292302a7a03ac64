"""Scenes in other label spaces and on other grids."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyncity.anchoring import anchored
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.taxonomy import NATIVE, TAXONOMIES, label_map
from exporters.labels import THIN, to_grid, to_labels

FINE = GridSpec((8, 8, 4), (0.4, 0.4, 0.4), (-1.6, -1.6, -0.8), 5.0)
COARSE = GridSpec((4, 4, 2), (0.8, 0.8, 0.8), (-1.6, -1.6, -0.8), 5.0)


@pytest.mark.parametrize("labels", [n for n in TAXONOMIES if n != "native"])
def test_voxels_and_boxes_get_the_ids_of_the_label_space(make_scene, labels):
    scene = make_scene(3, columns=("boxes",))
    mapped = to_labels(scene, labels)
    table = label_map("native", labels)
    assert mapped.taxonomy == labels
    np.testing.assert_array_equal(mapped.semantics, table[scene.semantics])
    np.testing.assert_array_equal(mapped.boxes.label, table[scene.boxes.label])
    free = mapped.semantics[scene.semantics == NATIVE.free]
    assert (free == TAXONOMIES[labels].free).all()


def test_free_is_17_in_occ3d_nuscenes_and_unknown_stays_255(make_scene):
    scene = make_scene(0)
    mapped = to_labels(scene, "occ3d-nuscenes").semantics
    assert set(mapped[scene.semantics == 0].tolist()) == {17}
    assert set(mapped[scene.semantics == 255].tolist()) == {255}


def test_native_leaves_a_scene_in_the_space_it_is_in(make_scene):
    scene = make_scene(0, labels="carlasc")
    assert to_labels(scene, "native") is scene
    assert to_labels(scene, "carlasc") is scene


def test_a_space_that_no_map_leads_to_is_refused(make_scene):
    with pytest.raises(InputError, match="no map leads from 'carlasc' to 'semantickitti'"):
        to_labels(make_scene(0, labels="carlasc"), "semantickitti")
    with pytest.raises(InputError, match="labels: found 'kitti'"):
        to_labels(make_scene(0), "kitti")


def test_the_same_grid_changes_nothing(make_scene):
    scene = make_scene(0)
    assert to_grid(scene, replace(scene.grid, frame_rate=10.0)) is scene


def test_a_finer_grid_repeats_voxels_and_keeps_instances_and_masks(make_scene):
    scene = make_scene(1, grid=COARSE, columns=("instances", "mask_lidar", "mask_camera"))
    finer = to_grid(scene, FINE)
    for name in ("semantics", "instances", "mask_lidar", "mask_camera"):
        repeated = getattr(scene, name).repeat(2, 1).repeat(2, 2).repeat(2, 3)
        np.testing.assert_array_equal(getattr(finer, name), repeated, err_msg=name)


def test_what_the_scene_does_not_cover_is_unknown_and_unseen(make_scene):
    scene = make_scene(1, grid=COARSE, columns=("instances", "mask_lidar"))
    wider = to_grid(scene, COARSE.padded((1, 2)))
    np.testing.assert_array_equal(wider.semantics[:, 1:-1, 2:-2], scene.semantics)
    outside = np.ones(wider.semantics.shape, bool)
    outside[:, 1:-1, 2:-2] = False
    assert (wider.semantics[outside] == 255).all()
    assert (wider.instances[outside] == 0).all()
    assert (wider.mask_lidar[outside] == 0).all()


def test_a_coarser_grid_keeps_a_lone_pole(make_scene):
    semantics = np.zeros((1, *FINE.shape), np.uint8)
    semantics[0, 3, 5, :] = NATIVE.id("pole")
    coarse = to_grid(make_scene(0, frames=1, grid=FINE, semantics=semantics), COARSE)
    expected = np.zeros((1, *COARSE.shape), np.uint8)
    expected[0, 1, 2, :] = NATIVE.id("pole")
    np.testing.assert_array_equal(coarse.semantics, expected)


@pytest.mark.parametrize("labels", list(TAXONOMIES))
def test_thin_things_survive_next_to_thick_ones_in_every_label_space(make_scene, labels):
    """One voxel of a pedestrian on seven of a wall; the space's own names decide."""
    space = TAXONOMIES[labels]
    wall = next(i for i, name in enumerate(space.classes) if name in ("building", "manmade"))
    walker = next(i for i, name in enumerate(space.classes) if name in ("pedestrian", "person"))
    semantics = np.full((1, *FINE.shape), wall, np.uint8)
    semantics[0, 1::2, 1::2, 1::2] = walker
    coarse = to_grid(make_scene(0, frames=1, grid=FINE, labels=labels, semantics=semantics), COARSE)
    assert (coarse.semantics == walker).all()


def test_thin_names_are_classes_of_some_label_space():
    assert {name for space in TAXONOMIES.values() for name in space.classes} >= THIN


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**20), free=st.floats(0, 0.9))
def test_a_coarser_voxel_is_the_documented_vote_of_its_eight(make_scene, seed, free):
    """Counted one by one: occupied beats free and unknown, thin the rest, then the most frequent, the lower id."""
    rng = np.random.default_rng(seed)
    semantics = rng.choice([1, 7, 12, 13, 25], (1, *FINE.shape), p=[0.4, 0.3, 0.1, 0.1, 0.1]).astype(np.uint8)
    semantics[rng.random(semantics.shape) < free] = 0
    semantics[rng.random(semantics.shape) < free] = 255
    coarse = to_grid(make_scene(0, frames=1, grid=FINE, semantics=semantics), COARSE).semantics[0]
    for index in np.ndindex(*COARSE.shape):
        x, y, z = (2 * i for i in index)
        votes = Counter(semantics[0, x : x + 2, y : y + 2, z : z + 2].reshape(-1).tolist())
        occupied = [(label < 12, -n, label) for label, n in votes.items() if label not in (0, 255)]
        expected = min(occupied)[2] if occupied else (0 if votes[0] > votes[255] else 255)
        assert coarse[index] == expected


@pytest.mark.parametrize(("free", "expected"), [(3, 255), (4, 255), (5, 0)])
def test_of_nothing_but_free_and_unknown_voxels_more_have_to_be_free(make_scene, free, expected):
    """In either order: eight voxels of which so many are free."""
    block = np.where(np.arange(8) < free, 0, 255).astype(np.uint8)
    for voxels in (block, block[::-1]):
        semantics = np.tile(voxels.reshape(2, 2, 2), (4, 4, 2))[None]
        coarse = to_grid(make_scene(0, frames=1, grid=FINE, semantics=semantics), COARSE)
        assert (coarse.semantics == expected).all()


@pytest.mark.parametrize("height", [0.375, 0.55, 1.1])
def test_grids_that_do_not_divide_each_other_look_at_the_centres_within_or_at_the_one_that_holds_them(
    make_scene, height
):
    """Every layer of the scene is of a class of its own, none of them thin: among equals the lowest id wins."""
    thick = [i for i, name in enumerate(NATIVE.classes) if i and name not in THIN]
    semantics = np.broadcast_to(np.array(thick[:4], np.uint8), (1, *FINE.shape))
    grid = GridSpec((4, 4, 3), (0.8, 0.4, height), (-1.6, -2.4, -1.0), 5.0)
    found = to_grid(make_scene(0, frames=1, grid=FINE, semantics=semantics.copy()), grid).semantics[0]
    for k in range(3):
        lower = -1.0 + k * height
        within = [i for i, z in enumerate(FINE.axis(2)) if lower <= z < lower + height]
        own = int(np.floor((lower + height / 2 + 0.8) / 0.4))
        looked_at = within or ([own] if 0 <= own < 4 else [])
        expected = thick[looked_at[0]] if looked_at else 255
        assert (found[:, 2:, k] == expected).all()
        assert (found[:, :2, k] == 255).all()  # beyond the scene


def test_instances_of_a_coarser_voxel_belong_to_its_class(make_scene):
    scene = make_scene(5, grid=FINE)
    scene = replace(scene, instances=scene.semantics.astype(np.uint16) * 7)
    coarse = to_grid(scene, COARSE)
    np.testing.assert_array_equal(coarse.instances, coarse.semantics.astype(np.uint16) * 7)


def test_a_world_fixed_scene_is_cut_into_ego_windows(make_scene):
    """A standing ego: the window is the scene itself, whichever the voxel size."""
    poses = np.tile(np.eye(4), (4, 1, 1))
    scene = anchored(make_scene(2, grid=FINE, poses=poses), FINE)
    assert scene.anchor == 2
    window = to_grid(scene, FINE)
    assert window.anchor is None
    np.testing.assert_array_equal(window.semantics, scene.semantics)
    ego = replace(scene, anchor=None)
    np.testing.assert_array_equal(to_grid(scene, COARSE).semantics, to_grid(ego, COARSE).semantics)


def test_windows_of_a_world_fixed_scene_follow_the_ego(make_scene):
    """The ego drives 0.4 m a frame: the window moves by a voxel a frame and runs out of the grid."""
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = 0.4 * np.arange(4)
    world = make_scene(2, grid=FINE, poses=poses, anchor=0)
    window = to_grid(world, FINE).semantics
    for t in range(4):
        np.testing.assert_array_equal(window[t, : 8 - t], world.semantics[t, t:])
        assert (window[t, 8 - t :] == 255).all()
