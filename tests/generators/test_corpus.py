"""The engine in one process: what a corpus holds, what is refused, what stays when something fails."""

import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numbered_scenes import NumberedScenes, contents, small_plan, source

from dyncity.datasets.corpus import open_corpus, open_shard, read_manifest
from dyncity.errors import InputError
from exporters.manifest import verify_corpus
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.cost import Prices
from generators.dry_run import dry_run
from generators.installation import installation
from generators.shard_worker import ShardWorker


def make(out, plan=None, build=None, exporter=None, **options):
    return make_corpus(plan or small_plan(), build or source(), exporter or ParquetExporter(), out, **options)


def draw(scenes, path):
    path.write_bytes(("picture of " + " ".join(s.scene_id for s in scenes)).encode())


def test_a_corpus_holds_every_scene_and_verifies(tmp_path):
    result = make(tmp_path / "out", preview=draw)
    assert verify_corpus(tmp_path / "out") == []
    assert (result.requested, result.written, result.failed) == (19, 19, 0)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "README.md",
        "manifest.json",
        "config.json",
        "preview.png",
        "shards",
    }
    corpus = open_corpus(tmp_path / "out")
    assert [s.scene_id for s in corpus.scenes()] == [f"scene-{i:06d}" for i in range(19)]
    pictured = (tmp_path / "out" / "preview.png").read_text()
    assert pictured == "picture of " + " ".join(f"scene-{i:06d}" for i in range(16))


def test_scenes_are_those_of_their_specs(tmp_path):
    make(tmp_path / "out")
    plan, generator = small_plan(), NumberedScenes(micro_batch=1)
    for index, scene in enumerate(open_corpus(tmp_path / "out").scenes()):
        expected = generator.generate([plan.spec(index)])[0]
        assert (scene.semantics == expected.semantics).all()
        assert scene.conditions.command == expected.conditions.command


@pytest.mark.parametrize("exporter", [ParquetExporter(), NumpyExporter()])
def test_twice_the_same_plan_is_the_same_corpus(tmp_path, exporter):
    plan = small_plan(container=exporter.container)
    for name in ("a", "b"):
        make(tmp_path / name, plan, exporter=exporter, preview=draw)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_no_memory_to_write_a_shard_ends_the_run_which_can_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"shard 1: there was no memory to write it; make fewer scenes at a time"):
        make(tmp_path / "out", exporter=Picky(tuple(range(8, 16)), error=MemoryError))
    assert read_manifest(tmp_path / "out").written == 8
    assert make(tmp_path / "out", resume=True).written == 19


def test_nothing_about_this_machine_or_the_time_is_in_a_corpus(tmp_path):
    make(tmp_path / "out")
    text = b"".join(contents(tmp_path / "out").values())
    for word in (str(tmp_path), os.uname().nodename, "2026-", "2027-"):
        assert word.encode() not in text


def test_scenes_that_fail_are_recorded_and_all_others_are_there(tmp_path):
    make(tmp_path / "all")
    result = make(tmp_path / "some", build=source(raises=(3, 8, 9, 18)))
    assert (result.requested, result.written, result.failed) == (19, 15, 4)
    assert [f.index for f in result.failures] == [3, 8, 9, 18]
    reason = result.failures[0].reason
    assert reason.startswith("ValueError: no road")
    assert "0x7f" not in reason
    assert "/some" not in reason
    assert verify_corpus(tmp_path / "some") == []
    assert "no road" in (tmp_path / "some" / "README.md").read_text()
    some = {s.scene_id: s for s in open_corpus(tmp_path / "some").scenes()}
    every = {s.scene_id: s for s in open_corpus(tmp_path / "all").scenes()}
    assert set(every) - set(some) == {f"scene-{i:06d}" for i in (3, 8, 9, 18)}
    assert all((every[name].semantics == scene.semantics).all() for name, scene in some.items())


def test_a_scene_that_no_memory_is_enough_for_is_recorded(tmp_path):
    result = make(tmp_path / "some", build=source(starves=(3, 9)))
    assert (result.requested, result.written, result.failed) == (19, 17, 2)
    assert [f.index for f in result.failures] == [3, 9]
    assert all("MemoryError" in f.reason for f in result.failures)
    assert verify_corpus(tmp_path / "some") == []


def test_no_memory_for_any_scene_of_a_shard_ends_the_run_which_can_be_resumed(tmp_path):
    """As of a micro-batch that is too large for the device: not a corpus of failed scenes."""
    with pytest.raises(InputError, match=r"shard 1: there was no memory for any of its 8 scenes .*--micro-batch"):
        make(tmp_path / "out", build=source(starves=tuple(range(8, 16))))
    assert read_manifest(tmp_path / "out").written == 8
    assert make(tmp_path / "out", resume=True).written == 19


