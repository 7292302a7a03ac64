"""Numbers recorded from the released implementation, the configuration they were made with, and how close is close.

``tests/recorded`` holds a subset of ``../shared/reference``, which is read where it is there.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dyncity.config import Config
from dyncity.config_file import override
from dyncity.presets import preset

PLACES = {
    "recorded": Path(__file__).parent / "recorded",
    "reference": Path(__file__).parents[2] / "shared" / "reference",
}
CONDITIONS = ("command", "trajectory", "previous", "layout", "cross_attention")


def folder_of(name: str) -> Path:
    """The folder of recordings of that name; skips the test where it is not there."""
    if not PLACES[name].is_dir():
        pytest.skip(f"no recorded numbers at {PLACES[name]}")
    return PLACES[name]


def close(ours: Tensor, theirs: Tensor) -> None:
    """Every value to 1e-4 of itself, and the whole tensor to 2e-5 of its norm.

    Values near zero are sums that cancel: to 3e-5 of the root mean square. So a value altered by a thousandth is
    noticed down to a thirtieth of that; what float32 leaves between two orders of summation is some 1e-6 of it.
    """
    assert ours.shape == theirs.shape
    size = float(theirs.detach().square().mean().sqrt())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=3e-5 * size)
    assert float((ours - theirs).detach().norm()) <= 2e-5 * float(theirs.detach().norm())


def config_of(folder: Path) -> Config:
    """The recorded sizes as a configuration of ours."""
    said = json.loads((folder / "config.json").read_text())
    halved = [2**n for n in (said["hex_down_t"], *said["down_xyz"])]
    settings = {
        "grid.shape": said["grid"],
        "clip.frames": said["frames"],
        "vae.channels": 8,
        "vae.class_slots": said["classes"],
        "vae.downsample": halved,
        "vae.latent_channels": said["latent_channels"],
        "vae.query_channels": said["query_channels"],
        "vae.hidden_low": said["conv_hidden_low_res"],
        "vae.hidden_high": said["conv_hidden_high_res"],
        "vae.projection_heads": said["transformer_heads"],
        "vae.projection_hidden": said["transformer_dim_mlp"],
        "vae.projection_layers": said["transformer_depth"],
        "dit.width": said["dit"]["hidden_size"],
        "dit.depth": said["dit"]["depth"],
        "dit.heads": said["dit"]["num_heads"],
        "dit.patch": said["dit"]["patch_size"],
    }
    return override(preset("carlasc"), [f"{key}={value}" for key, value in settings.items()])


def dit_config(folder: Path, kind: str) -> Config:
    """The configuration of the "conditional" model, which knows every condition, or the "unconditional" one."""
    return override(config_of(folder), [f"dit.{name}={str(kind == 'conditional').lower()}" for name in CONDITIONS])


def dit_weights(folder: Path, kind: str) -> Path:
    """The file of its weights; skips the test where the subset does not hold it."""
    file = folder / f"dit_{kind}_weights.safetensors"
    if not file.exists():
        pytest.skip("this subset holds the unconditional model only")
    return file
