"""A driver that writes to object storage, killed: what it leaves is gone on with, to the same bytes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from numbered_scenes import contents, small_plan, source
from object_store import Network, S3Server, objects

from dyncity.datasets.manifest import read_manifest
from dyncity.object_storage import ObjectPath
from exporters.parquet import ParquetExporter
from generators import lease
from generators.corpus import make_corpus

ROOT = Path(__file__).parents[2]
_DRIVER = """
import sys
from numbered_scenes import small_plan, source
from dyncity.object_storage import ObjectPath
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
make_corpus(small_plan(), source(seconds=0.2), ParquetExporter(), ObjectPath(sys.argv[1]))
"""


def test_a_killed_driver_is_gone_on_with(storage, tmp_path, monkeypatch):
    make_corpus(small_plan(), source(), ParquetExporter(), tmp_path / "whole")
    out = ObjectPath(storage.uri(f"{storage.bucket('killed')}/corpus"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with subprocess.Popen([sys.executable, "-c", _DRIVER, out._uri], env=environment) as driver:
        while not (out / "shards/00000.parquet").exists():
            assert driver.poll() is None
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    left = objects(out)
    # What the manifest tells of is there, and it may not know of the last shard yet.
    assert {f"shards/{s.name}" for s in read_manifest(out).shards} <= set(left)
    assert "README.md" not in left
    assert any(name.startswith(".lease-") for name in left)
    monkeypatch.setattr(lease, "LAPSE", 1.0)
    make_corpus(small_plan(), source(), ParquetExporter(), out, resume=True)
    assert objects(out) == contents(tmp_path / "whole")


def test_a_storage_that_does_not_answer_for_a_while_ends_no_run(s3, tmp_path):
    """What has to be put took minutes to make; pyarrow gives up after six seconds."""
    make_corpus(small_plan(), source(), ParquetExporter(), tmp_path / "whole")
    network, bucket = Network(s3.port), s3.bucket("cut")
    out = ObjectPath(S3Server(network.port).uri(f"{bucket}/corpus"))
    cut = threading.Thread(target=network.cut_for, args=(9.0,))

    def report(done, total, note):
        if 0 < done < total and not cut.ident:
            cut.start()

    result = make_corpus(small_plan(), source(seconds=0.3), ParquetExporter(), out, report=report)
    assert cut.ident
    assert (result.written, result.failed) == (19, 0)
    assert objects(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_workers_of_ray_put_the_same_bytes_whatever_dies(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    make_corpus(small_plan(), source(), ParquetExporter(), tmp_path / "whole")
    out = ObjectPath(s3.uri(f"{s3.bucket('workers')}/corpus"))
    build = source(dies_at=9, deaths=1, diary=tmp_path / "diary")
    result = make_corpus(small_plan(), build, ParquetExporter(), out, workers=(2, 2))
    assert (result.written, result.failed) == (19, 0)
    assert (tmp_path / "diary").read_text() == "x"
    assert objects(out) == contents(tmp_path / "whole")