class Picky(ParquetExporter):
    """Refuses some scenes, always or the first time that it meets them."""

    def __init__(self, always=(), once=(), error=ValueError):
        super().__init__()
        self.always, self.once, self.error = always, set(once), error

    def write(self, scenes, path):
        super().write(map(self.checked, scenes), path)

    def checked(self, scene):
        index = int(scene.scene_id[-6:])
        if index in self.always or index in self.once:
            self.once.discard(index)
            raise self.error("a scene", "is odd", "drop it") if self.error is InputError else self.error("is odd")
        return scene


@pytest.mark.parametrize(("error", "once"), [(ValueError, (9,)), (InputError, ())])
def test_a_scene_that_cannot_be_written_is_recorded_and_the_others_are_there(tmp_path, error, once):
    make(tmp_path / "all")
    result = make(tmp_path / "some", exporter=Picky((4, 17), once, error))
    assert (result.requested, result.written, result.failed) == (19, 17, 2)
    assert [(f.index, f.seed) for f in result.failures] == [(4, 5), (17, 5)]
    assert "is odd" in result.failures[0].reason
    assert "is odd" in (tmp_path / "some" / "README.md").read_text()
    assert verify_corpus(tmp_path / "some") == []
    every, some = contents(tmp_path / "all"), contents(tmp_path / "some")
    assert every["shards/00001.parquet"] == some["shards/00001.parquet"]
    names = {s.scene_id for s in open_corpus(tmp_path / "some").scenes()}
    assert names == {f"scene-{i:06d}" for i in range(19) if i not in (4, 17)}


def test_bad_input_that_holds_for_every_scene_ends_the_run(tmp_path):
    with pytest.raises(InputError, match="is odd; drop it"):
        make(tmp_path / "out", exporter=Picky(range(19), error=InputError))
    with pytest.raises(InputError, match="has no mask_lidar"):
        make(tmp_path / "out", exporter=ParquetExporter(columns=("mask_lidar",)))
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(3)), workers=st.integers(1, 4))
def test_the_order_of_the_shards_and_how_many_are_made_at_once_change_nothing(tmp_path, order, workers):
    """Workers that share nothing, each a thread with a generator of its own, take shards in any order."""
    plan, out = small_plan(), Path(tempfile.mkdtemp(dir=tmp_path))
    (out / "journals").mkdir()
    team = [ShardWorker(plan, source(), ParquetExporter(), out, out / "journals") for _ in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda i: team[i % workers].make(plan.shards[order[i]]), range(3)))
    make(tmp_path / "one", plan, resume=True)
    assert contents(out / "shards") == contents(tmp_path / "one" / "shards")


def test_a_corpus_whose_scenes_all_fail_is_still_accounted_for(tmp_path):
    result = make(tmp_path / "out", small_plan(5), source(raises=tuple(range(8))), preview=draw)
    assert (result.written, result.failed) == (0, 5)
    assert not (tmp_path / "out" / "preview.png").exists()
    assert verify_corpus(tmp_path / "out") == []


def test_progress_counts_to_the_end_and_never_beyond(tmp_path):
    seen = []
    make(tmp_path / "out", build=source(seconds=0.3), report=lambda *values: seen.append(values))
    assert seen[-1] == (19, 19, "3/3 shards")
    assert all(done <= total == 19 for done, total, _ in seen)
    assert any(done % 8 for done, _, _ in seen[:-1])  # it moves within a shard too


def test_a_few_scenes_are_made_without_ray_unless_workers_are_asked_for(tmp_path, monkeypatch):
    def on_ray(made_of, numbers, workers, *_):
        raise ConnectionError(f"{workers[0]} to {workers[1]} workers for {len(numbers)} shards")
        yield

    monkeypatch.setattr("generators.corpus._on_ray", on_ray)
    few, cores = small_plan(16), os.cpu_count()
    with pytest.raises(ConnectionError, match=f"{cores} to {cores} workers for 3 shards"):
        make(tmp_path / "out", workers=None)
    assert make(tmp_path / "few", few, workers=None).written == 16
    with pytest.raises(ConnectionError, match="1 to 1 workers for 2 shards"):
        make(tmp_path / "asked", few, workers=(1, 1))
    with pytest.raises(InputError, match="shard 1"):
        make(tmp_path / "out", exporter=Picky(range(8, 16), error=MemoryError))
    assert make(tmp_path / "out", workers=None, resume=True).written == 19  # what is left is few


@pytest.mark.parametrize(("cores", "threads", "expected"), [(1, 1, 1), (2, 1, 2), (5, 1, 4), (5, 2, 2), (2, 4, 1)])
def test_threads_that_make_shards_of_a_few_scenes_change_nothing(tmp_path, monkeypatch, cores, threads, expected):
    built, plan = [], small_plan(16, scenes_per_shard=4, threads=threads)
    build = lambda: built.append(NumberedScenes()) or built[-1]  # noqa: E731
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    make(tmp_path / "some", plan, build, workers=None)
    assert len(built) == expected
    make(tmp_path / "one", plan)
    assert contents(tmp_path / "some") == contents(tmp_path / "one")


