"""A city, a VAE and a DiT so small that a test trains them in seconds; ``make`` is cached by pytest fixtures."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dyncity.config import Config
from dyncity.config_file import override
from dyncity.presets import preset
from dyncity.training.latents import encode_corpus
from dyncity.training.launch import train_dit, train_vae
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.plan import CorpusPlan
from generators.procedural.city import ProceduralCity

SETTINGS = [
    "grid.shape=[16, 16, 8]",
    "grid.origin=[-6.4, -6.4, -1.2]",
    "clip.frames=4",
    "clip.margin=[4, 4]",
    "vae.channels=6",
    "vae.latent_channels=4",
    "vae.query_channels=8",
    "vae.hidden_low=8",
    "vae.hidden_high=6",
    "dit.width=32",
    "dit.depth=1",
    "dit.heads=2",
    "dit.patch=2",
    "dit.refine=8",
    "dit.refine_coarse=8",
    "sampling.steps=2",
    "sampling.skip_block=0",
    "sampling.micro_batch=2",
]


def small_config(*settings: str) -> Config:
    return override(preset("tiny"), [*SETTINGS, *settings])


def make_city(out: Path, scenes: int = 6, frame: str = "world", config: Config | None = None) -> Path:
    config = config or small_config()
    build = partial(ProceduralCity, config, frame=frame)
    plan = CorpusPlan("procedural", config, scenes, seed=5, fingerprint_of_generator=build().fingerprint())
    make_corpus(plan, build, ParquetExporter(), out)
    return out


def make_checkpoint(folder: Path, city: Path, steps: int = 4) -> Path:
    """Train VAE and DiT for some steps; the checkpoint that can generate."""
    train_vae(small_config(f"train_vae.steps={steps}"), city, folder / "vae")
    encode_corpus(city, folder / "vae", folder / "latents")
    train_dit(
        small_config(
            f"train_vae.steps={steps}",
            "train_dit.steps=12",
            "train_dit.batch=4",
            "train_dit.lr=0.02",
            "train_dit.warmup=1",
        ),
        folder / "latents",
        folder / "vae",
        folder / "dit",
    )
    return folder / "dit"
