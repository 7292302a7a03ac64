"""The ledger of a long run: what it writes and lists is rationed by time, not by shards."""

import os
import time

import pytest
from numbered_scenes import contents, small_plan, source

from dyncity.datasets.manifest import MANIFEST, ShardRecord, read_manifest
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.corpus_folder import open_folder
from generators.journal import committed_shards
from generators.ledger import open_ledger
from generators.shard_worker import ShardWorker


def test_the_manifest_is_not_written_for_every_shard_and_holds_them_all_at_the_end(tmp_path):
    plan, told = small_plan(12_000, scenes_per_shard=4), []
    with open_folder(plan, tmp_path / "out", resume=False, overwrite=False) as folder:
        begun, manifest = time.monotonic(), folder.out / MANIFEST
        last, writes = manifest.stat().st_ino, 0
        with open_ledger(plan, folder, lambda *values: told.append(values)) as ledger:
            for shard in plan.shards:
                ledger.add(shard.number, ShardRecord(f"{shard.number:05d}.parquet", 9, "0" * 64, shard.first, 4, 12))
                writes, last = writes + (manifest.stat().st_ino != last), manifest.stat().st_ino
        ticks = 2 + (time.monotonic() - begun) / 0.5
    assert writes <= ticks
    assert len(told) <= ticks
    assert told[-1] == (12_000, 12_000, "3000/3000 shards")
    assert [record.first_scene for record in read_manifest(tmp_path / "out").shards] == list(range(0, 12_000, 4))


def test_shards_in_work_are_told_from_their_journals_and_journals_of_finished_ones_go(tmp_path):
    plan, told = small_plan(16), []
    with open_folder(plan, tmp_path / "out", resume=False, overwrite=False) as folder:
        for number in range(2):
            (folder.journals / f"{number:05d}").write_text("+ batch 0\n- batch 0 4\n")
        with open_ledger(plan, folder, lambda *values: told.append(values)) as ledger:
            assert told == [(8, 16, "0/2 shards")]
            ledger.add(0, ShardRecord("00000.parquet", 9, "0" * 64, 0, 8, 24))
            ledger.tell(force=True)
            assert told[-1] == (12, 16, "1/2 shards")
            assert [path.name for path in folder.journals.iterdir()] == ["00001"]


def test_a_journal_stays_until_the_manifest_on_disk_names_its_shard(tmp_path, monkeypatch):
    """In between a killed run has nothing else to know the shard by."""
    monkeypatch.setattr("generators.ledger._DUTY", 10**6)  # the first manifest rations the second for long
    plan = small_plan(16)
    with open_folder(plan, tmp_path / "out", resume=False, overwrite=False) as folder:
        for number in range(2):
            (folder.journals / f"{number:05d}").write_text("+ batch 0\n- batch 0 4\n")
        with open_ledger(plan, folder, None) as ledger:
            for number in range(2):
                ledger.add(number, ShardRecord(f"{number:05d}.parquet", 9, "0" * 64, 8 * number, 8, 24))
                ledger.tell(force=True)
            left = [path.name for path in folder.journals.iterdir()]
            saved = [record.first_scene // 8 for record in read_manifest(folder.out).shards]
            assert (left, saved) == (["00001"], [0])
            ledger.save(force=True)
            ledger.tell(force=True)
            assert list(folder.journals.iterdir()) == []


@pytest.mark.parametrize("told", [0, 1])
def test_a_shard_stays_that_was_committed_when_the_run_broke_off_before_it_knew(tmp_path, told):
    """An interrupt between a shard's commit and its record's arrival: nothing that is complete may go."""
    plan, exporter, out = small_plan(24), ParquetExporter(), tmp_path / "out"
    records = []

    def broken_off() -> None:
        with (
            open_folder(plan, out, resume=False, overwrite=False) as folder,
            open_ledger(plan, folder, None) as ledger,
        ):
            worker = ShardWorker(plan, source(), exporter, folder.out, folder.journals)
            records.extend(worker.make(plan.shards[number]) for number in range(2))
            for number in range(told):
                ledger.add(number, records[number])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert read_manifest(out).shards == tuple(records)
    make_corpus(plan, source(), exporter, out, resume=True)
    make_corpus(plan, source(), exporter, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_journal_that_no_worker_wrote_tells_of_no_shard(tmp_path):
    """A resume reads what a killed run left: that must not end it, nor keep it waiting."""
    (tmp_path / "00000").write_text("* " + "[" * 10**5 + "\n")
    (tmp_path / "00001").write_bytes(b"* \xff\n")
    os.mkfifo(tmp_path / "00002")
    (tmp_path / "\u00b2").write_text("")  # a digit to str.isdigit, and to int() none
    assert committed_shards(sorted(tmp_path.iterdir()), {}) == {}
