"""Presets: functions that return a Config. ``tiny`` runs on a laptop; the others are the paper's sizes."""

from __future__ import annotations

from collections.abc import Callable

from dyncity.config import ClipConfig, Config, DiTConfig, SamplingConfig, TrainConfig, VAEConfig
from dyncity.errors import InputError
from dyncity.grid import GridSpec


def tiny() -> Config:
    """64x64x8 voxels of 0.8 m, 8 frames at 5 Hz: trains and samples on two CPU cores.

    The planes are fixed to the world; the model's grid is 96x80 so that it covers what the window
    sweeps while the ego drives up to 16 m/s or turns (``docs/world-fixed.md``).
    """
    return Config(
        preset="tiny",
        grid=GridSpec((64, 64, 8), (0.8, 0.8, 0.8), (-25.6, -25.6, -1.2), 5.0),
        clip=ClipConfig(frames=8, planes="world", margin=(16, 8)),
        taxonomy="native",
        vae=VAEConfig(
            channels=32,
            encoder="change",
            projection="linear",
            downsample=(1, 2, 2, 2),
            latent_channels=16,
            fusion="both",
            query_channels=32,
            hidden_low=48,
            hidden_high=16,
            class_weight_power=0.25,
        ),
        dit=DiTConfig(
            width=192,
            depth=8,
            heads=6,
            patch=4,
            objective="flow",
            predicts="data",
            time_mean=1.3,
            path_plane=True,
            layout_plane=True,
            given=True,
            refine=32,
            refine_coarse=96,
            mover_weight=0.5,
        ),
        # A little less than the smallest vehicle of the procedural city in these voxels: 4.0 x 1.6 x 1.6 m.
        sampling=SamplingConfig(
            sampler="euler",
            steps=11,
            time_shift=3.0,
            cfg_scale=1.0,
            cfg_scale_layout=4.0,
            cfg_interval=(0.4, 1.0),
            coarse_scale=1.5,
            coarse_interval=(0.5, 0.95),
            skip_scale=1.4,
            skip_block=3,
            skip_interval=(0.5, 0.95),
            join_rounds=3,
            join_interval=(0.3, 0.85),
            join_draws=4,
            micro_batch=8,
            smallest_vehicle=(3.9, 1.5, 1.2),
            smallest_piece=8,
            widest_gap=1.6,
            longest_jog=19.2,
        ),
        train_vae=TrainConfig(
            steps=4000, batch=2, lr=2e-3, ema=0.998, decoded_frames=2, eval_every=1000, checkpoint_every=500
        ),
        train_dit=TrainConfig(steps=5000, batch=16, lr=8e-4, ema=0.998, eval_every=500, checkpoint_every=250),
    )


def _published(
    name: str, grid: GridSpec, taxonomy: str, dit: tuple[int, int, int], vae: VAEConfig | None = None
) -> Config:
    """The published configuration on a grid: 16 frames, ego-centred planes, attention projection."""
    width, depth, heads = dit
    return Config(
        preset=name,
        grid=grid,
        clip=ClipConfig(frames=16, planes="ego"),
        taxonomy=taxonomy,
        vae=vae or VAEConfig(recompute=True),
        dit=DiTConfig(width=width, depth=depth, heads=heads, patch=2),
        sampling=SamplingConfig(steps=50, cfg_scale=4.0, micro_batch=1),
        train_vae=TrainConfig(steps=100_000, batch=8, lr=1e-3, ema=0.999),
        train_dit=TrainConfig(steps=400_000, batch=128, lr=1e-4, ema=0.9999),
    )


def carlasc() -> Config:
    """CarlaSC: 128x128x8 voxels of 0.4 x 0.4 x 0.375 m, 10 Hz, 11 classes, DiT 384 x 16 x 8.

    The z range [-2, 1] is the LiDAR's, 1.8 m above the road; ours counts from the road.
    """
    grid = GridSpec((128, 128, 8), (0.4, 0.4, 0.375), (-25.6, -25.6, -0.2), 10.0)
    return _published("carlasc", grid, "carlasc", (384, 16, 8))


def occ3d_waymo() -> Config:
    """Occ3D-Waymo: 200x200x16 voxels of 0.4 m, 10 Hz, DiT 768 x 18 x 12."""
    grid = GridSpec((200, 200, 16), (0.4, 0.4, 0.4), (-40.0, -40.0, -1.0), 10.0)
    return _published("occ3d-waymo", grid, "occ3d-waymo", (768, 18, 12))


def occ3d_nuscenes() -> Config:
    """Occ3D-nuScenes: 200x200x16 voxels of 0.4 m, 2 Hz, DiT 768 x 18 x 12."""
    grid = GridSpec((200, 200, 16), (0.4, 0.4, 0.4), (-40.0, -40.0, -1.0), 2.0)
    return _published("occ3d-nuscenes", grid, "occ3d-nuscenes", (768, 18, 12))


def semantickitti() -> Config:
    """SemanticKITTI: 256x256x32 voxels of 0.2 m ahead of the car, 10 Hz.

    The z range [-2, 4.4] is the LiDAR's, 1.73 m above the road; ours counts from the road.
    """
    grid = GridSpec((256, 256, 32), (0.2, 0.2, 0.2), (0.0, -25.6, -0.27), 10.0)
    return _published("semantickitti", grid, "semantickitti", (768, 18, 12))


PRESETS: dict[str, Callable[[], Config]] = {
    "tiny": tiny,
    "carlasc": carlasc,
    "occ3d-waymo": occ3d_waymo,
    "occ3d-nuscenes": occ3d_nuscenes,
    "semantickitti": semantickitti,
}


def preset(name: str) -> Config:
    """The preset of that name.

    Raises:
        InputError: when there is none.
    """
    if name not in PRESETS:
        raise InputError("--preset", f"found {name!r}", f"use one of {', '.join(PRESETS)}")
    return PRESETS[name]()
