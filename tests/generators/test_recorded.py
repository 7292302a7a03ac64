"""RecordedLogs: recorded logs as a source of scenes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from argoverse2_log import Car, Drive

from dyncity.errors import InputError
from dyncity.presets import preset
from dyncity.scene import SceneSpec
from generators.recorded import RecordedLogs

TINY = preset("tiny")


def write_two(source: Path) -> Path:
    Drive(name="bbb", cars=[Car(10, 3)]).write(source)
    Drive(name="aaa", frames=13, cars=[Car(12, -3, speed=5.0)]).write(source)
    return source


def test_a_folder_of_logs_is_one_scene_a_log_sorted_by_id(tmp_path: Path) -> None:
    logs = RecordedLogs(write_two(tmp_path), TINY)
    assert (logs.name, logs.scenes, logs.micro_batch) == ("argoverse2", 2, 1)
    scenes = [logs.generate([SceneSpec(i, 0)])[0] for i in (0, 1)]
    assert [s.scene_id for s in scenes] == ["aaa", "bbb"]
    assert [s.frames for s in scenes] == [7, 6]
    assert scenes[0].grid == TINY.grid
    assert scenes[0].taxonomy == "native"
    assert scenes[0].conditions.command == "forward"
    assert scenes[0].conditions.trajectory.shape == (7, 3)
    assert scenes[0].provenance["log"] == "aaa"
    assert scenes[0].provenance["city"] == "PIT"
    assert "CC BY-NC-SA 4.0" in scenes[0].provenance["licence"]


def test_one_log_and_the_splits_of_the_data_set_are_sources_too(tmp_path: Path) -> None:
    for split, name in (("train", "ccc"), ("val", "aaa"), ("train", "bbb")):
        Drive(name=name, cars=[Car(10, 3)]).write(tmp_path / split)
    (tmp_path / "LICENSE").write_text("not a log")
    logs = RecordedLogs(tmp_path, TINY)
    assert [s.scene_id for s in logs.generate([SceneSpec(i, 0) for i in range(3)])] == ["aaa", "bbb", "ccc"]
    assert RecordedLogs(tmp_path / "val" / "aaa", TINY).scenes == 1


def test_logs_cut_into_pieces_lose_no_frame(tmp_path: Path) -> None:
    source = write_two(tmp_path)
    whole, pieces = RecordedLogs(source, TINY), RecordedLogs(source, TINY, frames=3)
    assert pieces.scenes == 3 + 2
    scenes = pieces.generate([SceneSpec(i, 0) for i in range(5)])
    assert [s.scene_id for s in scenes] == ["aaa-000", "aaa-001", "aaa-002", "bbb-000", "bbb-001"]
    assert [s.frames for s in scenes] == [3, 3, 1, 3, 3]
    together = np.concatenate([s.semantics for s in scenes[:3]])
    np.testing.assert_array_equal(together, whole.generate([SceneSpec(0, 0)])[0].semantics)


def test_a_scene_depends_on_its_index_alone(tmp_path: Path) -> None:
    """Not on the seed, the order, or what was read before: workers share nothing."""
    source = write_two(tmp_path)
    one, other = RecordedLogs(source, TINY, frames=3), RecordedLogs(source, TINY, frames=3)
    forward = [one.generate([SceneSpec(i, 7)])[0] for i in range(5)]
    backward = [other.generate([SceneSpec(i, 0)])[0] for i in reversed(range(5))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert a.semantics.tobytes() == b.semantics.tobytes()
        assert a.instances.tobytes() == b.instances.tobytes()
        assert a.poses.tobytes() == b.poses.tobytes()


def test_the_fingerprint_tells_sources_and_cuts_apart(tmp_path: Path) -> None:
    source = write_two(tmp_path)
    prints = [
        RecordedLogs(source, TINY).fingerprint(),
        RecordedLogs(source, TINY, frames=3).fingerprint(),
        RecordedLogs(source / "aaa", TINY).fingerprint(),
    ]
    assert prints[0] == RecordedLogs(source, TINY).fingerprint()
    sweep = next((source / "aaa").rglob("annotations.feather"))
    sweep.write_bytes(sweep.read_bytes() + b"x")
    prints.append(RecordedLogs(source, TINY).fingerprint())
    assert len({tuple(sorted(p.items())) for p in prints}) == 4


def test_sources_without_logs_are_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "pictures").mkdir(parents=True)
    (tmp_path / "file.txt").write_text("")
    for name in ("missing", "empty", "other", "file.txt"):
        with pytest.raises(InputError) as caught:
            RecordedLogs(tmp_path / name, TINY)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_a_log_without_annotations_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (write_two(tmp_path) / "bbb" / "annotations.feather").unlink()
    with pytest.raises(InputError, match=r"bbb.*test split"):
        RecordedLogs(tmp_path, TINY)


def test_the_same_log_in_two_splits_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        Drive(name="aaa", cars=[Car(10, 3)]).write(tmp_path / split)
    with pytest.raises(InputError, match="keep one"):
        RecordedLogs(tmp_path, TINY)


def test_check_finds_the_damaged_log_without_making_a_scene(tmp_path: Path) -> None:
    logs = RecordedLogs(write_two(tmp_path), TINY)
    logs.check()
    (tmp_path / "bbb" / "city_SE3_egovehicle.feather").write_bytes(b"ARROW1")
    with pytest.raises(InputError, match="bbb/city_SE3_egovehicle"):
        logs.check()


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    source = write_two(tmp_path)
    with pytest.raises(InputError, match="--frames"):
        RecordedLogs(source, TINY, frames=0)
    with pytest.raises(InputError, match="--num-scenes"):
        RecordedLogs(source, TINY).generate([SceneSpec(2, 0)])
    odd = dataclasses.replace(TINY, grid=dataclasses.replace(TINY.grid, frame_rate=3.0))
    with pytest.raises(InputError, match=r"^grid\.frame_rate"):
        RecordedLogs(source, odd)
