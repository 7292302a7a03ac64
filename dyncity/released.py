"""Checkpoints of the released implementation of DynamicCity -> tensors of our VAE and DiT.

The released files are torch pickles (``.ckpt``: ``model_state_dict``, or ``ema`` for averaged weights) or
safetensors with the same names. Every tensor has to be there, in the shape that the configuration
asks for, and none may be left over.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dyncity.bounded_files import check_tensors_header
from dyncity.checkpoint import build_dit, build_vae, save_checkpoint
from dyncity.conditions import COMMANDS
from dyncity.config import Config, DiTConfig
from dyncity.errors import InputError
from dyncity.hexplane import PLANES, rollout_shape
from dyncity.models.dit import position_embedding
from dyncity.taxonomy import taxonomy

_POSITIONS_TOLERANCE = 1e-4
_METRES = 10.0  # our trajectories enter the network in units of 10 m


@dataclass
class ReleasedTensors:
    """The tensors of one file, taken out one by one; what is left at the end is unexpected."""

    path: Path
    left: dict[str, Tensor]

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name as float32.

        Raises:
            InputError: it is missing or has another shape.
        """
        if name not in self.left:
            raise InputError(self.path, f"tensor {name} is missing", "give a checkpoint of this configuration")
        tensor = self.left.pop(name)
        if tuple(tensor.shape) != shape:
            raise InputError(
                self.path,
                f"{name} has shape {list(tensor.shape)}, not {list(shape)}",
                "choose the preset, and sizes with --set, that it was trained with",
            )
        return tensor.float()

    def nothing_left(self) -> None:
        """Raises InputError when a tensor was not taken."""
        for name in sorted(self.left):
            raise InputError(self.path, f"unexpected tensor {name}", "give a checkpoint of this configuration")


