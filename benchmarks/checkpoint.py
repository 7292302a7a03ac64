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
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dyncity.anchoring import clip_of, ego_windows
from dyncity.checkpoint import load_checkpoint, shipped_checkpoint
from dyncity.conditions import COMMANDS, Conditions
from dyncity.config import Config
from dyncity.datasets.corpus import open_corpus
from dyncity.metrics.likeness import Portrait, farthest_apart, likeness, likeness_by_class, likeness_by_command
from dyncity.metrics.neighbours import COPY, bev_maps, nearest, repeated
from dyncity.models.vae import HexPlaneVAE
from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.terminal import ProgressLine, show_table
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


def novelty(maps: np.ndarray, held: np.ndarray, training: np.ndarray | None, by_chance: float) -> Row:
    """How many scenes are training clips or repeat others.

    Args:
        maps, held: of the scenes and of real ones (``bev_maps``).
        training: of the training clips; None where they are not at hand.
        by_chance: how near to a training clip the nearest of ``held`` is, which takes as long to find as all the rest.
    """
    row = {"repeated scenes": float(repeated(maps, held).sum())}
    if training is not None:
        near = nearest(maps, training)[0]
        row["copies of training clips"] = float((near < COPY * by_chance).sum())
        row["distance to the nearest training clip, least"] = float(near.min())
        row["distance to the nearest training clip, mean"] = float(near.mean())
    return row


def told(scenes: Iterable[OccupancyScene], what: str, unit: str, total: int = 0) -> Iterator[OccupancyScene]:
    """The scenes, and on stdout how many have come."""
    with ProgressLine(what, unit, total) as progress:
        for done, scene in enumerate(scenes, 1):
            yield scene
            progress.update(done)


def measured_of(scenes: list[OccupancyScene], name: str) -> Portrait:
    """``portrait_of`` the scenes, with progress: half a second a scene."""
    portrait = Portrait(scenes[0].taxonomy)
    for scene in told(scenes, f"measure {name}", "scenes", len(scenes)):
        portrait.add(scene)
    return portrait


def drawn(source: LatentDiffusion, asked: list[SceneSpec]) -> Iterator[OccupancyScene]:
    """The samples, a micro-batch at a time."""
    for first in range(0, len(asked), source.micro_batch):
        yield from source.generate(asked[first : first + source.micro_batch])


def show(title: str, columns: dict[str, Row], targets: dict[str, str]) -> None:
    """Print rows by name, a column a set of scenes, what is to be reached at the end; nothing is cut in a pipe."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    cells = {name: [f"{c[name]:.4g}" if name in c else "" for c in columns.values()] for name in names}
    show_table([(name, *cells[name], targets.get(name, "")) for name in names], title, ("", *columns, "to reach"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=shipped_checkpoint())
    parser.add_argument("--scenes", type=int, default=64, help="of each set; 256 for the figures to reach")
    parser.add_argument("--seed", type=int, default=SEED, help="of the samples; settings are chosen on the default")
    parser.add_argument("--training", type=Path, nargs="*", help="training corpora: are samples copies of their clips?")
    parser.add_argument("--json", type=Path, help="write all values to this file too")
    options = parser.parse_args()
    torch.set_num_threads(2)
    loaded = load_checkpoint(options.checkpoint)
    config = loaded.config
    wanted, others, asked = (specs(options.scenes, seed) for seed in (SEED, OTHER_SEED, options.seed))

    fixed, moving = ProceduralCity(config, frame="world"), ProceduralCity(config)
    clips = [fixed.generate([spec])[0].semantics for spec in wanted]
    metrics = reconstruction_metrics(loaded.vae, clips, config.taxonomy, torch.device("cpu"))
    rows = reconstruction({name: float(value) for name, value in metrics.items()})
    show("reconstruction, unseen seeds, %", {"": rows}, RECONSTRUCTION_TARGETS)

    real = [moving.generate([spec])[0] for spec in wanted]
    worlds = [fixed.generate([spec])[0] for spec in others]
    sets = {
        "other real": [moving.generate([spec])[0] for spec in others],
        "other real, cut out": [ego_windows(world, config.grid) for world in worlds],
        "the same through the VAE": [ego_windows(rebuilt_by(loaded.vae, world), config.grid) for world in worlds],
    }
    source, begun = LatentDiffusion(options.checkpoint), time.perf_counter()
    samples = list(told(drawn(source, asked), "sample", "scenes", len(asked)))
    seconds = (time.perf_counter() - begun) / len(asked)
    sets = {"sampled": samples, **sets}

    held, training, by_chance = bev_maps(real), None, 0.0
    if options.training:
        maps = [bev_maps(told(training_clips(c, config), f"read {c}", "clips")) for c in options.training]
        training = np.concatenate(maps)
        by_chance = float(nearest(held, training)[0].min())
    measured = {"real": real, **sets}
    portraits = {name: measured_of(scenes, name) for name, scenes in measured.items()}
    truth = portraits["real"]
    other = portraits["other real"]
    columns = {"real": truth.rows()}
    with ProgressLine("compare", "sets", len(sets)) as progress:
        for done, (name, scenes) in enumerate(sets.items(), 1):
            of, new = portraits[name], novelty(bev_maps(scenes), held, training, by_chance)
            columns[name] = of.rows() | likeness(of, truth, other) | new
            progress.update(done)
    columns["sampled"]["seconds a scene, 2 threads"] = seconds
    order = ("sampled", "real", "other real", "other real, cut out", "the same through the VAE")
    columns = {name: columns[name] for name in order}
    show(f"{options.scenes} scenes", columns, TARGETS)
    classes = likeness_by_class(portraits["sampled"], truth, other)
    show("classes seen from above", classes, {})
    commands = likeness_by_command(portraits["sampled"], truth)
    if apart := farthest_apart(commands):
        show("classes that chance does not keep apart, by command", apart, {})
    if options.json:
        values = {"checkpoint": str(options.checkpoint), "scenes": options.scenes, "reconstruction": rows}
        values |= {"sets": columns, "classes": classes, "commands": commands}
        options.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
