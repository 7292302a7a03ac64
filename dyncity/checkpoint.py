"""A checkpoint folder: ``model.safetensors``, ``config.json``, ``README.md``. Nothing in it can run code.

The tensors are named ``vae.*`` and, in a checkpoint that can generate, ``dit.*`` and ``latent.*`` (mean
and standard deviation of each plane and channel). Sampling needs no other file. ``model.safetensors.sha256``, which
older checkpoints do not have, says what the weights are; whoever reads them compares.
"""

from __future__ import annotations

import hashlib
import math
import os
import uuid
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dyncity.bounded_files import check_tensors_header
from dyncity.config import Config
from dyncity.config_file import config_json, read_config, to_dict
from dyncity.diffusion.latent_scale import LatentScale
from dyncity.errors import InputError
from dyncity.folder_kind import CHECKPOINT, not_wanted
from dyncity.hexplane import PLANES, rollout_shape
from dyncity.models.bounded_build import BoundedBuild, TooManyNumbers
from dyncity.models.dit import DiT
from dyncity.models.vae import HexPlaneVAE
from dyncity.noted_digest import checked_digest, forget_digest, note_digest, sha256_of
from dyncity.taxonomy import taxonomy

MAX_CLIP_VOXELS, MAX_TOKENS = 2**28, 2**17  # eight times and some dozen times the largest published size
# A model is made of its weights, of some of them in the making, and of tables: of positions, of what is masked.
_BUILT_TIMES, _BUILT_BESIDE = 4, 2**24
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_NO_CHECKPOINT = "give a folder that holds a checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint; ``dit`` and ``scale`` are None where only a VAE was trained.

    ``licence`` says the terms of the data it was trained on, "unknown" where the file does not; ``sha256`` is that of
    the file of the weights.
    """

    config: Config
    vae: HexPlaneVAE
    dit: DiT | None
    scale: LatentScale | None
    licence: str
    sha256: str


def build_vae(config: Config) -> HexPlaneVAE:
    """The VAE of a configuration, with fresh weights."""
    return HexPlaneVAE(config.vae, config.clip_shape, len(taxonomy(config.taxonomy)))


def build_dit(config: Config) -> DiT:
    """The DiT of a configuration, with fresh weights."""
    factors = config.vae.downsample[1:3]
    return DiT(config.dit, config.vae.latent_channels, config.latent_shape, config.clip.frames, factors)


def shipped_checkpoint() -> Path:
    """The folder of the checkpoint that comes with the package."""
    return Path(str(resources.files("dyncity.checkpoints"))) / "tiny"


def check_is_checkpoint(folder: Path, fix: str = _NO_CHECKPOINT) -> None:
    """Raise InputError where a folder holds no weights: what it is instead, and ``fix``."""
    if not (folder / WEIGHTS).is_file():
        raise not_wanted(folder, f"there is no {WEIGHTS} in it", fix, CHECKPOINT)


def weights_digest(folder: Path) -> str:
    """sha256 of the weights of a checkpoint, in hex, compared with the one noted beside them.

    Raises:
        InputError: there are none, or they are not what was written.
    """
    check_is_checkpoint(folder)
    path = folder / WEIGHTS
    check_tensors_header(path, _NO_CHECKPOINT)
    return checked_digest(path, "restore the file, or copy the checkpoint again")


def vae_digest(vae: HexPlaneVAE) -> str:
    """sha256 of the weights of a VAE, in hex: the same in every checkpoint that it is part of."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(folder: Path, config: Config, tensors: dict[str, Tensor], card: str, licence: str) -> None:
    """Write the files, each under a temporary name first, so that a reader sees old or new."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    weights = folder / f".{WEIGHTS}.{mark}"
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_tensors(plain, weights, {"licence": licence})
    weights.chmod(0o644)  # safetensors writes for the owner alone
    digest = sha256_of(weights)
    forget_digest(folder / WEIGHTS)
    os.replace(weights, folder / WEIGHTS)
    note_digest(folder / WEIGHTS, digest)
    for name, text in ((CONFIG, config_json(config)), (CARD, card)):
        part = folder / f".{name}.{mark}"
        part.write_text(text)
        os.replace(part, folder / name)


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; the library's word for a full disk is no OSError.

    Raises:
        InputError: the disk refuses.
    """
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        path.unlink(missing_ok=True)
        raise InputError(path, f"cannot be written ({error})", "make room, then go on with --resume") from None


