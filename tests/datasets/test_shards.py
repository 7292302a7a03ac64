"""Clips of a corpus as a torch data set."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dyncity.conditions import COMMANDS, trajectory_from_poses
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.datasets.shards import OccupancyShards
from dyncity.errors import InputError
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import label_map


@pytest.fixture(params=["parquet", "numpy"])
def corpus(request, make_scene, write_corpus, tmp_path):
    """Five scenes of 4 frames in three shards, and the scenes."""
    columns = ("mask_lidar", "instances")
    scenes = [make_scene(i, columns=columns) for i in range(5)]
    return write_corpus(tmp_path / "c", scenes, request.param, columns=columns), scenes


def test_whole_scenes_come_as_they_were_written(corpus):
    folder, scenes = corpus
    clips = OccupancyShards(folder)
    assert len(clips) == 5
    for item, scene in zip((clips[i] for i in range(5)), scenes, strict=True):
        assert item["semantics"].dtype == torch.uint8
        np.testing.assert_array_equal(item["semantics"], scene.semantics)
        np.testing.assert_array_equal(item["poses"], scene.poses)
        np.testing.assert_array_equal(item["trajectory"], trajectory_from_poses(scene.poses))
        np.testing.assert_array_equal(item["instances"], scene.instances)
        np.testing.assert_array_equal(item["mask_lidar"], scene.mask_lidar)
        assert COMMANDS[item["command"]] == scene.conditions.command
        assert (item["scene_id"], item["first_frame"]) == (scene.scene_id, 0)
        assert "mask_camera" not in item


def test_clips_start_every_stride_and_their_world_is_their_first_frame(corpus):
    folder, scenes = corpus
    clips = OccupancyShards(folder, frames=2, stride=1)
    assert len(clips) == 5 * 3
    item = clips[4]
    assert (item["scene_id"], item["first_frame"]) == ("scene-000001", 1)
    np.testing.assert_array_equal(item["semantics"], scenes[1].semantics[1:3])
    np.testing.assert_array_equal(item["poses"][0], np.eye(4))
    moved = np.linalg.inv(scenes[1].poses[1]) @ scenes[1].poses[2]
    np.testing.assert_allclose(item["poses"][1], moved, atol=1e-12)


def test_by_default_clips_do_not_overlap_and_short_scenes_give_none(make_scene, write_corpus, tmp_path):
    scenes = [make_scene(i, n) for i, n in enumerate((7, 2, 3))]
    clips = OccupancyShards(write_corpus(tmp_path / "c", scenes), frames=3)
    found = [(c["scene_id"], c["first_frame"]) for c in (clips[i] for i in range(len(clips)))]
    assert found == [("scene-000000", 0), ("scene-000000", 3), ("scene-000002", 0)]


def test_labels_are_mapped(corpus):
    folder, scenes = corpus
    item = OccupancyShards(open_corpus(folder), labels="semantickitti")[2]
    np.testing.assert_array_equal(item["semantics"], label_map("native", "semantickitti")[scenes[2].semantics])


# A spawned worker imports torch anew, seconds each: its pickling is tested by itself below.
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_two_workers_give_what_one_process_gives(corpus, start):
    folder, _ = corpus
    clips = OccupancyShards(folder, frames=2)
    clips[3]  # files are open before the workers start
    alone = list(DataLoader(clips, batch_size=4))
    together = list(DataLoader(clips, batch_size=4, num_workers=2, multiprocessing_context=start))
    assert [b["semantics"].shape for b in alone] == [(4, 2, 8, 6, 4), (4, 2, 8, 6, 4), (2, 2, 8, 6, 4)]
    for a, b in zip(alone, together, strict=True):
        assert a["scene_id"] == b["scene_id"]
        for name in ("semantics", "poses", "command", "instances", "trajectory"):
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_a_data_set_in_use_can_be_pickled(corpus):
    clips = OccupancyShards(corpus[0], frames=2)
    first = clips[3]
    again = pickle.loads(pickle.dumps(clips))
    torch.testing.assert_close(again[3]["semantics"], first["semantics"], rtol=0, atol=0)


def test_changing_an_item_changes_nothing_else(corpus):
    clips = OccupancyShards(corpus[0])
    clips[0]["semantics"].fill_(9)
    clips[0]["poses"].fill_(9)
    np.testing.assert_array_equal(clips[0]["semantics"], corpus[1][0].semantics)
    np.testing.assert_array_equal(clips[0]["poses"], corpus[1][0].poses)


def test_world_fixed_scenes_say_where_their_grid_is_and_are_not_cut(make_scene, write_corpus, tmp_path):
    scene = make_scene(0, anchor=2)
    folder = write_corpus(tmp_path / "c", [scene])
    item = OccupancyShards(folder)[0]
    np.testing.assert_array_equal(item["grid_poses"], np.broadcast_to(scene.poses[2], (4, 4, 4)))
    with pytest.raises(InputError, match="fixed to the world"):
        OccupancyShards(folder, frames=2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"frames": 5}, "no scene has 5 frames"),
        ({"frames": 0}, "frames: found 0"),
        ({"frames": 2, "stride": 0}, "stride: found 0"),
        ({"labels": "kitti"}, "labels: found 'kitti'"),
        ({"cached_bytes": 0}, "cached_bytes: found 0"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(corpus, arguments, text):
    with pytest.raises(InputError, match=text):
        OccupancyShards(corpus[0], **arguments)


def test_a_table_of_ones_own_maps_the_corpus_ids(corpus):
    folder, scenes = corpus
    occupied = np.ones(256, np.uint8)
    occupied[[0, 255]] = 0, 255
    item = OccupancyShards(folder, labels=occupied)[1]
    np.testing.assert_array_equal(item["semantics"], occupied[scenes[1].semantics])
    for wrong in (np.ones(29, np.uint8), np.ones(256, np.int64)):
        with pytest.raises(InputError, match="labels: found"):
            OccupancyShards(folder, labels=wrong)


def test_only_the_columns_asked_for_are_in_the_items(corpus):
    folder, scenes = corpus
    item = OccupancyShards(folder, columns=("mask_lidar",))[3]
    assert "instances" not in item
    np.testing.assert_array_equal(item["mask_lidar"], scenes[3].mask_lidar)
    with pytest.raises(InputError, match="has no 'mask_camera', it has mask_lidar, instances"):
        OccupancyShards(folder, columns=("mask_camera",))


def _seen_from_above(item):
    return {"top": item["semantics"].amax(dim=-1), "scene_id": item["scene_id"]}


def test_a_transform_makes_the_items_in_workers_too(corpus):
    folder, scenes = corpus
    clips = OccupancyShards(folder, transform=_seen_from_above)
    assert set(clips[0]) == {"top", "scene_id"}
    batches = list(DataLoader(clips, batch_size=5, num_workers=2, multiprocessing_context="fork"))
    np.testing.assert_array_equal(batches[0]["top"], np.stack([scene.semantics.max(axis=-1) for scene in scenes]))


def test_no_more_voxels_are_held_than_allowed(make_scene, write_corpus, tmp_path, monkeypatch):
    """Six groups of one scene; the scenes alive while a group is decoded, and that group, fit into what is allowed."""
    folder = write_corpus(tmp_path / "c", [make_scene(i) for i in range(6)], per_shard=1)
    group = 4 * 8 * 6 * 4
    read, alive = Corpus.scenes_of_group, []
    others = {id(s): s for s in gc.get_objects() if type(s) is OccupancyScene}  # what other tests still hold

    def watched(self, scene_id):
        scenes = [s for s in gc.get_objects() if type(s) is OccupancyScene and id(s) not in others]
        alive.append(sum(scene.semantics.nbytes for scene in scenes))
        return read(self, scene_id)

    monkeypatch.setattr(Corpus, "scenes_of_group", watched)
    clips = OccupancyShards(folder, frames=1, cached_bytes=3 * group)
    for number in range(24):
        clips[number]
    assert alive == [0, group, 2 * group, 2 * group, 2 * group, 2 * group]
    for number in (23, 19, 15):  # the last three groups are at hand
        clips[number]
    assert len(alive) == 6
    clips[0]  # in the place of the one that was used longest ago
    clips[15]
    assert len(alive) == 7
    clips[23]
    assert len(alive) == 8
    small = OccupancyShards(folder, cached_bytes=1)  # a group larger than allowed is held alone
    del clips
    for number in (0, 0, 1, 0):
        small[number]
    assert alive[8:] == [0, 0, 0]


def test_groups_and_their_bytes_are_known_without_decoding(corpus):
    clips = OccupancyShards(corpus[0], frames=2)
    groups, sizes = clips.clip_groups()
    scene = 4 * 8 * 6 * 4 * (1 + 1 + 2)
    parquet = corpus[0].joinpath("shards", "00000.parquet").exists()
    assert groups.tolist() == ([0, 0, 0, 0, 1, 1, 1, 1, 2, 2] if parquet else [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    assert sizes.tolist() == ([2 * scene, 2 * scene, scene] if parquet else [scene] * 5)
