"""A node whose memory runs out: Ray's monitor ends a worker, and its shard is begun again. For a quiet machine: the
monitor looks at all memory, and ends processes of Ray for what others take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from numbered_scenes import contents, small_plan, source

from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus, ray_session

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ROOM = 2 * 2**30  # bytes beyond what is in use now, from which on Ray's monitor ends workers


@pytest.fixture(scope="module", autouse=True)
def ray_of_a_small_node():
    """A local Ray that takes the node for full when little more memory is used than now."""
    lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    sizes = {line[0]: int(line[1]) * 1024 for line in lines}
    total, left = sizes["MemTotal:"], sizes["MemAvailable:"]
    if left < 3 * ROOM:
        pytest.skip(f"{left} bytes of memory are free")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", str((total - left + ROOM) / total))
        patch.setenv("RAY_memory_monitor_refresh_ms", "100")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        with ray_session("local", 1):
            yield


def test_a_worker_that_takes_the_memory_of_its_node_is_ended_and_begun_again(tmp_path):
    (tmp_path / "present").mkdir()
    build = source(hangs_at=10, hoards=ROOM * 3 // 2, deaths=1, diary=tmp_path / "diary", present=tmp_path / "present")
    result = make_corpus(small_plan(), build, ParquetExporter(), tmp_path / "out", workers=(1, 1))
    assert len(list((tmp_path / "present").iterdir())) == 2
    assert result.failed == 0
    make_corpus(small_plan(), source(), ParquetExporter(), tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