def read_released(path: Path) -> ReleasedTensors:
    """The tensors of a released file; averaged weights (``ema``) where it has them.

    Raises:
        InputError: no such file, or neither safetensors nor a plain torch checkpoint.
    """
    fix = "give a released .ckpt or .pt, or safetensors with the released names"
    if not path.is_file():
        raise InputError(path, "there is no such file", fix)
    if path.suffix == ".safetensors":
        check_tensors_header(path, fix)
        try:
            return ReleasedTensors(path, load_file(path))
        except (SafetensorError, OSError) as error:
            raise InputError(path, f"not readable as safetensors ({error})", fix) from None
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of a file of another kind, torch's unpickler fails with whatever its bytes lead to
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise InputError(path, f"not readable as plain torch weights ({reason})", fix) from None
    for key in ("ema", "model_state_dict", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(path, "holds no table of named tensors", fix)
    # Weights saved from a model that was wrapped for several GPUs carry a prefix.
    return ReleasedTensors(path, {str(name).removeprefix("module."): tensor for name, tensor in content.items()})


def _check_archive(path: Path) -> None:
    """Raise ValueError where a torch archive holds more than its file: torch itself writes it uncompressed."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the file")


def vae_tensors(source: ReleasedTensors, config: Config) -> dict[str, Tensor]:
    """Our VAE's tensors, by their names in ``HexPlaneVAE``.

    Two rewritings keep the numbers: the one-hot frame channels of the first temporal convolution become
    a bias a frame, and the last decoder layers read features and coordinate sinusoids apart.
    """
    vae, c, q = config.vae, config.vae.channels, config.vae.query_channels
    ft, *factors = vae.downsample
    t, x, y, z = config.clip_shape
    low, high, latent = vae.hidden_low, vae.hidden_high, vae.latent_channels
    slots = vae.class_slots or len(taxonomy(config.taxonomy))
    out: dict[str, Tensor] = {}

    def layer(ours: str, theirs: str, *shape: int, flat: bool = False) -> None:
        """Weight and bias; ``flat`` where a 1x1 convolution is a linear map here."""
        weight = source.take(f"{theirs}.weight", *shape)
        out[f"{ours}.weight"] = weight.flatten(1) if flat else weight
        out[f"{ours}.bias"] = source.take(f"{theirs}.bias", shape[0])

    embedding = source.take("encoder.embedding.weight", slots, c)
    # Nothing was unknown to the released model: its embedding of free stands for it.
    out["encoder.features.embedding.weight"] = torch.cat([embedding, embedding[:1]])
    for ours, theirs, told in (("spatial", "voxel_encoder", 0), ("temporal", "t_encoder", t)):
        a, b = f"encoder.features.{ours}", f"encoder.{theirs}"
        first = source.take(f"{b}.conv0.weight", c, c + told, 3, 3, 3)
        out[f"{a}.first.weight"], out[f"{a}.first.bias"] = first[:, :c], source.take(f"{b}.conv0.bias", c)
        if told:
            out[f"{a}.time_bias"] = first[:, c:].sum((2, 3, 4)).T
        for i, conv in enumerate(("conv1.0", "conv1.3")):
            layer(f"{a}.rest.0.layers.{3 * i}", f"{b}.{conv}", c, c, 3, 3, 3)
        if max(factors) > 1:
            layer(f"{a}.rest.1", f"{b}.down.0.0", c, c, *factors)
            for i, conv in enumerate(("down.1.0", "down.1.3")):
                layer(f"{a}.rest.3.layers.{3 * i}", f"{b}.{conv}", c, c, 3, 3, 3)
    size = dict(zip("txyz", (t, x // factors[0], y // factors[1], z // factors[2]), strict=True))
    for plane in ("xyz", *PLANES):
        whole = "txyz" if "t" in plane or plane == "xyz" else "xyz"
        reduced = 1
        for axis in set(whole) - set(plane):
            reduced *= size[axis]
        ours = "encoder.features.over_time" if plane == "xyz" else f"encoder.project.{plane}"
        out[f"{ours}.reduce.token"] = source.take(f"encoder.tokens.{plane}", 1, 1, c)
        out[f"{ours}.reduce.positions"] = source.take(f"encoder.pos_encodings.{plane}", 1, reduced + 1, c)
        for i in range(vae.projection_layers):
            a, b, hidden = (
                f"{ours}.reduce.layers.{i}",
                f"encoder.transformers.{plane}.layers.{i}",
                vae.projection_hidden,
            )
            layer(f"{a}.norm1", f"{b}.0.0", c)
            out[f"{a}.qkv.weight"] = source.take(f"{b}.0.1.qkv.weight", 3 * c, c)
            layer(f"{a}.out", f"{b}.0.1.proj", c, c)
            layer(f"{a}.norm2", f"{b}.1.0", c)
            layer(f"{a}.mlp.0", f"{b}.1.1.fc1", hidden, c)
            layer(f"{a}.mlp.2", f"{b}.1.1.fc2", c, hidden)
        for i in (0, 2):
            layer(f"{ours}.mix.{i}", f"encoder.convs.{plane}.{i}", c, c, *[1] * len(plane), flat=True)
    grouped = {
        (side, part): (
            source.take(f"decoder.conv_block.{name}.weight", 3 * q, inputs, kernel, kernel),
            source.take(f"decoder.conv_block.{name}.bias", 3 * q),
        )
        for side in "ht"
        for part, name, inputs, kernel in (
            ("conv1", f"in_layers_{side}", latent, 3),
            ("conv2", f"out_layers_{side}.1", q, 3),
            ("shortcut", f"shortcut_{side}", latent, 1),
        )
    }
    for number, plane in enumerate(PLANES):
        layer(f"to_latent.{plane}", f"vae.fc_mu_logvar.{number}", 2 * latent, c)
        if "t" in plane and ft > 1:
            layer(f"encoder.halve_time.{plane}", f"encoder.downsamplers.{number}.down.1.0", c, c, ft, 1)
        for part in ("conv1", "conv2", "shortcut"):
            weight, bias = grouped["ht"[number // 3], part]
            own = slice(q * (number % 3), q * (number % 3 + 1))
            out[f"decoder.planes.{plane}.{part}.weight"] = weight[own]
            out[f"decoder.planes.{plane}.{part}.bias"] = bias[own]
        layer(f"decoder.planes.{plane}.norm", f"decoder.conv_block.norms.{number}", q)
        a, b = f"decoder.planes.{plane}.up", f"decoder.hex_upsample_block.{number}.upsample"
        layer(f"{a}.0", f"{b}.0", q, q, ft if "t" in plane else 1, 1)
        layer(f"{a}.3", f"{b}.3", q, q, 3, 3)
    a, b = "decoder.voxels", "decoder.voxel_decoder"
    layer(f"{a}.expand.0", f"{b}.conv_in.0", low, q, 1, 1, 1, flat=True)
    for j in (0, 3):
        layer(f"{a}.mix.0.layers.{j}", f"{b}.conv_layers.0.{j}", low, low, 3, 3, 3)
        layer(f"{a}.mix.1.layers.{j}", f"{b}.conv_layers.1.{j}", low, low, 1, 1, 1, flat=True)
    up = source.take(f"{b}.transpose_conv.weight", low, high, *factors)
    out[f"{a}.up.weight"], out[f"{a}.up.bias"] = up, source.take(f"{b}.transpose_conv.bias", high)
    joined = source.take(f"{b}.final_conv.0.weight", slots, high + 24, 1, 1, 1).flatten(1)
    out[f"{a}.to_class.weight"] = joined[:, :high]
    out[f"{a}.to_class.bias"] = source.take(f"{b}.final_conv.0.bias", slots)
    waves = joined[:, high:].unflatten(1, (3, 2, 4))  # frequency, sine or cosine, axis
    for dimension in range(4):
        out[f"{a}.positions.{dimension}"] = waves[..., dimension].transpose(1, 2).flatten(1)
    layer(f"{a}.head.2", f"{b}.final_conv.3", slots, slots, 1, 1, 1, flat=True)
    source.nothing_left()
    return out


def dit_tensors(source: ReleasedTensors, config: Config) -> dict[str, Tensor]:
    """Our DiT's tensors, by their names in ``DiT``; metres of a trajectory are folded into its first layer."""
    dit, d, p = config.dit, config.dit.width, config.dit.patch
    channels, frames = config.vae.latent_channels, config.clip.frames
    out: dict[str, Tensor] = {}

    def layer(ours: str, theirs: str, *shape: int) -> None:
        out[f"{ours}.weight"] = source.take(f"{theirs}.weight", *shape).flatten(1)
        out[f"{ours}.bias"] = source.take(f"{theirs}.bias", shape[0])

    rows, columns = (side // p for side in rollout_shape(config.latent_shape))
    positions = source.take("pos_embed", 1, rows * columns, d)[0]
    if (positions - position_embedding(d, rows, columns)).abs().max() > _POSITIONS_TOLERANCE:
        raise InputError(source.path, "pos_embed is not the fixed sin-cos table", "give released, unaltered weights")
    layer("embed", "x_embedder.proj", d, channels, p, p)
    layer("time.mlp.0", "t_embedder.mlp.0", d, 256)
    layer("time.mlp.2", "t_embedder.mlp.2", d, d)
    if dit.command:
        table = source.take("cmd_emb.embedder.weight", len(COMMANDS), d)
        out["command.weight"] = torch.cat([table, table.new_zeros(1, d)])
    if dit.trajectory:
        layer("trajectory.0", "traj_emb.embedder.0", d, 3 * frames)
        units = torch.tensor([_METRES, _METRES, 1.0]).repeat(frames)
        out["trajectory.0.weight"] = out["trajectory.0.weight"] * units
        layer("trajectory.2", "traj_emb.embedder.2", d, d)
        layer("trajectory.4", "traj_emb.embedder.4", d, d)
    if dit.previous:
        layer("previous", "hex_emb.embedder.proj", d, channels, p, p)
    if dit.layout:
        layer("layout", "layout_emb.embedder.proj", 1, frames, p, p)
    for i in range(dit.depth):
        a = b = f"blocks.{i}"
        layer(f"{a}.qkv", f"{b}.attn.qkv", 3 * d, d)
        layer(f"{a}.out", f"{b}.attn.proj", d, d)
        layer(f"{a}.mlp.0", f"{b}.mlp.fc1", 4 * d, d)
        layer(f"{a}.mlp.2", f"{b}.mlp.fc2", d, 4 * d)
        layer(f"{a}.modulation.1", f"{b}.adaLN_modulation.1", 6 * d, d)
        if dit.cross_attention:
            layer(f"{a}.cross.q", f"{b}.x_attn.q", d, d)
            layer(f"{a}.cross.kv", f"{b}.x_attn.kv", 2 * d, d)
            layer(f"{a}.cross.out", f"{b}.x_attn.proj", d, d)
    layer("last.modulation.1", "final_layer.adaLN_modulation.1", 2 * d, d)
    layer("last.linear", "final_layer.linear", 2 * channels * p * p, d)
    source.nothing_left()
    return out


def conditions_of(source: ReleasedTensors, dit: DiTConfig) -> DiTConfig:
    """The configuration with the conditions that a released DiT knows, by the embedders it has."""

    def has(mark: str) -> bool:
        return any(name.startswith(mark) for name in source.left)

    return replace(
        dit,
        command=has("cmd_emb."),
        trajectory=has("traj_emb."),
        previous=has("hex_emb."),
        layout=has("layout_emb."),
        cross_attention=has("blocks.0.x_attn."),
    )


def convert_checkpoint(vae: Path, dit: Path | None, config: Config, out: Path) -> Config:
    """Write a checkpoint folder from released files; returns its configuration.

    The DiT's conditions are read off its tensors. Latents stay as they are: nothing was normalised.

    Raises:
        InputError: unreadable files; tensors missing, unexpected or of another shape.
    """
    first = read_released(vae)
    slots = first.left["encoder.embedding.weight"].shape[0] if "encoder.embedding.weight" in first.left else 0
    if 0 < slots < (classes := len(taxonomy(config.taxonomy))):
        raise InputError(
            vae, f"knows {slots} classes, {config.taxonomy} has {classes}", "choose the preset that it was trained with"
        )
    config = replace(config, vae=replace(config.vae, class_slots=slots))
    tensors = {f"vae.{name}": tensor for name, tensor in vae_tensors(first, config).items()}
    if dit is not None:
        second = read_released(dit)
        config = replace(config, dit=conditions_of(second, config.dit))
        tensors |= {f"dit.{name}": tensor for name, tensor in dit_tensors(second, config).items()}
        shape = (len(PLANES), config.vae.latent_channels)
        tensors |= {"latent.mean": torch.zeros(shape), "latent.std": torch.ones(shape)}
        build_dit(config).load_state_dict(dict(_own(tensors, "dit")))
    build_vae(config).load_state_dict(dict(_own(tensors, "vae")))
    names = ", ".join(path.name for path in (vae, dit) if path is not None)
    save_checkpoint(out, config, tensors, _card(config, names), "unknown")
    return config


def _own(tensors: dict[str, Tensor], prefix: str) -> list[tuple[str, Tensor]]:
    return [(name.removeprefix(f"{prefix}."), t) for name, t in tensors.items() if name.startswith(f"{prefix}.")]


def _card(config: Config, names: str) -> str:
    return f"""# A converted checkpoint of DynamicCity

Converted by `dyncity convert-checkpoint` from {names}; configuration `{config.preset}`. The weights are the
released ones; their terms of use are their publisher's. The numbers they give are the released model's to 1e-4.

    dyncity generate --checkpoint THIS_FOLDER --out corpus
"""
