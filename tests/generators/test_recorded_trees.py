"""RecordedTrees: from a corpus to a tree and back, for the four data sets, and what a source of scenes promises."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from native_trees import write_tree
from street_scene import street

from dyncity.conditions import poses_from_trajectory
from dyncity.datasets.semantickitti import LEARNING_MAP
from dyncity.errors import InputError
from dyncity.presets import preset
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.taxonomy import taxonomy
from generators.procedural.city import ProceduralCity
from generators.recorded_trees import TREES, RecordedTrees

KINDS = tuple(TREES)
# Where labels lie in the trees, one file a frame, sorted by time.
LABEL_FILES = {
    "semantickitti": "dataset/sequences/*/voxels/*.label",
    "occ3d-nuscenes": "gts/*/*/labels.npz",
    "occ3d-waymo": "training/*/*.npz",
    "carlasc": "Cartesian/*/*/cartesian/evaluation/*.label",
}


def all_scenes(trees: RecordedTrees) -> list[OccupancyScene]:
    return trees.generate([SceneSpec(i, 0) for i in range(trees.scenes)])


@cache
def city() -> OccupancyScene:
    """Two frames of the procedural city, half of its window, that climb and turn by themselves."""
    (scene,) = ProceduralCity(preset("tiny")).generate([SceneSpec(2, 5)])
    poses = poses_from_trajectory(np.array([[0.0, 0.0, 0.0], [3.1, 0.4, 0.2]]))
    tilt = np.deg2rad(3)
    poses[1, :3, :3] = poses[1, :3, :3] @ [
        [np.cos(tilt), 0, np.sin(tilt)],
        [0, 1, 0],
        [-np.sin(tilt), 0, np.cos(tilt)],
    ]
    poses[1, 2, 3] = 0.25
    return dataclasses.replace(
        scene,
        semantics=scene.semantics[:2],
        poses=poses,
        timestamps_us=np.array([0, 200_000]),
        instances=None,
        boxes=None,
    )


def native(kind: str) -> list[OccupancyScene]:
    """The street where vehicles move and objects are ignored, and the city."""
    return [street(frames=2)] if kind.startswith("occ3d") else [street(frames=2), city()]


def labelled(kind: str) -> OccupancyScene:
    """A scene on the data set's own grid and in its labels: a ground, random boxes, unknown where unseen."""
    rng = np.random.default_rng(7)
    grid = preset(kind).grid
    space = taxonomy(kind)
    semantics = np.full((2, *grid.shape), space.free, np.uint8)
    semantics[..., 4] = rng.integers(0, len(space), (2, *grid.shape[:2]))
    for label in range(len(space)):
        x, y = rng.integers(10, np.array(grid.shape[:2]) - 10)
        semantics[:, x : x + 6, y : y + 6, 2:7] = label
    seen = (rng.random(semantics.shape) < 0.7).astype(np.uint8)
    camera = None
    if kind.startswith("occ3d"):
        camera = seen & (rng.random(semantics.shape) < 0.5)
    else:
        semantics[seen == 0] = UNKNOWN
    if kind == "semantickitti":  # observed, and of none of the classes
        semantics[:, 100:103, 100:103, 10] = UNKNOWN
        seen[:, 100:103, 100:103, 10] = 1
    return OccupancyScene(
        scene_id="labelled",
        semantics=semantics,
        poses=city().poses,
        grid=grid,
        taxonomy=kind,
        timestamps_us=1_500_000_000_000_000 + np.arange(2, dtype=np.int64) * round(1e6 / grid.frame_rate),
        mask_lidar=seen,
        mask_camera=camera,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_in_the_data_sets_own_grid_and_labels_comes_back_exactly(tmp_path: Path, kind: str) -> None:
    scene = labelled(kind)
    tree = write_tree(kind, tmp_path / "a", [scene])
    source = RecordedTrees(kind, tree)
    source.check()
    (back,) = all_scenes(source)
    assert (back.grid, back.taxonomy, back.anchor) == (scene.grid, kind, None)
    np.testing.assert_array_equal(back.semantics, scene.semantics)
    for name in ("mask_lidar", "mask_camera"):
        wanted, found = getattr(scene, name), getattr(back, name)
        assert (found is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(back.poses, scene.poses, atol=1e-6)
    assert np.diff(back.timestamps_us).tolist() == np.diff(scene.timestamps_us).tolist()
    again = write_tree(kind, tmp_path / "b", [back])
    first, second = (sorted(folder.glob(LABEL_FILES[kind])) for folder in (tree, again))
    assert len(first) == 2
    if kind == "occ3d-nuscenes":  # a token is the digest of a scene's name: folders sort otherwise
        first, second = ([p.read_bytes() for p in paths] for paths in (first, second))
        assert sorted(first) == sorted(second)
    else:
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_of_native_scenes_is_read_as_the_data_sets_readers_read_it_and_stays_so(
    tmp_path: Path, kind: str
) -> None:
    scenes = native(kind)
    tree = write_tree(kind, tmp_path / "a", scenes)
    back = all_scenes(RecordedTrees(kind, tree))
    assert len(back) == len(scenes)
    again = all_scenes(RecordedTrees(kind, write_tree(kind, tmp_path / "b", back)))
    for scene, once, twice in zip(scenes, back, again, strict=True):
        np.testing.assert_allclose(once.poses, scene.poses, atol=1e-6)
        np.testing.assert_allclose(twice.poses, once.poses, atol=1e-6)
        np.testing.assert_array_equal(twice.semantics, once.semantics)
        np.testing.assert_array_equal(twice.mask_lidar, once.mask_lidar)
        if once.mask_camera is not None:
            np.testing.assert_array_equal(twice.mask_camera, once.mask_camera)
        seen = once.semantics[once.mask_lidar == 1]
        assert len(np.unique(seen)) > 4
        if kind in ("semantickitti", "carlasc"):
            assert (once.semantics[once.mask_lidar == 0] == UNKNOWN).all()


def test_raw_ids_of_what_moves_and_what_is_ignored_become_classes_and_unknown(tmp_path: Path) -> None:
    tree = write_tree("semantickitti", tmp_path / "a", [street(frames=2)])
    raw = np.fromfile(tree / "dataset/sequences/00/voxels/000001.label", "<u2").reshape(256, 256, 32)
    bits = np.fromfile(tree / "dataset/sequences/00/voxels/000001.invalid", np.uint8)
    invalid = np.unpackbits(bits).reshape(raw.shape).astype(bool)
    (scene,) = all_scenes(RecordedTrees("semantickitti", tree))
    assert 252 in raw
    for value in np.unique(raw):
        assert set(scene.semantics[1][(raw == value) & ~invalid]) <= {LEARNING_MAP[int(value)]}
    assert (scene.semantics[1][invalid] == UNKNOWN).all()


def test_frames_of_every_fifth_scan_take_the_poses_and_times_of_their_scans(tmp_path: Path) -> None:
    """As in the data set itself: voxels 000000, 000005, 000010, and a pose for each of 13 scans."""
    scene = city()
    one = dataclasses.replace(
        scene, semantics=scene.semantics[:1], poses=scene.poses[:1], timestamps_us=np.zeros(1, int)
    )
    sequence = write_tree("semantickitti", tmp_path / "a", [one]) / "dataset/sequences/00"
    for ending in ("label", "invalid"):
        for number in (5, 10):
            data = (sequence / f"voxels/000000.{ending}").read_bytes()
            (sequence / f"voxels/{number:06d}.{ending}").write_bytes(data)
    row = (sequence / "poses.txt").read_text().split()
    rows = [[*row[:11], f"{0.7 * scan:.6f}"] for scan in range(13)]  # camera z is ahead
    (sequence / "poses.txt").write_text("".join(" ".join(words) + "\n" for words in rows))
    (sequence / "times.txt").write_text("".join(f"{0.1037 * scan:.6e}\n" for scan in range(13)))
    source = RecordedTrees("semantickitti", tmp_path / "a")
    source.check()
    (drive,) = all_scenes(source)
    assert drive.frames == 3
    assert drive.poses[:, :3, 3] == pytest.approx(np.array([[0, 0, 0], [3.5, 0, 0], [7.0, 0, 0]]))
    assert drive.timestamps_us.tolist() == [0, 518_500, 1_037_000]
    assert source.config.grid.frame_rate == 2.0


def test_pieces_of_a_drive_lose_no_frame_and_begin_at_the_identity(tmp_path: Path) -> None:
    tree = write_tree("carlasc", tmp_path / "a", [street("a", frames=3), street("b", frames=1)])
    whole, pieces = RecordedTrees("carlasc", tree), RecordedTrees("carlasc", tree, frames=2)
    assert [s.scene_id for s in all_scenes(whole)] == ["Train-Town0001", "Test-Town0002"]
    cut = all_scenes(pieces)
    assert [s.scene_id for s in cut] == ["Train-Town0001-000", "Train-Town0001-001", "Test-Town0002-000"]
    assert [s.frames for s in cut] == [2, 1, 1]
    assert (cut[1].poses[0] == np.eye(4)).all()
    drive = all_scenes(whole)[0]
    np.testing.assert_array_equal(np.concatenate([s.semantics for s in cut[:2]]), drive.semantics)
    assert whole.config.grid.frame_rate == 2.0
    assert drive.provenance["licence"] == "unknown"
    assert drive.conditions.command == "forward"
    prints = [source.fingerprint() for source in (whole, RecordedTrees("carlasc", tree), pieces)]
    assert prints[0] == prints[1] != prints[2]


def test_every_folder_of_a_tree_is_a_source(tmp_path: Path) -> None:
    scenes = [dataclasses.replace(street(str(i), frames=1), instances=None, boxes=None) for i in range(2)]
    kitti = write_tree("semantickitti", tmp_path / "kitti", scenes)
    for below in (".", "dataset", "dataset/sequences"):
        assert [s.name for s in RecordedTrees("semantickitti", kitti / below)._drives] == ["00", "08"]
    assert RecordedTrees("semantickitti", kitti / "dataset/sequences/08").scenes == 1
    (tmp_path / "parts").mkdir()
    for part in ("part-000", "part-001"):
        (tmp_path / "parts" / part).symlink_to(kitti)
    assert RecordedTrees("semantickitti", tmp_path / "parts").generate([SceneSpec(3, 0)])[0].scene_id == "part-001-08"
    carla = write_tree("carlasc", tmp_path / "carla", scenes)
    for below, count in ((".", 2), ("Cartesian", 2), ("Cartesian/Train", 1), ("Cartesian/Train/Town0001", 1)):
        assert RecordedTrees("carlasc", carla / below).scenes == count


def test_options_out_of_range_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = write_tree("carlasc", tmp_path / "a", [street(frames=2)])
    with pytest.raises(InputError, match="--frames"):
        RecordedTrees("carlasc", tree, frames=0)
    with pytest.raises(InputError, match="--num-scenes"):
        RecordedTrees("carlasc", tree).generate([SceneSpec(1, 0)])
    monkeypatch.setattr("generators.recorded_trees.MAX_SCENE_BYTES", 3 * 128 * 128 * 8)
    with pytest.raises(InputError, match=r"--frames: Train-Town0001 has 2, a scene at most 1; give 1 or fewer"):
        RecordedTrees("carlasc", tree)
    assert RecordedTrees("carlasc", tree, frames=1).scenes == 2


def test_the_fingerprint_knows_what_the_files_hold_wherever_they_lie(tmp_path: Path) -> None:
    first, second = (write_tree("semantickitti", tmp_path / name, [street()]) for name in ("first", "second"))
    known = RecordedTrees("semantickitti", first)
    assert known.fingerprint() == RecordedTrees("semantickitti", second).fingerprint()
    label = next(second.rglob("voxels/000001.label"))
    data = bytearray(label.read_bytes())
    data[0] ^= 40
    label.write_bytes(data)
    assert known.fingerprint() != RecordedTrees("semantickitti", second).fingerprint()
    told = RecordedTrees("semantickitti", second, content=known.content)  # as workers are: they read nothing for it
    assert told.fingerprint() == known.fingerprint()
