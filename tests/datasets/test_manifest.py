"""The text of a manifest: a line a shard, a digest that anybody can compute, and no bomb."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from dyncity.datasets.manifest import FailedScene, Manifest, ShardRecord, manifest_json, read_manifest
from dyncity.errors import InputError
from exporters.manifest import write_manifest


def manifest_of(shards: int) -> Manifest:
    """Shards of three scenes; the second scene of each shard of an odd number failed."""
    records = []
    for number in range(shards):
        failures = (FailedScene(3 * number + 1, 5, 'ValueError: "ü"'),) if number % 2 else ()
        sha256 = hashlib.sha256(b"%d" % number).hexdigest()
        record = ShardRecord(f"{number:05d}", 10, sha256, 3 * number, 3 - len(failures), 9, failures)
        records.append(record)
    return Manifest(
        {"num_scenes": 3 * shards, "b": [1.5], "a": None}, "f" * 64, tuple(records), {"README.md": "0" * 64}
    )


@pytest.mark.parametrize("shards", [0, 1, 2500])
def test_the_digest_is_that_of_all_other_keys_as_canonical_json(tmp_path: Path, shards: int) -> None:
    manifest = manifest_of(shards)
    text = "".join(manifest_json(manifest))
    values = json.loads(text)
    stated = values.pop("sha256")
    body = json.dumps(values, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(body.encode()).hexdigest() == stated
    assert sum(line.lstrip().startswith('{"name"') for line in text.splitlines()) == shards
    (tmp_path / "manifest.json").write_text(text)
    assert read_manifest(tmp_path) == manifest


def test_a_large_file_of_tiny_values_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"shards": [' + "{}," * 3_000_000 + "{}]}")
    with pytest.raises(InputError, match="more values than a list of shards has"):
        read_manifest(tmp_path)


def test_shards_may_come_first_and_are_read_one_by_one(tmp_path: Path) -> None:
    """Whoever writes a manifest by other means need not know of our order; its digest does not."""
    manifest = manifest_of(3)
    values = json.loads("".join(manifest_json(manifest)))
    turned = {key: values[key] for key in reversed(values)}
    (tmp_path / "manifest.json").write_text(json.dumps(turned, indent=7))
    assert read_manifest(tmp_path) == manifest


def peak_mib(work: Callable[[], object]) -> float:
    """What Python's own memory grows by while ``work`` is done."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        work()
        return (tracemalloc.get_traced_memory()[1] - before) / 2**20
    finally:
        tracemalloc.stop()


def test_a_long_manifest_is_never_in_memory_twice(tmp_path: Path) -> None:
    """Writing holds some records at a time, and reading little besides the text and the records."""
    manifest = manifest_of(20_000)
    size = len("".join(manifest_json(manifest))) / 2**20
    assert peak_mib(lambda: write_manifest(tmp_path, manifest)) < 0.5 * size
    records = peak_mib(lambda: manifest_of(20_000))
    assert peak_mib(lambda: read_manifest(tmp_path)) < 2.5 * size + records
