"""Checkpoints in object storage: fetched once, checked at every use, fetched anew when either end changes."""

import pytest

from dyncity.checkpoint import shipped_checkpoint
from dyncity.errors import InputError
from dyncity.fetched_checkpoint import FILES, fetched
from dyncity.inventory import describe
from dyncity.object_storage import ObjectPath


@pytest.fixture
def checkpoint(s3, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = ObjectPath(s3.uri(f"{s3.bucket('checkpoints')}/tiny"))
    for name in FILES:
        (place / name).upload(shipped_checkpoint() / name)
    return place


def test_a_checkpoint_is_fetched_once_and_checked(checkpoint):
    folder = fetched(checkpoint)
    assert describe(folder) == describe(checkpoint) == describe(shipped_checkpoint())
    made = (folder / "model.safetensors").stat().st_ino
    assert fetched(checkpoint) == folder
    assert (folder / "model.safetensors").stat().st_ino == made
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert fetched(checkpoint) == folder
    assert describe(folder) == describe(shipped_checkpoint())
    (checkpoint / "README.md").write(b"# Another one\n")
    assert (fetched(checkpoint) / "README.md").read_text() == "# Another one\n"
    assert sorted(p.name for p in folder.parent.iterdir() if p.name.startswith(".")) == []


def test_weights_that_were_damaged_there_are_told_by_their_place(checkpoint):
    content = bytearray((shipped_checkpoint() / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (checkpoint / "model.safetensors").write(bytes(content))
    with pytest.raises(InputError, match=r"s3://checkpoints/tiny/model.safetensors: is not what was .* put the"):
        fetched(checkpoint)
    (checkpoint / "model.safetensors.sha256").remove()
    assert (fetched(checkpoint) / "model.safetensors").read_bytes() == content


def test_no_checkpoint_is_one_line(checkpoint):
    (checkpoint / "model.safetensors").remove()
    with pytest.raises(InputError, match=r"s3://checkpoints/tiny: there is no model.safetensors"):
        fetched(checkpoint)
    assert fetched(shipped_checkpoint()) == shipped_checkpoint()
