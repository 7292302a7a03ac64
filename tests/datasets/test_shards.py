"""Clips of a corpus as a torch data set."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dyncity.conditions import COMMANDS, trajectory_from_poses
from dyncity.datasets.corpus import open_corpus
from dyncity.datasets.shards import OccupancyShards
from dyncity.errors import InputError
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
    ],
)
def test_what_cannot_be_served_is_refused_at_once(corpus, arguments, text):
    with pytest.raises(InputError, match=text):
        OccupancyShards(corpus[0], **arguments)