def halve_checkpoint(source: Path, out: Path) -> None:
    """Copy a checkpoint with its weights in float16, half the size; sampling still runs in float32.

    The shipped checkpoint is made so. The card is copied as it is.

    Raises:
        InputError: the source is not a checkpoint.
    """
    config = read_config(source / CONFIG)
    tensors, licence, _ = _read_tensors(source)
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    save_checkpoint(out, config, halves, (source / CARD).read_text(), licence)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint folder strictly.

    Raises:
        InputError: missing or damaged files; weights that are not what was written; tensors missing, unexpected or of
            another shape.
    """
    check_is_checkpoint(folder)
    config = read_config(folder / CONFIG)
    tensors, licence, digest = _read_tensors(folder)
    has_dit = any(name.startswith("dit.") for name in tensors)
    numbers, fix = (
        sum(tensor.numel() for tensor in tensors.values()),
        "use the config.json that was written with these weights",
    )
    _check_sizes(config, len(tensors), numbers, folder / CONFIG)
    try:
        with BoundedBuild(_BUILT_TIMES * numbers + _BUILT_BESIDE):
            vae = build_vae(config)
            dit = build_dit(config) if has_dit else None
    except TooManyNumbers:
        found = f"describes a model that is larger than the {numbers} numbers of its weights"
        raise InputError(folder / CONFIG, found, fix) from None
    expected = _shapes("vae", vae)
    if dit is not None:
        stat = (len(PLANES), config.vae.latent_channels)
        expected |= _shapes("dit", dit) | {"latent.mean": stat, "latent.std": stat}
    _check(tensors, expected, folder / WEIGHTS, fix)
    _fill("vae", vae, tensors)
    scale = None
    if dit is not None:
        _fill("dit", dit, tensors)
        scale = LatentScale(tensors["latent.mean"].to(device), tensors["latent.std"].to(device))
        dit.eval().to(device)
    return Checkpoint(config, vae.eval().to(device), dit, scale, licence, digest)


def start_from(folder: Path, prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Fill a VAE ("vae") or DiT ("dit") with the weights of a checkpoint, to train them further; all its tensors.

    Raises:
        InputError: no such weights, or a tensor that is missing, unexpected or of another shape.
    """
    tensors, _, _ = _read_tensors(folder)
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
    if not own:
        raise InputError(folder, f"holds no {prefix}", f"give a run of dyncity train {prefix}, or a checkpoint")
    _check(own, _shapes(prefix, module), folder / WEIGHTS, "train with the settings that it was trained with")
    _fill(prefix, module, own)
    return tensors


def _read_tensors(folder: Path) -> tuple[dict[str, Tensor], str, str]:
    """All tensors of a checkpoint as float32, finite, the licence that their file states, and its sha256."""
    path, digest = folder / WEIGHTS, weights_digest(folder)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: _numbers(file.get_tensor(name), name, path) for name in file.keys()}  # noqa: SIM118
            return tensors, (file.metadata() or {}).get("licence", "unknown"), digest
    except (SafetensorError, OSError) as error:
        raise InputError(path, f"not a safetensors file ({error})", "restore the file") from None


def _numbers(tensor: Tensor, name: str, path: Path) -> Tensor:
    """A tensor of a checkpoint as float32; one of whole numbers, or that holds what is no number, is an InputError."""
    if not tensor.is_floating_point():
        raise InputError(path, f"tensor {name} is of {tensor.dtype}", "restore the file")
    if not torch.isfinite(numbers := tensor.float()).all():
        raise InputError(path, f"tensor {name} holds values that are not finite", "restore the file, or train again")
    return numbers


def _check_sizes(config: Config, tensors: int, numbers: int, path: Path) -> None:
    """Raise InputError where a model has more layers, or wider ones, than its weights have tensors and numbers."""
    fix = "use the config.json that was written with these weights"
    layers = {"dit.depth": config.dit.depth, "vae.projection_layers": config.vae.projection_layers}
    widths = {
        f"{part}.{name}": value
        for part in ("vae", "dit")
        for name, value in to_dict(getattr(config, part)).items()
        if type(value) is int and f"{part}.{name}" not in layers
    }
    for found, most, what in ((layers, tensors, "tensors"), (widths, numbers, "numbers")):
        for name, value in found.items():
            if not 0 <= value <= most:
                raise InputError(path, f"{name} is {value}, the weights have {most} {what}", fix)
    if math.prod(config.clip_shape) > MAX_CLIP_VOXELS:
        raise InputError(path, f"a clip of {config.clip_shape} voxels", f"at most {MAX_CLIP_VOXELS} are loaded")
    if math.prod(rollout_shape(config.latent_shape)) > MAX_TOKENS * max(1, config.dit.patch) ** 2:
        raise InputError(path, f"latents of {config.latent_shape}", f"at most {MAX_TOKENS} tokens are loaded")


def _shapes(prefix: str, module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{name}": tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _check(tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]], path: Path, fix: str) -> None:
    for name in expected.keys() - tensors.keys():
        raise InputError(path, f"tensor {name} is missing", fix)
    for name, tensor in tensors.items():
        if name not in expected:
            raise InputError(path, f"unexpected tensor {name}", fix)
        if tuple(tensor.shape) != expected[name]:
            raise InputError(path, f"{name} has shape {list(tensor.shape)}, not {list(expected[name])}", fix)


def _fill(prefix: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    start = len(prefix) + 1
    own = {name[start:]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
    module.load_state_dict(own)
