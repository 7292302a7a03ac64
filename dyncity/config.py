"""The configuration: frozen dataclasses, loaded strictly, written out in full.

A preset (``dyncity.presets``) is a function that returns a Config. A YAML or JSON file and
``--set a.b=c`` override single values; an unknown key or a wrong type is an error that names the key.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from dyncity.bounded_files import MAX_YAML_BYTES, plain_yaml, read_json, read_text
from dyncity.errors import InputError
from dyncity.grid import GridSpec

# YAML 1.1 reads 8e-4 as a string, since it has no point; everybody else means a number.
_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+")


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """What the model sees of a scene.

    Attributes:
        frames: frames t of a clip.
        planes: "world": one grid for all frames, fixed to the world at the anchor's pose
            (``dyncity.anchoring``); "ego": a grid that moves with the ego, as published.
        margin: voxels by which the world-fixed grid exceeds the export window on each side, (x, y).
    """

    frames: int
    planes: Literal["world", "ego"] = "world"
    margin: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """The HexPlane VAE (paper section 3).

    Attributes:
        channels: C, width of the encoder.
        encoder: "frames" (published): two encoders of 3x3x3 convolutions read every frame, one for the
            spatial planes, one, told the frame index, for the temporal planes; "change": cells are
            embedded whole, the spatial planes read the mean over time, which under world-fixed planes
            is the static city, the temporal planes how each frame differs from it: the movers, and the xy
            plane also what each cell sees when.
        projection: "attention" (published) or "linear", learned linear maps of the reduced axes.
        projection_heads, projection_hidden, projection_layers: of the transformers of "attention".
        downsample: factors along t, x, y, z; t only for the temporal planes.
        latent_channels: channels of each latent plane.
        fusion: how Expansion & Squeeze joins the planes: "product" (published) multiplies all six;
            "both" stacks product and sum of the spatial and of the temporal planes; the latter also sums
            what a matrix for each frame reads from the xy plane: who is there when.
        query_channels: Q, channels of the planes in Expansion & Squeeze.
        hidden_low, hidden_high: decoder channels before and after upsampling.
        kl_weight: weight of the KL term.
        class_weight_power: class weights are frequency ** -power, scaled to a mean of 1 over voxels.
        class_slots: channels of the logits, at least the classes of the label space (the released
            configuration has one that never occurs); 0: as many as there are classes.
        recompute: in training keep only the outputs of 3D convolutions for the gradient and compute the
            rest again: a third of the memory for a tenth more time, and the same numbers.
    """

    channels: int = 16
    encoder: Literal["frames", "change"] = "frames"
    projection: Literal["attention", "linear"] = "attention"
    projection_heads: int = 2
    projection_hidden: int = 32
    projection_layers: int = 2
    downsample: tuple[int, int, int, int] = (2, 2, 2, 2)
    latent_channels: int = 16
    fusion: Literal["product", "both"] = "product"
    query_channels: int = 64
    hidden_low: int = 128
    hidden_high: int = 32
    kl_weight: float = 0.0015
    class_weight_power: float = 1 / 3
    class_slots: int = 0
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class DiTConfig:
    """The diffusion transformer (paper section 4).

    Attributes:
        width, depth, heads: size of the transformer.
        patch: edge of a square patch of the padded rollout.
        objective: "ddpm": noise prediction with learned-range variance (published); "flow": rectified
            flow, the velocity alone.
        predicts: flow only. "velocity": the network answers with it; "data": the network answers with the
            clean rollout and the velocity follows from it, so that a narrow network need not carry the
            noise of a large patch from its input to its output (Li & He 2025, "Back to basics").
        time_mean: flow only. Mean of the logit of training times: above 0 there are more rows near noise, where a
            map of large redundancy is decided (Esser et al. 2024; Li & He 2025 use 0.8).
        command, trajectory: which vector conditions the model knows.
        previous: the rollout of the chunk before as a condition, a value a token.
        layout: the vehicles seen from above in each frame as a condition, a value a token.
        cross_attention: tokens also attend to ``previous`` and ``layout`` (published).
        path_plane: draw the ego path into the xy plane as an input channel (world-fixed planes).
        layout_plane: what must be where, seen from above, as input channels of the xy plane.
        given: voxels that are given (``dyncity.models.given``) as input channels of all planes.
        refine: channels of the convolutions that finish the answer at the resolution of the rollout; 0: none.
        refine_coarse: channels of those that ``refine`` has at half the resolution; 0: none.
        drop_condition: probability to drop a condition of a training sample.
        mover_weight: flow only. How much more errors count along what movers add to a cell of the latent planes
            (``dyncity.training.mover_cells``); 0: errors count alike in all directions.
    """

    width: int = 384
    depth: int = 16
    heads: int = 8
    patch: int = 2
    objective: Literal["ddpm", "flow"] = "ddpm"
    predicts: Literal["velocity", "data"] = "velocity"
    time_mean: float = 0.0
    command: bool = True
    trajectory: bool = True
    previous: bool = False
    layout: bool = False
    cross_attention: bool = False
    path_plane: bool = False
    layout_plane: bool = False
    given: bool = False
    refine: int = 0
    refine_coarse: int = 0
    drop_condition: float = 0.1
    mover_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Drawing latents.

    Attributes:
        sampler: for "ddpm": "ancestral" (published), "ddim", "dpmpp_2m"; for "flow": "euler", "heun".
        steps: of the solver; "heun" evaluates the model twice a step.
        time_shift: of the noise levels of those steps (``dyncity.diffusion.flow.noise_levels``; flow alone); 1 is none.
        cfg_scale: classifier-free guidance u + s (c - u); 1 is none.
        cfg_scale_layout: the same for scenes with a layout, where it is more; 0 is ``cfg_scale``.
        cfg_interval: guide only at noise levels within; 0 is data, 1 is noise.
        coarse_scale: guidance by what the model lacks without ``dit.refine_coarse``; 0 is none.
        skip_scale, skip_block, skip_interval: the same without a block of the transformer, at noise levels within.
        join_rounds, join_interval: a sample that holds given cells (``dyncity.diffusion.joining``; flow alone) is told
            of them above these noise levels, and finds them in place from there on; steps of "euler" at levels within
            are taken so many times. 0 rounds: it is told throughout.
        micro_batch: scenes drawn together.
        smallest_vehicle: length, width, height, metres; pieces of vehicles that are less than that in one of the three
            are taken out of what is decoded. Zeros keep them.
        precision: "bfloat16" runs matrix products in half precision.
        attention: backend of the DiT, ``dyncity.models.attention``; "auto" is the fastest that is exact here.
    """

    sampler: Literal["ancestral", "ddim", "dpmpp_2m", "euler", "heun"] = "ancestral"
    steps: int = 50
    time_shift: float = 1.0
    cfg_scale: float = 4.0
    cfg_scale_layout: float = 0.0
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    coarse_scale: float = 0.0
    skip_scale: float = 0.0
    skip_block: int = 0
    skip_interval: tuple[float, float] = (0.0, 1.0)
    join_rounds: int = 0
    join_interval: tuple[float, float] = (0.0, 1.0)
    micro_batch: int = 1
    smallest_vehicle: tuple[float, float, float] = (0.0, 0.0, 0.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["auto", "sdpa", "flash_attn", "fa4"] = "auto"


SAMPLERS = {"ddpm": ("ancestral", "ddim", "dpmpp_2m"), "flow": ("euler", "heun")}


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run.

    Attributes:
        steps: optimiser steps.
        batch: clips a step over all workers.
        micro_batch: clips that a worker takes through the network at once; the gradients of the rest of its
            share of the batch are accumulated, which changes a result by rounding alone. 0: its whole share.
        lr: peak learning rate, warmed up over ``warmup`` steps, then cosine to a tenth.
        ema: decay of the averaged weights, which are what a run ships.
        decoded_frames: VAE only: frames of a clip that are decoded in a step (0: all).
        precision: "bfloat16" runs convolutions and matrix products in half precision (autocast).
        compile: run the model through torch.compile.
        attention: backend of the DiT, as in SamplingConfig.
        eval_every, checkpoint_every: in steps.
        seed: root seed of batches, noise and weights.
    """

    steps: int
    batch: int
    lr: float
    micro_batch: int = 0
    warmup: int = 100
    ema: float = 0.999
    weight_decay: float = 0.0
    clip_grad: float = 1.0
    decoded_frames: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    attention: Literal["auto", "sdpa", "flash_attn", "fa4"] = "auto"
    eval_every: int = 500
    checkpoint_every: int = 500
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """All that is configured. ``grid`` is the ego-centred window that scenes are exported in."""

    preset: str
    grid: GridSpec
    clip: ClipConfig
    taxonomy: str
    vae: VAEConfig
    dit: DiTConfig
    sampling: SamplingConfig
    train_vae: TrainConfig
    train_dit: TrainConfig

    def __post_init__(self) -> None:
        if self.clip.planes == "ego" and self.clip.margin != (0, 0):
            raise InputError("clip.margin", f"found {self.clip.margin}", "use 0,0 where clip.planes is ego")
        for name, count, factor in zip("txyz", self.clip_shape, self.vae.downsample, strict=True):
            if count % factor:
                raise InputError(
                    "vae.downsample", f"{factor} does not divide {name} = {count}", "choose factors that do"
                )
        if self.dit.width % self.dit.heads:
            raise InputError("dit.heads", f"{self.dit.heads} does not divide width {self.dit.width}", "fix one")
        if self.sampling.sampler not in (fitting := SAMPLERS[self.dit.objective]):
            raise InputError(
                "sampling.sampler",
                f"{self.sampling.sampler} does not solve dit.objective = {self.dit.objective}",
                f"use one of {', '.join(fitting)}",
            )
        if self.sampling.coarse_scale and not self.dit.refine_coarse:
            found = f"found {self.sampling.coarse_scale} without dit.refine_coarse"
            raise InputError("sampling.coarse_scale", found, "set it to 0")
        if self.sampling.skip_scale and not 0 <= self.sampling.skip_block < self.dit.depth:
            found = f"found {self.sampling.skip_block} with dit.depth = {self.dit.depth}"
            raise InputError("sampling.skip_block", found, f"give 0 to {self.dit.depth - 1}, or set skip_scale to 0")

    @property
    def clip_grid(self) -> GridSpec:
        """The grid that the model works in."""
        return self.grid.padded(self.clip.margin)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(t, x, y, z) of a clip in the model's grid."""
        return (self.clip.frames, *self.clip_grid.shape)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(t, x, y, z) of the latent planes."""
        t, x, y, z = (n // f for n, f in zip(self.clip_shape, self.vae.downsample, strict=True))
        return (t, x, y, z)


def to_dict(value: Any) -> Any:
    """A configuration as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_dict(v) for v in value]
    return value


