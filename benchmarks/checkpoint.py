"""What a checkpoint reaches on seeds it never saw: reconstruction, and samples beside simulated scenes.

    python benchmarks/checkpoint.py [CHECKPOINT] [--scenes 64] [--seed 1001] [--training CORPUS ...] [--json FILE]

Real scenes are the simulator's, of root seeds that no training corpus of the docs uses (they use seed 1). Every set
of scenes is judged against the real ones of seed 1001: the samples, of ``--seed``; other real ones, of seed 2002 (what
chance alone does); those of seed 2002 cut out of a world-fixed grid along their path as the samples are (what
resampling alone does); and the same encoded and decoded first (what the VAE alone does: the rest is the DiT's).
``docs/metrics.md`` says what each row measures. The figures to reach hold for 256 scenes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dyncity.anchoring import clip_of, ego_windows
from dyncity.checkpoint import load_checkpoint, shipped_checkpoint
from dyncity.conditions import COMMANDS, Conditions
from dyncity.config import Config
from dyncity.datasets.corpus import open_corpus
from dyncity.metrics.likeness import likeness, likeness_by_class, portrait_of
from dyncity.metrics.neighbours import bev_maps, copied, nearest, repeated
from dyncity.models.vae import HexPlaneVAE
from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.training.vae_loop import reconstruction_metrics
from generators.diffusion import LatentDiffusion
from generators.procedural.city import ProceduralCity

SEED, OTHER_SEED = 1001, 2002
MAIN_CLASSES = ("building", "road", "ground", "sidewalk", "vegetation", "vehicle")
Row = dict[str, float]

# What a row is to reach, in the row's own unit.
RECONSTRUCTION_TARGETS = {
    "mIoU, CarlaSC's ten classes": ">= 88",
    "mIoU, six main classes": ">= 97",
    "pedestrian": ">= 50",
    "vehicle": ">= 90",
    "pole": ">= 93",
}
TARGETS = {
    "FID_bev / real to real": "<= 1.5",
    "agreement - real": ">= -0.003",
    "command accuracy, %": ">= 99",
    "trajectory error, voxels rms": "<= 1",
    "ego path drivable, %": ">= 99",
    "frames clear of movers, %": ">= 98",
    "vehicles that fit / real": ">= 0.9",
    "mean speed / real": "0.8 to 1.2",
    "copies of training clips": "0",
    "repeated scenes": "0",
}


def specs(count: int, seed: int) -> list[SceneSpec]:
    """Specs 0, 1, ...: the four commands in turn."""
    return [SceneSpec(i, seed, Conditions(COMMANDS[i % 4])) for i in range(count)]  # type: ignore[arg-type]


def reconstruction(metrics: dict[str, float]) -> Row:
    """The rows of the reconstruction table, in percent, from ``reconstruction_metrics``."""
    row = {
        "mIoU, native classes": metrics["miou"],
        "mIoU, CarlaSC's ten classes": metrics["miou_carlasc"],
        "mIoU, six main classes": float(np.mean([metrics[f"iou_{name}"] for name in MAIN_CLASSES])),
    }
    row |= {name.removeprefix("iou_"): value for name, value in metrics.items() if name.startswith("iou_")}
    return {name: 100 * value for name, value in row.items()}


def training_clips(folder: Path, config: Config) -> Iterator[OccupancyScene]:
    """The ego-centred clips of a training corpus: every start frame, as the training loop cuts them."""
    frames = config.clip.frames
    for scene in open_corpus(folder).scenes():
        for start in range(scene.frames - frames + 1):
            yield ego_windows(clip_of(scene, start, frames), config.grid)


@torch.inference_mode()
def rebuilt_by(vae: HexPlaneVAE, scene: OccupancyScene) -> OccupancyScene:
    """A world-fixed scene, encoded to the means and decoded."""
    ids = torch.from_numpy(scene.semantics)[None]
    return replace(scene, semantics=vae.decode(vae.encode(ids).mean)[0].numpy(), instances=None, boxes=None)


def novelty(samples: list[OccupancyScene], held_out: list[OccupancyScene], training: np.ndarray | None) -> Row:
    """How many scenes are training clips (``bev_maps``, None where they are not at hand) or repeat others."""
    maps, held = bev_maps(samples), bev_maps(held_out)
    row = {"repeated scenes": float(repeated(maps, held).sum())}
    if training is not None:
        row["copies of training clips"] = float(copied(maps, training, held).sum())
        row["distance to the nearest training clip, least"] = float(nearest(maps, training)[0].min())
        row["distance to the nearest training clip, mean"] = float(nearest(maps, training)[0].mean())
    return row


def table(title: str, columns: dict[str, Row], targets: dict[str, str]) -> Table:
    """Rows by name, a column a set of scenes, what is to be reached at the end."""
    shown = Table(title, *columns, "to reach")
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        cells = [f"{column[name]:.4g}" if name in column else "" for column in columns.values()]
        shown.add_row(name, *cells, targets.get(name, ""))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--scenes", type=int, default=64, help="of each set; 256 for the figures to reach")
    parser.add_argument("--seed", type=int, default=SEED, help="of the samples; settings are chosen on the default")
    parser.add_argument("--training", type=Path, nargs="*", help="training corpora: are samples copies of their clips?")
    parser.add_argument("--json", type=Path, help="write all values to this file too")
    options = parser.parse_args()
    torch.set_num_threads(2)
    loaded, console = load_checkpoint(options.checkpoint), Console()
    config = loaded.config
    wanted, others, asked = (specs(options.scenes, seed) for seed in (SEED, OTHER_SEED, options.seed))

    fixed, moving = ProceduralCity(config, frame="world"), ProceduralCity(config)
    clips = [fixed.generate([spec])[0].semantics for spec in wanted]
    metrics = reconstruction_metrics(loaded.vae, clips, config.taxonomy, torch.device("cpu"))
    rows = reconstruction({name: float(value) for name, value in metrics.items()})
    console.print(table("reconstruction, unseen seeds, %", {"": rows}, RECONSTRUCTION_TARGETS))

    real = [moving.generate([spec])[0] for spec in wanted]
    worlds = [fixed.generate([spec])[0] for spec in others]
    sets = {
        "other real": [moving.generate([spec])[0] for spec in others],
        "other real, cut out": [ego_windows(world, config.grid) for world in worlds],
        "the same through the VAE": [ego_windows(rebuilt_by(loaded.vae, world), config.grid) for world in worlds],
    }
    source, samples, begun = LatentDiffusion(options.checkpoint), [], time.perf_counter()
    for first in range(0, len(asked), source.micro_batch):
        samples += source.generate(asked[first : first + source.micro_batch])
    seconds = (time.perf_counter() - begun) / len(asked)
    sets = {"sampled": samples, **sets}

    training = None
    if options.training:
        training = np.concatenate([bev_maps(training_clips(corpus, config)) for corpus in options.training])
    truth, portraits = portrait_of(real), {name: portrait_of(scenes) for name, scenes in sets.items()}
    other = portraits["other real"]
    columns = {"real": truth.rows()}
    for name, scenes in sets.items():
        of = portraits[name]
        columns[name] = of.rows() | likeness(of, truth, other) | novelty(scenes, real, training)
    columns["sampled"]["seconds a scene, 2 threads"] = seconds
    order = ("sampled", "real", "other real", "other real, cut out", "the same through the VAE")
    columns = {name: columns[name] for name in order}
    console.print(table(f"{options.scenes} scenes", columns, TARGETS))
    classes = likeness_by_class(portraits["sampled"], truth, other)
    console.print(table("classes seen from above", classes, {}))
    if options.json:
        values = {"checkpoint": str(options.checkpoint), "scenes": options.scenes, "reconstruction": rows}
        options.json.write_text(json.dumps(values | {"sets": columns, "classes": classes}, indent=2) + "\n")


if __name__ == "__main__":
    main()
