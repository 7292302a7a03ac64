"""A storage that goes away while it is read, or fails for a while, ends no work; one that refuses ends it at once."""

import threading
import time
from pathlib import Path

import pytest
from object_store import Network, S3Server

from dyncity.datasets.corpus import open_corpus, read_manifest
from dyncity.errors import InputError
from dyncity.fetched_checkpoint import fetched
from dyncity.object_storage import ObjectPath
from exporters.verification import verify_corpus

AWAY = 9.0  # seconds; pyarrow gives up after six


@pytest.fixture
def network(s3) -> Network:
    """A way to the service that can be cut."""
    return Network(s3.port)


@pytest.fixture
def stored(s3, network, make_scene, write_corpus, tmp_path) -> ObjectPath:
    """A corpus of two shards, reached through the network that can be cut."""
    folder = write_corpus(tmp_path / "c", [make_scene(i, frames=64) for i in range(4)])
    prefix = f"{s3.bucket(f'patience-{network.port}')}/corpus"
    for path in (p for p in folder.rglob("*") if p.is_file()):
        (ObjectPath(s3.uri(prefix)) / path.relative_to(folder).as_posix()).upload(path)
    return ObjectPath(S3Server(network.port).uri(prefix))


def during(work, *arguments) -> threading.Thread:
    """Something that goes on meanwhile, begun."""
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    time.sleep(0.1)
    return thread


def test_a_shard_is_read_on_when_the_network_comes_back(stored, network, capsys):
    scenes = open_corpus(stored).scenes()
    first = next(scenes)
    away = during(network.cut_for, AWAY)
    assert [first.scene_id, *(scene.scene_id for scene in scenes)] == [f"scene-{i:06d}" for i in range(4)]
    away.join()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"{stored}/shards/0000")
    assert said[0].endswith(": the storage does not answer; asking again for a minute")


def test_a_proxy_that_fails_at_the_first_look_is_waited_for(stored, network, capsys):
    away = during(network.answer_for, AWAY, 500)
    assert verify_corpus(stored) == []
    away.join()
    assert "errors of its own; asking again for a minute" in capsys.readouterr().out


@pytest.mark.parametrize("status", [403, 401])
def test_a_proxy_that_refuses_ends_it_at_once(stored, network, status):
    manifest = read_manifest(stored)
    network.answer(status)
    begun = time.monotonic()
    with pytest.raises(InputError, match="access is denied; check the credentials"):
        read_manifest(stored)
    assert time.monotonic() - begun < 5
    network.answer(0)
    assert read_manifest(stored) == manifest


def test_a_wrong_endpoint_is_told_without_a_minute_of_patience(network):
    network.cut = True
    begun = time.monotonic()
    with pytest.raises(InputError, match="the storage does not answer; check endpoint"):
        fetched(ObjectPath(S3Server(network.port).uri("nowhere/checkpoint")))
    assert time.monotonic() - begun < 30


def test_a_checkpoint_is_fetched_on(stored, network, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = bytes(range(256)) * 2**14
    for name in ("model.safetensors", "config.json"):
        (stored / name).write(content)
    away = during(network.answer_for, AWAY, 503)
    folder = fetched(stored)
    away.join()
    assert (Path(folder) / "model.safetensors").read_bytes() == content
