from __future__ import annotations

import json
from pathlib import Path

import pytest

from dyncity.config import Config
from dyncity.config_file import config_json, from_dict, override, read_config, to_dict
from dyncity.errors import InputError
from dyncity.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_being_written_and_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config_json(preset(name)))
    assert read_config(tmp_path / "config.json") == preset(name)


def test_settings_override_single_values() -> None:
    config = override(preset("tiny"), ["train_vae.steps=7", "grid.shape=[32, 32, 8]", "dit.path_plane=false"])
    assert (config.train_vae.steps, config.grid.shape, config.dit.path_plane) == (7, (32, 32, 8), False)


def test_a_file_is_laid_under_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train_vae: {steps: 3, batch: 4}\n")
    config = override(preset("tiny"), ["train_vae.steps=9"], file)
    assert (config.train_vae.steps, config.train_vae.batch) == (9, 4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train_vae.stepz=3", "did you mean 'steps'"),
        ("trainvae.steps=3", "unknown key 'trainvae'"),
        ("train_vae.steps=many", "train_vae.steps is 'many'; give int"),
        ("train_vae.steps=true", "train_vae.steps is True; give int"),
        ("clip.planes=sky", "use one of world, ego"),
        ("grid.shape=[1, 2]", "grid.shape"),
        ("grid.shape=[63, 64, 8]", "2 does not divide x = 95"),
        ("dit.heads=5", "does not divide width"),
        ("nonsense", "write it as a.b=c"),
    ],
)
def test_bad_settings_name_the_key(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        override(preset("tiny"), [setting])


def test_unsafe_yaml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError, match="not readable as YAML"):
        override(preset("tiny"), [], file)


def test_missing_keys_and_damaged_files_are_named(tmp_path: Path) -> None:
    values = to_dict(preset("tiny"))
    del values["vae"]
    with pytest.raises(InputError, match="key 'vae' is missing"):
        from_dict(Config, values, "here")
    path = tmp_path / "config.json"
    with pytest.raises(InputError, match="no such file"):
        read_config(path)
    path.write_text(json.dumps(values)[:40])
    with pytest.raises(InputError, match="not readable as JSON"):
        read_config(path)


def test_unknown_presets_list_the_known_ones() -> None:
    with pytest.raises(InputError, match="tiny"):
        preset("huge")


def test_settings_that_only_fit_together_are_taken_together() -> None:
    config = override(preset("tiny"), ["dit.width=32", "dit.heads=2"])
    assert (config.dit.width, config.dit.heads) == (32, 2)


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert override(preset("tiny"), ["train_dit.lr=8e-4"]).train_dit.lr == 8e-4
