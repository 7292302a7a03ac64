"""A plain published model with random weights, and ours with the same weights as a checkpoint would bring them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from plain_dit import PlainDiT
from plain_vae import PlainVAE
from torch import Tensor, nn

from dyncity.config import Config
from dyncity.config_file import override
from dyncity.models.dit import DiT
from dyncity.models.vae import HexPlaneVAE
from dyncity.presets import preset
from dyncity.released import ReleasedTensors, dit_tensors, vae_tensors

Weights = Mapping[str, Tensor]
SMALL = {
    "clip.frames": 4,
    "grid.shape": [8, 8, 4],
    "vae.channels": 8,
    "vae.latent_channels": 3,
    "vae.query_channels": 6,
    "vae.hidden_low": 10,
    "vae.hidden_high": 7,
    "vae.projection_hidden": 12,
    "vae.class_slots": 12,
    "dit.width": 32,
    "dit.depth": 2,
    "dit.heads": 4,
}


def small(**changed: object) -> Config:
    """The published configuration at small sizes; keys with ``__`` for a dot."""
    settings = SMALL | {key.replace("__", "."): value for key, value in changed.items()}
    return override(preset("carlasc"), [f"{key}={value}" for key, value in settings.items()])


def randomise(model: nn.Module, seed: int) -> None:
    """Random values for every parameter, norms, biases and zero-initialised layers included."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1:
                value.copy_(float(name.endswith("weight")) + 0.3 * torch.randn_like(value))
            else:
                value.copy_(torch.randn_like(value) * (value.numel() / len(value)) ** -0.5)


def tensors_of_vae(weights: Weights, config: Config) -> dict[str, Tensor]:
    return vae_tensors(ReleasedTensors(Path("random"), dict(weights)), config)


def tensors_of_dit(weights: Weights, config: Config) -> dict[str, Tensor]:
    return dit_tensors(ReleasedTensors(Path("random"), dict(weights)), config)


def vae_pair(config: Config, classes: int, seed: int = 0) -> tuple[PlainVAE, HexPlaneVAE]:
    """``class_slots`` logits, of which the first ``classes`` are decoded."""
    plain = PlainVAE(config, config.vae.class_slots).eval()
    randomise(plain, seed)
    ours = HexPlaneVAE(config.vae, config.clip_shape, classes).eval()
    ours.load_state_dict(tensors_of_vae(plain.state_dict(), config))
    return plain, ours


def dit_pair(config: Config, seed: int = 0) -> tuple[PlainDiT, DiT]:
    plain = PlainDiT(config).eval()
    randomise(plain, seed)
    ours = DiT(config.dit, config.vae.latent_channels, config.latent_shape, config.clip.frames).eval()
    ours.load_state_dict(tensors_of_dit(plain.state_dict(), config))
    return plain, ours
