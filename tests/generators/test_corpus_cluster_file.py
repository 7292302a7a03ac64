"""cluster.yaml is one that Ray's autoscaler takes, and says what docs/generation.md promises of it."""

from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load(CLUSTER.read_text())


def test_ray_takes_it(cluster):
    util = pytest.importorskip("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(cluster))


def test_the_head_takes_no_work_and_never_multiplies(cluster):
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0


def test_workers_start_from_none_within_their_limits(cluster):
    types = cluster["available_node_types"]
    assert {"cpu", "gpu"} < set(types)
    assert types["gpu"]["resources"]["GPU"] == 1
    for node_type in types.values():
        assert 0 <= node_type["min_workers"] <= node_type["max_workers"] <= cluster["max_workers"]
    assert types["cpu"]["min_workers"] == types["gpu"]["min_workers"] == 0
    assert types["cpu"]["max_workers"] + types["gpu"]["max_workers"] <= cluster["max_workers"]


def test_all_resources_are_whole_numbers(cluster):
    """Ray's check of the file does not see it, its autoscaler fails on it."""
    for node_type in cluster["available_node_types"].values():
        assert all(type(amount) is int for amount in node_type["resources"].values())
