"""The Python blocks of the documentation run as they stand, on small corpora and trees."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from documented_code import python_blocks, run_section

from dyncity.datasets.corpus import open_corpus
from dyncity.taxonomy import label_map
from exporters.semantickitti_ids import raw_table
from exporters.trees import export_tree

PAGE = "docs/use-in-training.md"
RUN_HERE = {
    "OccupancyShards with a DataLoader",
    "Real and synthetic clips, equally many",
    "What it is worth, at equal budgets",
    "RGB-D trees",
    "Depth images and point maps",
    "Hugging Face datasets",
    "pyarrow",
    "numpy",
    "SemanticKITTI trees: semantic-kitti-api",
    "SemanticKITTI trees: torch",
    "SemanticKITTI trees: mmdetection3d",
    "Occ3D trees",
}
# The keys of labels_map in its configs/_base_/datasets/semantickitti.py, release 1.4.0.
MMDETECTION3D_IDS = {
    0, 1, 10, 11, 13, 15, 16, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 52, 60, 70, 71, 72, 80, 81, 99,
    252, 253, 254, 255, 256, 257, 258, 259,
}  # fmt: skip
RUN_WITH_RAY = {"Ray Data"}  # tests/e2e/test_documented_ray.py


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(make_scene, write_corpus, here):
    """Four generated scenes in both containers, and three recorded ones."""
    scenes = [make_scene(i) for i in range(4)]
    write_corpus(here / "corpus", scenes)
    write_corpus(here / "corpus-npz", scenes, "numpy")
    write_corpus(here / "recorded", [make_scene(50 + i, 5) for i in range(3)])
    return here


@pytest.fixture
def hugging_face(monkeypatch, tmp_path):
    """The library, without a network and with its caches in a folder of the test; skips where it is not installed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging-face"))
    # Not "datasets" alone: tests/datasets is importable by that name where the library is missing.
    config = pytest.importorskip("datasets.config", reason="Hugging Face datasets is not installed")
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "hugging-face")


@pytest.fixture
def trees(make_scene, write_corpus, here):
    """Two scenes of one frame, as SemanticKITTI and Occ3D trees."""
    columns = ("mask_lidar", "mask_camera")
    corpus = write_corpus(here / "corpus", [make_scene(i, 1, columns=columns) for i in range(2)], columns=columns)
    export_tree(corpus, "semantickitti", here / "kitti")
    export_tree(corpus, "occ3d-nuscenes", here / "occ3d")
    return here


def scenes_of(folder: Path) -> dict[str, np.ndarray]:
    return {scene.scene_id: scene.semantics for scene in open_corpus(folder).scenes()}


def test_every_block_of_the_page_is_run():
    assert set(python_blocks(PAGE)) == RUN_HERE | RUN_WITH_RAY


def test_occupancy_shards(folder):
    names = run_section(PAGE, "OccupancyShards with a DataLoader")
    assert names["semantics"].shape == (2, 4, 8, 6, 4)
    table = label_map("native", "semantickitti")
    scenes = scenes_of(folder / "corpus")
    for scene_id, semantics in zip(names["batch"]["scene_id"], names["semantics"], strict=True):
        np.testing.assert_array_equal(semantics, table[scenes[scene_id]])


def test_real_and_synthetic_clips(folder):
    torch.manual_seed(0)
    names = run_section(PAGE, "Real and synthetic clips, equally many")
    assert (len(names["real"]), len(names["sampler"])) == (3, 6)
    numbers = np.array(list(names["sampler"]))
    assert ((numbers < 3).reshape(3, 2).sum(axis=1) == 1).all()  # each batch has one of each
    assert torch.isfinite(names["loss"])


def test_equal_budgets(folder, make_scene, write_corpus):
    write_corpus(folder / "held-out", [make_scene(80 + i) for i in range(2)])
    names = run_section(PAGE, "What it is worth, at equal budgets")
    assert np.shape(names["rows"]) == (3, 2)
    assert np.isfinite(names["rows"]).all()
    again = names["miou"](names["trained"]([names["real"]], 1), names["held_out"])
    assert again == names["rows"][1][0]  # a run is its corpora and its seed


def test_rgbd_trees(folder):
    export_tree(folder / "corpus", "rgbd", folder / "views")
    names, scene = run_section(PAGE, "RGB-D trees"), next(iter(open_corpus(folder / "corpus").scenes()))
    points, classes = names["points"], names["classes"]
    assert len(points) == len(classes) > 1000
    # Nudged away from the first camera, points are in voxels of their class, but for those at a voxel's edge.
    index, inside = scene.grid.index(
        points + 0.01 * (points - [1.7, 0, 1.51]) / np.linalg.norm(points, axis=1)[:, None]
    )
    found = scene.semantics[0][tuple(index[inside].T)]
    assert (found == classes[inside]).mean() > 0.8


