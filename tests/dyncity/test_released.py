from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dyncity.checkpoint import load_checkpoint
from dyncity.conditions import Conditions
from dyncity.config import Config
from dyncity.config_file import override
from dyncity.errors import InputError
from dyncity.presets import preset
from dyncity.released import convert_checkpoint
from dyncity.scene import SceneSpec
from generators.diffusion import LatentDiffusion

RECORDED = Path(__file__).parents[1] / "recorded"
SIZES = {
    "grid.shape": [16, 16, 8],
    "clip.frames": 4,
    "vae.channels": 8,
    "vae.latent_channels": 8,
    "vae.query_channels": 16,
    "vae.hidden_low": 24,
    "vae.hidden_high": 12,
    "dit.width": 64,
    "dit.depth": 2,
    "dit.heads": 4,
    "sampling.steps": 3,
}


def small(**changed: object) -> Config:
    return override(preset("carlasc"), [f"{key}={value}" for key, value in (SIZES | changed).items()])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The recorded weights as the release stores them: torch pickles, the averaged ones under ``ema``."""
    vae, dit = tmp_path / "vae.ckpt", tmp_path / "dit.ckpt"
    torch.save({"model_state_dict": load_file(RECORDED / "vae_weights.safetensors"), "epoch": 3}, vae)
    averaged = {f"module.{k}": v for k, v in load_file(RECORDED / "dit_unconditional_weights.safetensors").items()}
    torch.save({"ema": averaged, "model": {k: v * 0 for k, v in averaged.items()}}, dit)
    return vae, dit


def test_released_files_become_a_checkpoint_that_generates(files: tuple[Path, Path], tmp_path: Path) -> None:
    convert_checkpoint(*files, small(), tmp_path / "out")
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.dit is not None
    assert not loaded.dit.conditional
    assert loaded.licence == "unknown"
    source = LatentDiffusion(tmp_path / "out")
    first, again = (source.generate([SceneSpec(0, 1, Conditions("left"))])[0] for _ in range(2))
    np.testing.assert_array_equal(first.semantics, again.semantics)
    assert first.semantics.shape == (4, 16, 16, 8)
    assert first.taxonomy == "carlasc"
    assert first.semantics.max() < 11  # the slot that never occurs is never decoded
    assert first.conditions.command is None
    assert first.provenance["poses"] == "unknown"


def test_pickle_and_safetensors_convert_alike(files: tuple[Path, Path], tmp_path: Path) -> None:
    convert_checkpoint(*files, small(), tmp_path / "a")
    plain = RECORDED / "vae_weights.safetensors", RECORDED / "dit_unconditional_weights.safetensors"
    convert_checkpoint(*plain, small(), tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w.pop("encoder.tokens.tz"), "encoder.tokens.tz is missing"),
        (lambda w: w.update(extra=torch.zeros(2)), "unexpected tensor extra"),
        (lambda w: w.update({"encoder.convs.tx.0.bias": torch.zeros(9)}), r"encoder.convs.tx.0.bias has shape \[9\]"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    weights = load_file(RECORDED / "vae_weights.safetensors")
    damage(weights)
    save_file(weights, tmp_path / "vae.safetensors")
    with pytest.raises(InputError, match=message):
        convert_checkpoint(tmp_path / "vae.safetensors", None, small(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_sizes_than_the_preset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose the preset"):
        convert_checkpoint(RECORDED / "vae_weights.safetensors", None, preset("carlasc"), tmp_path / "out")


def test_fewer_classes_than_the_label_space_are_refused(tmp_path: Path) -> None:
    weights = load_file(RECORDED / "vae_weights.safetensors")
    weights["encoder.embedding.weight"] = weights["encoder.embedding.weight"][:6].clone()
    save_file(weights, tmp_path / "vae.safetensors")
    with pytest.raises(InputError, match="knows 6 classes, carlasc has 11"):
        convert_checkpoint(tmp_path / "vae.safetensors", None, small(), tmp_path / "out")


class Explosive:
    """Unpickled, it would make a file in the working directory."""

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("content", [Explosive(), {"model_state_dict": {"a": Explosive()}}, [1, 2], {}])
def test_a_file_that_could_run_code_or_holds_no_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "vae.ckpt")
    with pytest.raises(InputError, match=r"vae\.ckpt"):
        convert_checkpoint(tmp_path / "vae.ckpt", None, small(), tmp_path / "out")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["vae.ckpt", "vae.safetensors"])
def test_a_torn_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match="not readable"):
        convert_checkpoint(tmp_path / name, None, small(), tmp_path / "out")


@pytest.mark.parametrize("content", [b"hi\n", b"a,b,c\n1,2,3\n", b"\x80\x02}q\x01.", b"", bytes(range(256)) * 8])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    """Torch's unpickler ends in a KeyError, IndexError or worse, as the bytes lead it."""
    (tmp_path / "vae.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"vae\.pt"):
        convert_checkpoint(tmp_path / "vae.pt", None, small(), tmp_path / "out")


def test_an_altered_position_table_is_refused(tmp_path: Path) -> None:
    weights = load_file(RECORDED / "dit_unconditional_weights.safetensors")
    weights["pos_embed"] = weights["pos_embed"] + 0.01
    save_file(weights, tmp_path / "dit.safetensors")
    with pytest.raises(InputError, match="pos_embed"):
        convert_checkpoint(
            RECORDED / "vae_weights.safetensors", tmp_path / "dit.safetensors", small(), tmp_path / "out"
        )
