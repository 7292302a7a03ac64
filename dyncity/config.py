"""The configuration: frozen dataclasses, which dyncity.presets makes and dyncity.config_file reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dyncity.errors import InputError
from dyncity.grid import GridSpec


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
        sampler: for "ddpm": "ancestral" (published), "ddim", "dpmpp_2m"; for "flow": "euler", "heun", "ab2".
        steps: of the solver; "heun" evaluates the model twice a step.
        time_shift: of the noise levels of those steps (``dyncity.diffusion.flow.noise_levels``; flow alone); 1 is none.
        cfg_scale: classifier-free guidance u + s (c - u); 1 is none.
        cfg_scale_layout: the same for scenes with a layout, where it is more; 0 is ``cfg_scale``.
        cfg_interval: guide only at noise levels within; 0 is data, 1 is noise.
        coarse_scale, coarse_interval: guidance by what the model lacks without ``dit.refine_coarse``, at noise levels
            within; 0 is none.
        skip_scale, skip_block, skip_interval: the same without a block of the transformer.
        join_rounds, join_interval: a sample that holds given cells (``dyncity.diffusion.joining``; flow alone) is told
            of them above these noise levels, and finds them in place from there on; steps of "euler" at levels within
            are taken so many times. 0 rounds: it is told throughout.
        join_draws: an edit draws what is in a hole so many times and keeps what joins best what is around it
            (``generators.best_joined``).
        micro_batch: scenes drawn together.
        smallest_vehicle: length, width, height, metres; pieces of vehicles that are less than that in one of the three
            are taken out of what is decoded, and so are lumps of several. Zeros keep them.
        whole_vehicles: vehicles that are followed through three frames or more are drawn anew as boxes, in clips fixed
            to the world whose voxels are half a metre tall or taller.
        smallest_piece: voxels; smaller pieces of buildings, fences, vegetation and ground are taken out of a clip
            fixed to the world. 0 keeps them.
        widest_gap: metres; gaps up to so wide in walls and sidewalks, where nobody could have meant them, are closed in
            clips fixed to the world (``generators.whole_walls``). 0 closes none.
        longest_jog: metres; jogs up to so long, by one column, in edges of streets, lots and houses are taken out of
            clips fixed to the world (``generators.straight_edges``). 0 keeps them.
        upright: movers, poles, trunks and signs that float reach down to the ground, in clips fixed to the world
            whose voxels are half a metre tall or taller; and there trees have trunks and crowns.
        draw_asked: agents of a layout that are not decoded at their place are drawn there.
        precision: "bfloat16" runs matrix products in half precision.
        attention: backend of the DiT, ``dyncity.models.attention``; "auto" is the fastest that is exact here.
    """

    sampler: Literal["ancestral", "ddim", "dpmpp_2m", "euler", "heun", "ab2"] = "ancestral"
    steps: int = 50
    time_shift: float = 1.0
    cfg_scale: float = 4.0
    cfg_scale_layout: float = 0.0
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    coarse_scale: float = 0.0
    coarse_interval: tuple[float, float] = (0.0, 1.0)
    skip_scale: float = 0.0
    skip_block: int = 0
    skip_interval: tuple[float, float] = (0.0, 1.0)
    join_rounds: int = 0
    join_interval: tuple[float, float] = (0.0, 1.0)
    join_draws: int = 1
    micro_batch: int = 1
    smallest_vehicle: tuple[float, float, float] = (0.0, 0.0, 0.0)
    whole_vehicles: bool = True
    smallest_piece: int = 0
    widest_gap: float = 0.0
    longest_jog: float = 0.0
    upright: bool = True
    draw_asked: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["auto", "sdpa", "flash_attn", "fa4"] = "auto"


SAMPLERS = {"ddpm": ("ancestral", "ddim", "dpmpp_2m"), "flow": ("euler", "heun", "ab2")}


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
        sharding: where the weights lie: "ddp", all of them on every worker; "fsdp", a share on each; "auto" as their
            size and the devices ask for (``dyncity.training.sharding``). Changes a result by rounding alone.
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
    sharding: Literal["auto", "ddp", "fsdp"] = "auto"
    compile: bool = False
    attention: Literal["auto", "sdpa", "flash_attn", "fa4"] = "auto"
    eval_every: int = 500
    checkpoint_every: int = 500
    seed: int = 0


# From and to which value; what is left out is checked where it is used.
_INFINITE = float("inf")
_TRAINING = {
    **dict.fromkeys(("steps", "batch", "eval_every", "checkpoint_every"), (1, _INFINITE)),
    **dict.fromkeys(("micro_batch", "warmup", "decoded_frames", "seed", "lr", "weight_decay"), (0, _INFINITE)),
    "clip_grad": (1e-9, _INFINITE),
    "ema": (0, 1),
}
_RANGES = {
    "clip.frames": (1, _INFINITE),
    "clip.margin": (0, _INFINITE),
    "vae.downsample": (1, _INFINITE),
    "dit.width": (1, _INFINITE),
    "dit.heads": (1, _INFINITE),
    "dit.patch": (1, _INFINITE),
    "dit.drop_condition": (0, 1),
    "dit.mover_weight": (0, _INFINITE),
    **{f"{part}.{name}": span for part in ("train_vae", "train_dit") for name, span in _TRAINING.items()},
}


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
        for key, (least, most) in _RANGES.items():
            part, _, name = key.partition(".")
            found = getattr(getattr(self, part), name)
            values = found if isinstance(found, tuple) else (found,)
            if not all(least <= value <= most for value in values):
                upper = "" if most == _INFINITE else f", at most {most:g}"
                raise InputError(key, f"found {found}", f"give at least {least:g}{upper}")
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
