"""At which noise levels samples depart from real scenes: real clips, noised to a level and brought back by the sampler.

    python benchmarks/brought_back.py [CHECKPOINT] [--scenes 256] [--steps-left 4 6 8] [--set a.b=c] [--json FILE]

The simulator's clips of seed 2002, fixed to the world, are encoded, noised to the levels of the sampler's steps, and
brought back by the steps of Euler that are left from there, under their own conditions and by weaker selves as the
settings say. FID_bev is the mean distance to four other sets of as many real scenes, over that of real sets to each
other. With no step left it is what encoding and mending do; with all, nothing of a clip is known but its conditions.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import torch
from checkpoint import OTHER_SEED, SEED, specs
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dyncity.anchoring import ego_windows
from dyncity.checkpoint import load_checkpoint, shipped_checkpoint
from dyncity.config_file import override
from dyncity.diffusion.flow import noise_levels
from dyncity.diffusion.guidance import Denoiser, guided, weaker_selves
from dyncity.hexplane import planes_of, rollout
from dyncity.metrics.fid_bev import frechet_distance, patch_features
from dyncity.metrics.pieces import pieces
from dyncity.models.conditioning import NO_ROUTE
from dyncity.models.dit import TIME_SCALE
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import taxonomy
from generators.diffusion import encoded_ways
from generators.mending import mended
from generators.procedural.city import ProceduralCity

REAL_SEEDS = (SEED, OTHER_SEED, 40404, 50505, 60606)
CLASSES = ("building", "crosswalk", "sidewalk", "vegetation", "car")
_BATCH = 8


def brought_back(denoiser: Denoiser, data: Tensor, noise: Tensor, levels: list[float]) -> Tensor:
    """Normalised latents ``[b, c, h, w]``, noised to the first of the levels and taken down all of them by Euler."""
    x = (1 - levels[0]) * data + levels[0] * noise
    for now, after in pairwise(levels):
        x = x + (after - now) * denoiser(x, torch.full((len(x),), now * TIME_SCALE))
    return x


def torn(scenes: list[OccupancyScene]) -> NDArray[np.float64]:
    """Pieces of each class, in the middle frames on average."""
    space = taxonomy(scenes[0].taxonomy)
    found = np.mean([pieces(s.semantics[s.frames // 2], len(space)) for s in scenes], axis=0)
    return np.asarray(found[[space.id(name) for name in CLASSES]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--scenes", type=int, default=256)
    parser.add_argument("--steps-left", nargs="+", type=int, help="by default none to all")
    parser.add_argument("--set", action="append", default=[], help="a setting of the checkpoint's configuration")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(2)
    loaded = load_checkpoint(options.checkpoint)
    assert loaded.dit is not None
    assert loaded.scale is not None
    config, dit, vae = override(loaded.config, options.set), loaded.dit, loaded.vae
    mean, std = loaded.scale.maps(config.latent_shape)
    city, worlds = ProceduralCity(config), ProceduralCity(config, "world")
    real = {seed: patch_features([city.generate([s])[0] for s in specs(options.scenes, seed)]) for seed in REAL_SEEDS}
    apart = float(np.mean([frechet_distance(a, b) for a, b in combinations(real.values(), 2)]))
    clips = [worlds.generate([spec])[0] for spec in specs(options.scenes, OTHER_SEED)]
    levels = noise_levels(config.sampling.steps, config.sampling.time_shift)[::-1]  # by how many steps are left
    table, rows = Table("level", "FID_bev / real to real", *CLASSES, title="and pieces a frame"), []

    def add(level: str, scenes: list[OccupancyScene]) -> None:
        found = patch_features(scenes)
        ratio = float(np.mean([frechet_distance(found, real[s]) for s in REAL_SEEDS if s != OTHER_SEED])) / apart
        counts = torn(scenes)
        rows.append({"level": level, "FID_bev ratio": ratio, **dict(zip(CLASSES, counts.tolist(), strict=True))})
        table.add_row(level, f"{ratio:.3f}", *(f"{count:.2f}" for count in counts))

    add("real, cut out", [ego_windows(clip, config.grid) for clip in clips])
    for left in options.steps_left or range(len(levels)):
        generator, scenes = torch.Generator().manual_seed(7), []
        for first in range(0, len(clips), _BATCH):
            some = clips[first : first + _BATCH]
            encoded = encoded_ways([clip.conditions for clip in some], [NO_ROUTE] * len(some), config)
            denoiser = guided(
                dit, encoded, config.sampling.cfg_scale, config.sampling.cfg_interval, weaker_selves(config.sampling)
            )
            with torch.inference_mode():
                planes = [vae.encode(torch.from_numpy(clip.semantics)[None].long()).mean for clip in some]
                data = (torch.cat([rollout(one) for one in planes]) - mean) / std
                noise = torch.randn(data.shape, generator=generator)
                latents = brought_back(denoiser, data, noise, levels[left::-1]) * std + mean
                decoded = planes_of(latents, config.latent_shape)
                for row, clip in enumerate(some):
                    voxels = vae.decode({name: plane[row : row + 1] for name, plane in decoded.items()})[0].numpy()
                    whole = mended(voxels, clip.conditions, NO_ROUTE, 0, config)
                    scenes.append(ego_windows(replace(clip, semantics=whole, instances=None, boxes=None), config.grid))
        add(f"{levels[left]:.3f}", scenes)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
