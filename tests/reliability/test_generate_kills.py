"""The driver is killed, the disk is full, two runs meet: the finished corpus is the same, or one line says why."""

import contextlib
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from killed_drivers import ROOT, SCENES, drive, raylet_of, shards_of, wait_for
from numbered_scenes import contents, small_plan, source

from dyncity.datasets.corpus import read_manifest
from dyncity.errors import InputError
from exporters.manifest import verify_corpus
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.shard_worker import ShardWorker

PLAN = {"num_scenes": SCENES}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The corpus of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("reference") / "out"
    make_corpus(small_plan(**PLAN), source(), ParquetExporter(), out)
    return contents(out)


def resume(out: Path) -> None:
    make_corpus(small_plan(**PLAN), source(), ParquetExporter(), out, resume=True)


@pytest.mark.parametrize("committed", [0, 2])
def test_a_killed_driver_resumes_to_the_same_bytes(tmp_path, reference, committed):
    out = tmp_path / "out"
    driver = drive(tmp_path / "drive.py", out, 0.2, 0)
    wait_for(lambda: (out / "manifest.json").exists() and len(shards_of(out)) >= committed)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert len(shards_of(out)) < 5
    assert read_manifest(out).requested == 40
    resume(out)
    assert contents(out) == reference
    assert verify_corpus(out) == []


def test_a_killed_driver_of_ray_workers_resumes_beside_its_orphans(tmp_path, reference):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    driver = drive(tmp_path / "drive.py", out, 0.5, 2)
    wait_for(lambda: len(shards_of(out)) >= 1, 300)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    resume(out)  # at once: workers of the dead driver may still be writing
    assert contents(out)["manifest.json"] == reference["manifest.json"]
    time.sleep(5)
    assert contents(out) == reference


@pytest.mark.slow
def test_a_killed_raylet_ends_the_run_which_can_be_resumed(tmp_path, reference):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    driver = drive(tmp_path / "drive.py", out, 1.0, 2)
    wait_for(lambda: len(shards_of(out)) >= 1, 300)
    raylet = raylet_of(driver.pid)
    assert raylet is not None
    os.kill(raylet, signal.SIGKILL)
    try:
        _, said = driver.communicate(timeout=180)
    finally:
        driver.kill()
    assert driver.returncode != 0
    assert "go on with --resume" in said.splitlines()[-1]
    resume(out)
    time.sleep(5)
    assert contents(out) == reference


def test_a_run_killed_while_it_replaces_a_corpus_can_be_overwritten_again(tmp_path, reference):
    out = tmp_path / "out"
    make_corpus(small_plan(60, seed=9), source(), ParquetExporter(), out)
    driver = drive(tmp_path / "drive.py", out, 0.2, 0, "overwrite")
    wait_for(lambda: (out / ".replaced").exists())
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    make_corpus(small_plan(**PLAN), source(), ParquetExporter(), out, overwrite=True)
    assert contents(out) == reference


def test_the_second_of_two_drivers_says_that_another_is_at_work(tmp_path, reference):
    out = tmp_path / "out"
    first = drive(tmp_path / "drive.py", out, 0.3, 0)
    wait_for(lambda: (out / "manifest.json").exists())
    with pytest.raises(InputError, match="another run") as error:
        resume(out)
    assert "\n" not in str(error.value)
    assert first.wait(120) == 0
    first.communicate()
    assert contents(out) == reference


def test_an_interrupt_stops_soon_and_keeps_what_is_committed(tmp_path, reference):
    out = tmp_path / "out"
    driver = drive(tmp_path / "drive.py", out, 0.3, 0)
    wait_for(lambda: len(shards_of(out)) >= 1)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=60)
    assert driver.returncode != 0
    assert 1 <= len(shards_of(out)) < 5
    assert not (out / ".lock").exists()
    resume(out)
    assert contents(out) == reference


def limited(size: int):
    """Let a process write no file larger than ``size`` bytes; writing more fails as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [64, 6000])
def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing(tmp_path, size):
    out = tmp_path / "new" / "out"
    driver = drive(tmp_path / "drive.py", out, 0, 0, preexec_fn=limited(size))
    _, said = driver.communicate(timeout=120)
    assert driver.returncode == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"drive.py"}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("gone", [".", "shards"])
def test_a_folder_that_goes_while_a_run_is_at_it_is_one_line(tmp_path, workers, gone):
    out = tmp_path / "out"
    driver = drive(tmp_path / "drive.py", out, 0.3, workers)
    wait_for(lambda: len(shards_of(out)) >= 1, 300)
    (out / gone).resolve().rename(tmp_path / "elsewhere")
    _, said = driver.communicate(timeout=120)
    assert driver.returncode == 2, said
    assert said.startswith(f"error: {out}")
    assert said.count("\n") == 1
    assert not out.exists() or gone == "shards"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_has_no_room_for_the_journal_blames_no_scene(small_disk, tmp_path):
    """Beside object storage journals lie on a disk of their own; a shard without scenes would have been committed."""
    plan = small_plan(8)
    with open(small_disk / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass
    worker = ShardWorker(plan, source(), ParquetExporter(), tmp_path, small_disk)
    with pytest.raises(InputError, match=r"00000: cannot be written .No space left on device.; make room"):
        worker.make(plan.shards[0])
    assert list(tmp_path.iterdir()) == [small_disk]
    (small_disk / "ballast").unlink()
    assert worker.make(plan.shards[0]).scenes == 8
    worker.stop()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_keeps_what_is_committed_for_a_resume(small_disk, tmp_path, monkeypatch, workers):
    plan = small_plan(400)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    with pytest.raises(InputError, match="--resume"):
        make_corpus(plan, source(), ParquetExporter(), small_disk / "out", workers=(workers, workers))
    kept = shards_of(small_disk / "out")
    assert kept
    moved = tmp_path / "out"
    subprocess.run(["cp", "-r", str(small_disk / "out"), str(moved)], check=True)
    make_corpus(plan, source(), ParquetExporter(), moved, resume=True)
    make_corpus(plan, source(), ParquetExporter(), tmp_path / "whole")
    assert contents(moved) == contents(tmp_path / "whole")
