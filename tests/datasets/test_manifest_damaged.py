"""Reading manifests: a made-up, endless or linked one is refused before anything follows from it."""

from __future__ import annotations

import pytest
from rewritten_manifest import rewritten

from dyncity.datasets.corpus import read_manifest
from dyncity.errors import InputError

BAD_MANIFESTS = {
    "a name that leads out": lambda m: m["shards"][0].update(name="../secret.parquet"),
    "an absolute name": lambda m: m["shards"][0].update(name="/etc/passwd"),
    "an empty name": lambda m: m["shards"][0].update(name=""),
    "a name with a newline": lambda m: m["shards"][0].update(name="00000.parquet\n"),
    "a name twice": lambda m: m["shards"][1].update(name="00000.parquet"),
    "overlapping ranges": lambda m: m["shards"][1].update(first_scene=1),
    "shards out of order": lambda m: m["shards"].reverse(),
    "a range beyond the plan": lambda m: m["plan"].update(num_scenes=3),
    "negative bytes": lambda m: m["shards"][0].update(bytes=-1),
    "negative scenes": lambda m: m["shards"][0].update(scenes=-1),
    "a float for a count": lambda m: m["shards"][0].update(scenes=2.0),
    "a flag for a count": lambda m: m["shards"][0].update(first_scene=False),
    "no digest": lambda m: m["shards"][0].update(sha256="zz"),
    "a missing key": lambda m: m["shards"][0].pop("frames"),
    "an unknown key": lambda m: m["shards"][0].update(path="x"),
    "an unknown key at the top": lambda m: m.update(more=1),
    "no plan": lambda m: m.pop("plan"),
    "a plan without a number": lambda m: m.update(plan={}),
    "another version": lambda m: m.update(version=2),
    "another format": lambda m: m.update(format="x"),
    "a failure out of range": lambda m: m["shards"][1]["failures"].append({"index": 0, "seed": 0, "reason": ""}),
    "a strange file": lambda m: m["files"].update({"../x": "0" * 64}),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_a_made_up_manifest_is_refused(make_scene, write_corpus, tmp_path, name):
    folder = write_corpus(tmp_path / "c", [make_scene(i) for i in range(4)])
    rewritten(folder, lambda m: None)
    assert read_manifest(folder).complete  # the test's own digest is right
    rewritten(folder, BAD_MANIFESTS[name])
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1, "a": 2}', b"1" * 5000, b'{"format": NaN}'],
    ids=["empty", "list", "cut", "no utf-8", "deep", "twice", "long number", "nan"],
)
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_an_endless_manifest_is_not_read(tmp_path):
    with open(tmp_path / "manifest.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="at most"):
        read_manifest(tmp_path)


def test_a_linked_manifest_is_refused(make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "c", [make_scene(0)])
    (folder / "manifest.json").rename(tmp_path / "m.json")
    (folder / "manifest.json").symlink_to(tmp_path / "m.json")
    with pytest.raises(InputError, match="not a plain file"):
        read_manifest(folder)