def _convert(kind: Any, value: Any, key: str, where: str) -> Any:
    """``value`` as ``kind``, or InputError naming the key."""
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where, key)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value in args:
            return value
        raise InputError(where, f"{key} is {_shown(value)}", f"use one of {', '.join(map(str, args))}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, key, where)
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(args):
        return tuple(_convert(a, v, key, where) for a, v in zip(args, value, strict=True))
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    name = f"a list of {len(args)}" if origin is tuple else getattr(kind, "__name__", str(kind))
    raise InputError(where, f"{key} is {_shown(value)}", f"give {name}")


def _shown(value: Any) -> str:
    """A value for an error, cut: the file that it is from may hold anything."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


@functools.cache  # a manifest has a record a shard, and resolving annotations takes longer than all the rest
def _fields(kind: Any) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, Any]]:
    """The fields of a dataclass and their types, by name."""
    return {f.name: f for f in dataclasses.fields(kind)}, typing.get_type_hints(kind)


def from_dict(kind: Any, values: Any, where: str, prefix: str = "") -> Any:
    """A configuration dataclass from plain values, strictly.

    Args:
        kind: the dataclass.
        values: a mapping with a value for every field without a default.
        where: the file or option that errors name.
        prefix: the dotted key of ``values`` itself.

    Raises:
        InputError: unknown or missing keys, wrong types; the message names the key.
    """
    if not isinstance(values, dict):
        raise InputError(where, f"{prefix or 'the whole'} is {type(values).__name__}", "give a mapping of keys")
    fields, hints = _fields(kind)
    for key in values:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(fields)}"
            raise InputError(where, f"unknown key {'.'.join(filter(None, (prefix, str(key))))!r}", hint)
    given = {}
    for name, field in fields.items():
        key = ".".join(filter(None, (prefix, name)))
        if name in values:
            given[name] = _convert(hints[name], values[name], key, where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(where, f"key {key!r} is missing", "add it")
    return kind(**given)


def read_config(path: Path) -> Config:
    """Config from a ``config.json`` that ``write_config`` wrote."""
    values = read_json(path, "give a folder that holds config.json", MAX_YAML_BYTES)
    return from_dict(Config, values, str(path))


def config_json(config: Config) -> str:
    """The configuration in full, as JSON text."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def override(config: Config, settings: list[str], file: Path | None = None) -> Config:
    """``config`` with a YAML or JSON file and then ``a.b=c`` settings laid over it.

    Raises:
        InputError: a file that is not a mapping, an unknown key, a wrong type.
    """
    values = to_dict(config)
    if file is not None:
        try:
            loaded = plain_yaml(read_text(file, "give a YAML or JSON file", MAX_YAML_BYTES))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(file, f"not readable as YAML ({error})", "give a YAML or JSON file") from None
        if not isinstance(loaded, dict):
            raise InputError(file, f"found {type(loaded).__name__}", "give a mapping of keys")
        _merge(values, loaded)
        config = from_dict(Config, values, str(file))
        values = to_dict(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError("--set", f"found {setting!r}", "write it as a.b=c")
        try:
            value = plain_yaml(text)
        except ValueError:
            raise InputError("--set", f"found {setting!r}", "write the value as YAML, e.g. 3 or [1, 2]") from None
        *parents, last = key.split(".")
        node: dict[str, Any] = {last: value}
        for parent in reversed(parents):
            node = {parent: node}
        _merge(values, node)
    return from_dict(Config, values, "--set") if settings else config


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Lay ``changes`` over ``values``, mapping by mapping, in place."""
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            _merge(values[key], change)
        else:
            values[key] = change