def test_depth_images_and_point_maps(folder):
    names = run_section(PAGE, "Depth images and point maps")
    scene, views = names["scene"], names["views"]
    assert len(views) == 6 * scene.frames
    for images, points in views.values():
        assert images.depth.shape == (112, 200)
        assert points.shape == (112, 200, 3)
        np.testing.assert_array_equal(np.isfinite(points).all(axis=-1), np.isfinite(images.depth))
    assert any(np.isfinite(images.depth).any() for images, _ in views.values())


def test_hugging_face_datasets(folder, hugging_face):
    names = run_section(PAGE, "Hugging Face datasets")
    scenes = scenes_of(folder / "corpus")
    assert names["scene_ids"] == set(scenes)
    np.testing.assert_array_equal(names["first"], scenes["scene-000000"][0])
    assert len(names["frames"]) == 16


def test_pyarrow(folder):
    found = run_section(PAGE, "pyarrow")["scenes"]
    scenes = scenes_of(folder / "corpus")
    assert list(found) == ["scene-000000", "scene-000001"]
    for scene_id, frames in found.items():
        np.testing.assert_array_equal(frames, scenes[scene_id])


def test_numpy(folder):
    names = run_section(PAGE, "numpy")
    np.testing.assert_array_equal(names["semantics"], scenes_of(folder / "corpus")["scene-000003"])
    assert names["grid"]["shape"] == [8, 6, 4]


def test_semantic_kitti_in_torch(trees):
    frames = run_section(PAGE, "SemanticKITTI trees: torch")["frames"]
    assert len(frames) == 2
    target = frames[1]["target"]
    assert set(np.unique(target)) <= {*range(20), 255}
    assert ((target != 255) & (target != 0)).sum() > 100


def test_the_semantic_kitti_api_gives_the_same_voxels(trees):
    pytest.importorskip("auxiliary.SSCDataset", reason="semantic-kitti-api is not installed")
    expected = run_section(PAGE, "SemanticKITTI trees: torch")["frames"][1]
    names = run_section(PAGE, "SemanticKITTI trees: semantic-kitti-api")
    assert (names["sequence"], names["name"]) == ("08", "000000")
    np.testing.assert_array_equal(names["target"], expected["target"])
    np.testing.assert_array_equal(names["scan"], expected["scan"])


def test_the_configuration_of_mmdetection3d_leads_to_files_that_are_there(trees):
    names = run_section(PAGE, "SemanticKITTI trees: mmdetection3d")
    for split, sequence in (("train", "00"), ("val", "08")):
        dataset = names[f"{split}_dataloader"]["dataset"]
        root = trees / dataset["data_root"]
        infos = pickle.loads((root / dataset["ann_file"]).read_bytes())["data_list"]
        assert [info["sample_id"] for info in infos] == [f"{sequence}000000"]
        points = np.fromfile(root / infos[0]["lidar_points"]["lidar_path"], "<f4").reshape(-1, 4)
        labels = np.fromfile(root / infos[0]["pts_semantic_mask_path"], "<u4") & 0xFFFF
        assert len(points) == len(labels) > 0
        assert set(labels.tolist()) <= MMDETECTION3D_IDS
    for labels in ("native", "semantickitti"):
        assert {int(raw) for table in raw_table(labels) for raw in table} <= MMDETECTION3D_IDS


def test_occ3d(trees):
    names = run_section(PAGE, "Occ3D trees")
    batch, target = names["batch"], names["target"]
    assert {name: (values.dtype, tuple(values.shape)) for name, values in batch.items()} == dict.fromkeys(
        ("voxel_semantics", "mask_lidar", "mask_camera"), (torch.uint8, (1, 200, 200, 16))
    )
    seen = batch["mask_camera"] == 1
    assert seen.any()
    torch.testing.assert_close(target[seen], batch["voxel_semantics"][seen].long(), rtol=0, atol=0)
    assert (target[~seen] == 255).all()


@pytest.mark.parametrize("heading", ["Parquet", "As a torch data set"])
def test_the_page_on_the_format(heading, make_scene, write_corpus, here):
    write_corpus(here / "corpus", [make_scene(i, 8) for i in range(4)])
    names = run_section("docs/corpus-format.md", heading)
    if heading == "Parquet":
        np.testing.assert_array_equal(names["semantics"], scenes_of(here / "corpus")["scene-000001"][-1])
    else:
        assert next(iter(names["loader"]))["semantics"].shape == (4, 8, 8, 6, 4)


def test_the_readme(make_scene, write_corpus, here, hugging_face):
    write_corpus(here / "first-corpus", [make_scene(0, 8)])
    names = run_section("README.md", "Reading the shards")
    assert names["table"].num_rows == names["frames"]["train"].num_rows == 8
    assert len(names["clips"]) == 1