def test_a_shard_is_written_while_the_next_one_is_sampled(tmp_path):
    class Sampler(NumberedScenes):
        def generate(self, specs):
            if specs[0].index == 8:
                second.set()
            return super().generate(specs)

    class PatientExporter(ParquetExporter):
        def write(self, scenes, path):
            assert second.wait(60), "the second shard is not sampled before the first is written"
            super().write(scenes, path)

    second, built = threading.Event(), []
    make(tmp_path / "out", build=lambda: built.append(Sampler()) or built[-1], exporter=PatientExporter())
    assert len(built) == 1, "the source is built once for all shards"
    make(tmp_path / "plain")
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")


def test_only_the_first_shards_are_opened_for_card_and_picture(tmp_path, monkeypatch):
    opened = []

    def opening(folder, record):
        opened.append(record.name)
        return open_shard(folder, record)

    monkeypatch.setattr("dyncity.datasets.corpus.open_shard", opening)
    make(tmp_path / "out", small_plan(120), preview=draw)
    assert set(opened) == {f"{number:05d}.parquet" for number in range(8)}


def test_a_worker_whose_generator_is_not_the_planned_one_is_refused(tmp_path):
    with pytest.raises(InputError, match="version"):
        make(tmp_path / "out", build=source(version=2))
    with pytest.raises(InputError, match="--micro-batch"):
        make(tmp_path / "out", build=source(micro_batch=2))
    for name in ("numpy", "code", "cpu"):
        with pytest.raises(InputError, match=rf"on a worker, versions.{name} in the plan is 'other', not '"):
            make(tmp_path / "out", small_plan(versions=installation() | {name: "other"}))
    assert list(tmp_path.iterdir()) == []


def test_a_generator_that_cannot_be_built_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"map.json: on a worker: No such file or directory; .* go on with --resume"):
        make(tmp_path / "out", build=partial(open, tmp_path / "map.json"))
    with pytest.raises(InputError, match=r"generator: there was no memory for it on a worker .*; use fewer workers"):
        make(tmp_path / "out", build=partial(np.empty, 2**60, np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"workers": (2, 1)}, "--workers"),
        ({"workers": (-1, 2)}, "--workers"),
        ({"workers": (0, 2)}, "--workers"),
        ({"gpus_per_worker": -1.0}, "--gpus-per-worker"),
        ({"gpus_per_worker": float("nan")}, "--gpus-per-worker"),
        ({"stuck_after": -1.0}, "--stuck-after"),
        ({"stuck_after": float("nan")}, "--stuck-after"),
        ({"exporter": NumpyExporter()}, "--container"),
    ],
)
def test_bad_options_name_themselves(tmp_path, options, option):
    with pytest.raises(InputError) as error:
        make(tmp_path / "out", **options)
    assert error.value.where == option
    assert list(tmp_path.iterdir()) == []


def test_a_generator_without_an_answer_for_each_spec_fails_its_scenes(tmp_path):
    class Short(NumberedScenes):
        def generate(self, specs):
            return super().generate(specs)[:-1]

    result = make(tmp_path / "out", small_plan(2), Short)
    assert result.failed == 2
    assert "3 scenes came for 4 specs" in result.failures[0].reason


def test_the_manifest_says_the_plan_in_full(tmp_path):
    plan = small_plan()
    make(tmp_path / "out", plan)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["plan"] == plan.to_dict()
    assert manifest["fingerprint"] == plan.fingerprint()


def test_a_dry_run_estimates_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    rows = dry_run(small_plan(), source(seconds=0.05), ParquetExporter(), (2, 2))
    assert (rows["scenes"], rows["shards"], rows["frames"]) == (19, 3, 57)
    assert rows["seconds, about"] >= 0.1
    assert list(Path(tmp_path).iterdir()) == []
    failing = dry_run(small_plan(), source(raises=(1,)), ParquetExporter())
    assert "no road" in failing["first micro-batch"]


@pytest.mark.parametrize(("workers", "seconds"), [(0, 19.0), (1, 19.0), (2, 12.7), (3, 6.3), (20, 6.3)])
def test_a_dry_run_knows_that_no_shard_is_shared(workers, seconds):
    """Nineteen scenes of a second each in three shards: one of two workers makes two, a fourth worker none."""
    rate = Prices(scenes_per_second=1.0)
    rows = dry_run(small_plan(), source(), ParquetExporter(), (workers, workers), prices=rate)
    assert rows["seconds, about"] == seconds
