"""Committing shards: all or nothing, once, by one writer."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dyncity.datasets.corpus import FailedScene, Manifest, read_manifest
from dyncity.datasets.manifest import EMPTY_DIGEST, MAX_MANIFEST_BYTES, ShardRecord
from dyncity.errors import InputError
from exporters.manifest import (
    RunLock,
    commit_shard,
    sweep_leftovers,
    verify_corpus,
    write_file,
    write_manifest,
)
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter
from generators.shard_worker import reason

EXPORTERS = [ParquetExporter, NumpyExporter]


def everything(folder: Path) -> dict[str, bytes]:
    """All files below a folder and their bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_shard_committed_twice_is_the_same_shard(make_scene, tmp_path, exporter):
    scenes = [make_scene(i, frames=2 + i) for i in range(3)]
    first = commit_shard(tmp_path, 4, scenes, [], exporter(), 12)
    files = everything(tmp_path)
    assert commit_shard(tmp_path, 4, iter(scenes), [], exporter(), 12) == first
    assert everything(tmp_path) == files
    assert (first.first_scene, first.scenes, first.frames, first.end) == (12, 3, 9, 15)
    assert first.bytes == sum(map(len, files.values()))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_two_that_commit_a_shard_at_the_same_time_commit_the_same(make_scene, tmp_path, monkeypatch, exporter):
    scenes = [make_scene(0)]
    first = commit_shard(tmp_path, 0, scenes, [], exporter(), 0)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # as it was before the other one had come
    files = everything(tmp_path)
    assert commit_shard(tmp_path, 0, scenes, [], exporter(), 0) == first
    assert everything(tmp_path) == files
    if exporter is NumpyExporter:  # the rename of a file replaces what is there
        with pytest.raises(InputError, match="is there already with other bytes"):
            commit_shard(tmp_path, 0, [make_scene(1)], [], exporter(), 0)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_other_bytes_under_the_same_name_are_refused(make_scene, tmp_path, exporter):
    commit_shard(tmp_path, 0, [make_scene(0)], [], exporter(), 0)
    files = everything(tmp_path)
    for scenes in ([make_scene(1)], []):
        with pytest.raises(InputError, match="is there already with other bytes"):
            commit_shard(tmp_path, 0, scenes, [], exporter(), 0)
        assert everything(tmp_path) == files


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_scenes_may_come_one_by_one_and_fail_on_the_way(make_scene, tmp_path, exporter):
    """Failures that the generator of scenes appends are recorded, in order."""
    failures: list[FailedScene] = []

    def scenes():
        for i in range(5):
            if i % 2:
                failures.insert(0, FailedScene(10 + i, 7, "odd"))
            else:
                yield make_scene(i)

    record = commit_shard(tmp_path, 2, scenes(), failures, exporter(), 10)
    assert (record.scenes, record.end) == (3, 15)
    assert [f.index for f in record.failures] == [11, 13]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_shard_without_scenes_has_a_record_and_no_file(tmp_path, exporter):
    failed = FailedScene(0, 0, "no road")
    record = commit_shard(tmp_path, 0, [], [failed], exporter(), 0)
    assert (record.scenes, record.bytes, record.failures) == (0, 0, (failed,))
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_nothing_is_left_of_a_shard_that_fails_half_way(make_scene, tmp_path, exporter):
    def scenes():
        yield make_scene(0)
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="device"):
        commit_shard(tmp_path, 0, scenes(), [], exporter(), 0)
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scene_id": "../evil"}, "cannot be a file name"),
        ({"scene_id": "scene-000000"}, "given twice"),
        ({"labels": "carlasc"}, "differs from that of the scenes before"),
        ({"anchor": 1}, "differs from that of the scenes before"),
        ({"provenance": {"x": "y" * 70_000}}, "provenance is longer"),
    ],
)
def test_scenes_that_cannot_share_a_shard_are_refused(make_scene, tmp_path, exporter, change, text):
    with pytest.raises(InputError, match=text):
        commit_shard(tmp_path, 0, [make_scene(0), make_scene(1, **change)], [], exporter(), 0)
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_column_that_a_scene_lacks_is_refused(make_scene, tmp_path, exporter):
    with pytest.raises(InputError, match="it has no mask_lidar"):
        commit_shard(tmp_path, 0, [make_scene(0)], [], exporter(columns=("mask_lidar",)), 0)
    with pytest.raises(InputError, match="columns: found 'flow'"):
        exporter(columns=("flow",))
    with pytest.raises(InputError, match="labels: found 'kitti'"):
        exporter(labels="kitti")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_disk_that_refuses_more_bytes_leaves_nothing(make_scene, tmp_path, exporter):
    """A real refusal of the kernel, in the middle of the file: a limit on file sizes."""
    rng = np.random.default_rng(0)
    scenes = [make_scene(i, semantics=rng.integers(0, 20, (4, 8, 6, 4), dtype=np.uint8)) for i in range(20)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"0000.*cannot be written .*File too large"):
            commit_shard(tmp_path, 0, scenes, [], exporter(), 0)
        with pytest.raises(InputError, match=r"manifest\.json.*cannot be written"):
            write_manifest(tmp_path, Manifest({"num_scenes": 1, "x": "y" * 2000}, "0", ()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert everything(tmp_path) == {}


def test_a_folder_without_permission_is_one_line(make_scene, tmp_path):
    user = os.geteuid()
    tmp_path.chmod(0o555)
    if user == 0:
        os.seteuid(65534)  # root may write anywhere
    try:
        with pytest.raises(InputError, match="choose a folder that you may write to"):
            commit_shard(tmp_path, 0, [make_scene(0)], [], ParquetExporter(), 0)
        with pytest.raises(InputError, match="choose a folder that you may write to"), RunLock(tmp_path):
            pass
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)


def test_a_reader_never_sees_half_a_manifest(make_scene, write_corpus, tmp_path):
    """A writer process rewrites the manifest without end while this one reads it."""
    folder = write_corpus(tmp_path / "c", [make_scene(i) for i in range(4)])
    manifest = read_manifest(folder)
    writer = multiprocessing.get_context("fork").Process(target=_rewrite, args=(folder, manifest), daemon=True)
    writer.start()
    for _ in range(100):
        assert read_manifest(folder).shards == manifest.shards
    writer.kill()
    writer.join()
    sweep_leftovers(folder)
    assert verify_corpus(folder) == []


def _rewrite(folder, manifest):
    while True:
        write_manifest(folder, manifest)


def test_records_are_written_in_order_and_read_back(make_scene, tmp_path):
    records = [commit_shard(tmp_path, n, [make_scene(n)], [], ParquetExporter(), n) for n in (2, 0, 1)]
    write_manifest(tmp_path, Manifest({"num_scenes": 4}, "f", tuple(records)))
    manifest = read_manifest(tmp_path)
    assert [s.first_scene for s in manifest.shards] == [0, 1, 2]
    assert set(manifest.shards) == set(records)
    assert not manifest.complete


def failed_shards(count: int, why: str) -> tuple[ShardRecord, ...]:
    """The last shards of a million scenes, 16 a shard, of which every scene failed."""
    firsts = range(10**6 - 16 * count, 10**6, 16)
    failures = (tuple(FailedScene(first + k, 2**63 - 1, why) for k in range(16)) for first in firsts)
    names = (f"{first // 16:05d}.parquet" for first in firsts)
    return tuple(ShardRecord(n, 0, EMPTY_DIGEST, f[0].index, 0, 0, f) for n, f in zip(names, failures, strict=True))


@pytest.mark.parametrize("said", ["x", "é", "\N{NO ENTRY}", '"', "\x00"])
def test_a_million_failed_scenes_can_be_read_again(tmp_path, said):
    """Each with the longest reason that is recorded; a hundredth of them is written here."""
    why = reason(ValueError(said * 500))
    assert why.startswith(f"ValueError: {said}"[:12])
    write_manifest(tmp_path, Manifest({"num_scenes": 10**6}, "0" * 64, failed_shards(625, why)))
    assert read_manifest(tmp_path).failed == 10_000
    assert (tmp_path / "manifest.json").stat().st_size * 100 < MAX_MANIFEST_BYTES


def test_a_manifest_that_nobody_could_read_is_not_written(tmp_path, monkeypatch):
    plan = {"num_scenes": 10**6}
    write_manifest(tmp_path, Manifest(plan, "0" * 64, failed_shards(1, "no road")))
    monkeypatch.setattr("exporters.manifest.MAX_MANIFEST_BYTES", 2**14)
    with pytest.raises(InputError, match=r"manifest.json: with 1600 failed scenes it would be larger than the 16384"):
        write_manifest(tmp_path, Manifest(plan, "0" * 64, failed_shards(100, "no road")))
    assert read_manifest(tmp_path).failed == 16
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_what_killed_runs_left_is_swept_and_nothing_else(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(0)], "numpy")
    kept = everything(folder)
    (folder / ".tmp-1").write_text("x")
    (folder / "shards/.tmp-2").mkdir()
    (folder / "shards/.tmp-2/scene.npz").write_text("x")
    (folder / "shards/.tmp-3").symlink_to(folder / "README.md")
    assert sweep_leftovers(folder) == 3
    assert everything(folder) == kept


def test_a_file_is_replaced_in_one_step(tmp_path):
    write_file(tmp_path / "a", [b"one"])
    write_file(tmp_path / "a", [b"t", b"wo"])
    assert everything(tmp_path) == {"a": b"two"}


def test_a_second_writer_is_told_so_and_the_lock_goes_with_its_holder(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(InputError, match="another run is writing there"), RunLock(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
    assert everything(tmp_path) == {}
    with RunLock(tmp_path):
        pass


def test_a_killed_holder_frees_the_lock(tmp_path):
    code = f"""
        import sys, time
        from exporters.manifest import RunLock
        with RunLock({str(tmp_path)!r}):
            print("held", flush=True)
            time.sleep(600)
    """
    root = Path(__file__).parents[2]
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=root, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another run"), RunLock(tmp_path):
            pass
        holder.kill()
    with RunLock(tmp_path):
        pass
