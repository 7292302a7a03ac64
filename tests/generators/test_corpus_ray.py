"""The engine on a real Ray: the same bytes as without, whatever happens to the actors."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from numbered_scenes import contents, small_plan, source

from dyncity.errors import InputError
from exporters.manifest import verify_corpus
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus, ray_session

pytest.importorskip("ray")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def running_ray():
    """One local Ray for the module: starting it is most of the time that these tests take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        with ray_session("local", 4):
            yield


def make(out, plan=None, build=None, **options):
    return make_corpus(plan or small_plan(), build or source(), ParquetExporter(), out, **options)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The corpus as one process makes it."""
    out = tmp_path_factory.mktemp("reference") / "out"
    make(out)
    return contents(out)


def test_a_pool_of_workers_that_grows_makes_the_same_bytes(tmp_path, reference):
    seen = []
    make(tmp_path / "out", workers=(1, 3), report=lambda *values: seen.append(values))
    assert contents(tmp_path / "out") == reference
    assert seen[-1] == (19, 19, "3/3 shards")


def test_few_shards_are_shared_out_among_the_workers(tmp_path):
    """The first actor to start must not take all of them: four shards, each worth two seconds."""
    make(tmp_path / "out", small_plan(32), source(present=tmp_path, seconds=1.0), workers=(2, 2))
    assert len([file for file in tmp_path.iterdir() if file.name.isdigit()]) == 2


@pytest.mark.slow
def test_a_run_of_one_process_is_resumed_by_four_workers(tmp_path):
    plan = small_plan(60)
    make(tmp_path / "whole", plan)
    with pytest.raises(InputError, match="of another grid"):
        make(tmp_path / "out", plan, source(refuses=30))
    result = make(tmp_path / "out", plan, workers=(4, 4), resume=True)
    assert 0 < result.resumed < 30
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_more_shards_than_a_pool_takes_are_made_by_several(tmp_path, reference, monkeypatch):
    monkeypatch.setattr("generators.corpus.POOL_SHARDS", 2)
    make(tmp_path / "out", workers=(2, 2))
    assert contents(tmp_path / "out") == reference


def test_actors_killed_in_the_middle_change_nothing(tmp_path, reference):
    build = source(dies_at=10, deaths=1, diary=tmp_path / "diary")
    result = make(tmp_path / "out", build=build, workers=(2, 2))
    assert (tmp_path / "diary").read_text() == "x"
    assert result.failed == 0
    assert contents(tmp_path / "out") == reference


def test_a_scene_that_always_kills_its_worker_is_recorded_and_the_rest_is_made(tmp_path):
    build = source(dies_at=10, diary=tmp_path / "diary")
    result = make(tmp_path / "out", build=build, workers=(1, 1))
    assert (result.requested, result.written, result.failed) == (19, 18, 1)
    assert result.failures[0].index == 10
    assert "died" in result.failures[0].reason
    assert len((tmp_path / "diary").read_text()) == 5
    assert verify_corpus(tmp_path / "out") == []


def test_a_worker_that_answers_no_more_is_ended_and_its_shard_begun_again(tmp_path, reference):
    """A process that is stopped cannot help itself, and Ray waits for it for ever."""
    (tmp_path / "present").mkdir()
    stopped = []

    def stop(*_) -> None:
        if not stopped and (there := [int(file.name) for file in (tmp_path / "present").iterdir()]):
            os.kill(there[0], signal.SIGSTOP)
            stopped.append(there[0])

    build = source(present=tmp_path / "present", seconds=1.0)
    result = make(tmp_path / "out", build=build, workers=(1, 1), stuck_after=4.0, report=stop)
    assert len(list((tmp_path / "present").iterdir())) == 2
    assert not Path(f"/proc/{stopped[0]}").exists()
    assert result.failed == 0
    assert contents(tmp_path / "out") == reference


@pytest.mark.slow
def test_a_scene_that_always_hangs_is_recorded_and_the_rest_is_made(tmp_path):
    build = source(hangs_at=10, diary=tmp_path / "diary")
    result = make(tmp_path / "out", build=build, workers=(1, 1), stuck_after=2.0)
    assert (result.written, [failure.index for failure in result.failures]) == (18, [10])
    assert len((tmp_path / "diary").read_text()) == 5
    assert verify_corpus(tmp_path / "out") == []


def test_bad_input_in_a_worker_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="of another grid"):
        make(tmp_path / "out", small_plan(8), source(refuses=2), workers=(2, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_a_worker_cannot_read_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"map.json: on a worker: No such file or directory"):
        make(tmp_path / "out", build=partial(open, tmp_path / "map.json"), workers=(1, 1))
    assert list(tmp_path.iterdir()) == []


def test_bad_input_in_a_worker_stops_the_others(tmp_path):
    with pytest.raises(InputError, match="of another grid"):
        make(tmp_path / "out", small_plan(400), source(refuses=2, seconds=0.3), workers=(2, 2))
    stopped = contents(tmp_path)
    assert sum(name.endswith(".parquet") for name in stopped) < 40
    time.sleep(3)
    assert contents(tmp_path) == stopped


def test_more_gpus_than_there_are_is_one_line(tmp_path):
    with pytest.raises(InputError, match="--gpus-per-worker"):
        make(tmp_path / "out", workers=(2, 2), gpus_per_worker=8.0)
    assert list(tmp_path.iterdir()) == []
