"""The documented way to read a corpus with Ray Data, on a local Ray of one CPU."""

from __future__ import annotations

import numpy as np
import pytest
from documented_code import run_section

from dyncity.datasets.corpus import open_corpus

ray = pytest.importorskip("ray")


@pytest.fixture
def local_ray(monkeypatch, tmp_path):
    """A Ray of its own, as small as it can be; never one that runs on this machine already."""
    monkeypatch.chdir(tmp_path)  # before Ray starts: its workers take the folder over
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        num_cpus=1,
        object_store_memory=2**27,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


def test_ray_data(make_scene, write_corpus, tmp_path, local_ray):
    folder = write_corpus(tmp_path / "corpus", [make_scene(i) for i in range(3)])
    batches = run_section("docs/use-in-training.md", "Ray Data")["batches"]
    scenes = {scene.scene_id: scene.semantics for scene in open_corpus(folder).scenes()}
    names = ("scene_id", "frame", "semantics")
    rows = [row for batch in batches for row in zip(*map(batch.get, names), strict=True)]
    assert len({(scene_id, int(frame)) for scene_id, frame, _ in rows}) == len(rows) == 12
    for scene_id, frame, semantics in rows:
        np.testing.assert_array_equal(semantics, scenes[scene_id][frame])
