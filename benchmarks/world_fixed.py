"""World-fixed against ego-centred planes on equal terms: the same clips, network, steps, truth and seconds.

    python benchmarks/world_fixed.py --out DIR [--name figures] [--preset tiny] [--network tiny] [--set a.b=c]
        [--variants world ego] [--seeds 0 1 2] [--steps 3000] [--steps-of world=2400] [--eval-every 500]
        [--scenes 1500] [--held-out 32] [--av2 LOGS] [--av2-held-out NAME] [--threads 2] [--device cpu]

A run that was interrupted goes on when the same command is given again; finished runs are only read.
For each data set ``DIR/DATA/`` gets the corpora, ``runs/VARIANT-STEPS-SEED/``, ``NAME.json``, ``NAME-curves-*.png`` and
``NAME-side-by-side.png``; another NAME may share the corpora and the runs.
``docs/world-fixed.md`` says what is equal and what is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from world_fixed_pictures import draw_curves, draw_side_by_side
from world_fixed_runs import (
    TRUTHS,
    VARIANTS,
    Data,
    HeldOut,
    Matrices,
    Point,
    curve,
    held_out_clips,
    judged,
    parameters,
    procedural_data,
    rebuilt,
    recorded_data,
    trained,
    variant,
    world_config,
)

from dyncity.checkpoint import build_vae, load_checkpoint
from dyncity.config import Config
from dyncity.config_file import override
from dyncity.errors import InputError
from dyncity.hexplane import plane_shapes
from dyncity.metrics.reconstruction import class_iou, mapped, mean_iou
from dyncity.presets import PRESETS, preset
from dyncity.taxonomy import CARLASC, label_map
from dyncity.terminal import ProgressLine

MAIN_CLASSES = ("building", "road", "ground", "sidewalk", "vegetation", "vehicle")
MIOU, MAIN = "mIoU, CarlaSC's ten classes", "mIoU, six main classes"
OWN = "own"
READINGS = (*TRUTHS, OWN)
Row = dict[str, float]
Curves = dict[str, list[list[Point]]]


def row(matrix: np.ndarray, labels: str) -> Row:
    """IoU in percent: the mean over CarlaSC's classes, over the six main ones, each; absent classes are left out."""
    if labels == "native":
        matrix = mapped(matrix, label_map(labels, "carlasc"), len(CARLASC))
    iou = dict(zip(CARLASC.classes, class_iou(matrix), strict=True))
    main = [iou[name] for name in MAIN_CLASSES if np.isfinite(iou[name])]
    values = {MIOU: mean_iou(matrix, CARLASC), MAIN: float(np.mean(main)) if main else float("nan")}
    values |= {name: float(value) for name, value in iou.items() if name != "free"}
    return {name: 100 * value for name, value in values.items() if np.isfinite(value)}


def truth_of(reading: str, config: Config) -> str:
    """The truth that judges a variant in a reading; in ``OWN`` it is the one that was drawn as its input was."""
    if reading != OWN:
        return reading
    return "cut out" if config.clip.planes == "world" else "ego-rendered"


def at_seconds(points: list[Point], seconds: float, truth: str, labels: str) -> Row:
    """The row of a run after so many seconds: linear between judged steps, empty before the first."""
    if seconds < points[0].seconds:
        return {}
    times, rows = [p.seconds for p in points], [row(p.matrices[truth], labels) for p in points]
    return {name: float(np.interp(seconds, times, [r[name] for r in rows])) for name in rows[-1]}


def over_seeds(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Mean and, of more than one, standard deviation over the seeds of every value that all of them have."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    values = {name: np.array([row[name] for row in rows]) for name in names}
    return {
        n: {"mean": float(v.mean())} | ({"std": float(v.std(ddof=1))} if len(v) > 1 else {}) for n, v in values.items()
    }


def facts(config: Config, points: list[list[Point]]) -> dict[str, Any]:
    """What is equal between variants and what is not."""
    total, in_projections = parameters(config)
    vae = build_vae(config)
    latent = vae.latent_channels * sum(h * w for h, w in plane_shapes(vae.latent_shape).values())
    seconds = [p[-1].seconds for p in points]
    return {
        "planes": config.clip.planes,
        "grid": "x".join(map(str, config.clip_grid.shape)),
        "voxels a clip": config.clip.frames * config.clip_grid.voxels,
        "parameters": total,
        "of them in projections": in_projections,
        "latent numbers a clip": latent,
        "steps": points[0][-1].step,
        "clips a step": config.train_vae.batch,
        "seconds a step": float(np.mean(seconds)) / points[0][-1].step,
        "seconds": float(np.mean(seconds)),
        "seeds": len(points),
    }


@dataclass(frozen=True)
class Summary:
    """All figures of a data set.

    Attributes:
        facts: by variant. final, equal_seconds: by reading, variant, name: mean and std over seeds.
        ceiling: what cutting out alone costs: one truth judged by the other.
        shared_seconds: what all variants have spent where ``equal_seconds`` is read.
        uncovered: share of known voxels outside the world-fixed grid, left out for all.
    """

    facts: dict[str, dict[str, Any]]
    final: dict[str, Any]
    equal_seconds: dict[str, Any]
    ceiling: Row
    shared_seconds: float
    uncovered: float


def summarised(curves: Curves, configs: dict[str, Config], clips: list[HeldOut]) -> Summary:
    """Everything that is to be said about finished runs."""
    labels = clips[0].ego.taxonomy
    described = {name: facts(configs[name], points) for name, points in curves.items()}
    shared = min(fact["seconds"] for fact in described.values())
    steps: dict[str, Any] = {reading: {} for reading in READINGS}
    seconds: dict[str, Any] = {reading: {} for reading in READINGS}
    for reading in READINGS:
        for name, runs in curves.items():
            truth = truth_of(reading, configs[name])
            steps[reading][name] = over_seeds([row(points[-1].matrices[truth], labels) for points in runs])
            # A variant's seconds differ a little between seeds: each is read at its own share of the mean.
            own = [shared * points[-1].seconds / described[name]["seconds"] for points in runs]
            read = [at_seconds(p, s, truth, labels) for p, s in zip(runs, own, strict=True)]
            seconds[reading][name] = over_seeds(read)
    return Summary(
        described, steps, seconds, row(ceiling(clips)[TRUTHS[0]], labels), shared,
        float(np.mean([clip.uncovered for clip in clips])),
    )  # fmt: skip


def ceiling(clips: list[HeldOut]) -> Matrices:
    """The truth cut out of the world-fixed clip, judged as a reconstruction is."""
    return judged(clips, [replace(clip.ego, semantics=clip.truths["cut out"]) for clip in clips])


def show(console: Console, name: str, summary: Summary, unit: str) -> None:
    """The tables of a data set."""
    variants = list(summary.facts)
    table = Table(name, *variants, title=f"what is compared; {unit} are of training alone")
    for fact in next(iter(summary.facts.values())):
        values = [summary.facts[v][fact] for v in variants]
        table.add_row(fact, *(f"{v:.4g}" if isinstance(v, float) else f"{v}" for v in values))
    console.print(table)
    schedules = {fact["steps"] for fact in summary.facts.values()}
    ended = f"after {schedules.pop()} steps" if len(schedules) == 1 else "at the end of each schedule"
    for title, figures in (
        (ended, summary.final),
        (f"at equal {unit}, {summary.shared_seconds:.0f}", summary.equal_seconds),
    ):
        for reading in READINGS:
            table = Table("IoU, %", *variants, "ceiling", title=f"{name}, {title}, truth: {reading} windows")
            for metric, top in summary.ceiling.items():
                cells = [figures[reading][v].get(metric) for v in variants]
                best = f"{top:.1f}" if reading == "ego-rendered" else "100"
                table.add_row(metric, *map(_cell, cells), best)
            console.print(table)
    share = 100 * summary.uncovered
    console.print(f"{share:.2f} % of the known voxels lie outside the world-fixed grid and count for no variant")


def _cell(value: dict[str, float] | None) -> str:
    """Mean and standard deviation, as far as there are any."""
    if value is None:
        return ""
    return f"{value['mean']:.1f}" + (f" ± {value['std']:.1f}" if "std" in value else "")


def compare(data: Data, configs: dict[str, Config], options: argparse.Namespace, console: Console) -> None:
    """Train and judge all variants and seeds on a data set, then write and show what was found."""
    device, clips = torch.device(options.device), held_out_clips(data, next(iter(configs.values())))
    curves: Curves = {name: [] for name in configs}
    for seed in options.seeds:
        for name, config in configs.items():
            config = replace(config, train_vae=replace(config.train_vae, seed=seed))
            run = data.folder / "runs" / f"{name}-{config.train_vae.steps}-{seed}"
            with ProgressLine(f"{data.name} {name} {seed}", "steps", config.train_vae.steps) as progress:

                def report(metrics: dict[str, float | int], progress: ProgressLine = progress) -> None:
                    progress.update(int(metrics["step"]), note=f"loss {metrics.get('loss', float('nan')):.3g}")

                trained(config, data.corpus("train", config.clip.planes), run, device, report)
                progress.update(config.train_vae.steps, note="judging")
                curves[name].append(list(curve(run, data, clips, config, device)))
    summary, labels = summarised(curves, configs, clips), clips[0].ego.taxonomy
    unit = "core-seconds" if device.type == "cpu" else f"{device.type}-seconds"
    show(console, data.name, summary, unit)
    values: dict[str, list[list[dict[str, Any]]]] = {
        name: [[{"step": p.step, "seconds": p.seconds} | {t: row(p.matrices[t], labels) for t in TRUTHS} for p in run]
               for run in runs]
        for name, runs in curves.items()
    }  # fmt: skip
    report_of = {"command": " ".join(sys.argv), "data": data.name, "unit": unit, "threads": options.threads}
    report_of |= {"torch": torch.__version__, "seeds": options.seeds, "held_out_clips": len(clips)}
    figures = data.folder / f"{options.name}.json"
    figures.write_text(json.dumps(report_of | vars(summary) | {"curves": values}, indent=2) + "\n")
    for reading in ("ego-rendered", OWN):
        truths = {n: truth_of(reading, config) for n, config in configs.items()}
        lines = {n: [[(p["step"], p["seconds"], p[truths[n]][MIOU]) for p in run] for run in runs]
                 for n, runs in values.items()}  # fmt: skip
        top = 100.0 if reading == OWN else summary.ceiling[MIOU]
        title = f"{data.name}: {MIOU}, held-out clips, {reading} truth"
        draw_curves(lines, top, unit, title, figures.with_name(f"{options.name}-curves-{reading}.png"))
    draw_pictures(data, configs, options, clips)
    console.print(f"{figures} and three pictures beside it")


def draw_pictures(data: Data, configs: dict[str, Config], options: argparse.Namespace, clips: list[HeldOut]) -> None:
    """Truth and what the first seed made of a clip of each moving command; unknown voxels are left out of all."""
    by_command = {clip.ego.conditions.command: clip for clip in reversed(clips)}
    chosen = [by_command[name] for name in ("forward", "left", "right") if name in by_command] or clips[:1]
    shown = [{"truth": replace(clip.ego, semantics=clip.truths[TRUTHS[0]])} for clip in chosen]
    for name, config in configs.items():
        folder = data.folder / "runs" / f"{name}-{config.train_vae.steps}-{options.seeds[0]}"
        vae = load_checkpoint(folder, options.device).vae
        for clip, columns in zip(chosen, shown, strict=True):
            scene = rebuilt(vae, config.clip.planes, clip, config.grid, torch.device(options.device))
            unknown = clip.truths[TRUTHS[0]] == 255
            columns[name] = replace(scene, semantics=np.where(unknown, np.uint8(255), scene.semantics))
    draw_side_by_side(shown, data.folder / f"{options.name}-side-by-side.png")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of all corpora, runs and figures")
    parser.add_argument("--name", default="figures", help="of the files with the figures: one --out may serve several")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--network", choices=sorted(PRESETS), help="the preset whose VAE is taken, if another one's")
    parser.add_argument("--set", action="append", default=[], help="a.b=c, for all variants; may be repeated")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["world", "ego"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--steps-of", action="append", default=[], metavar="NAME=N", help="other steps, as many judged")
    parser.add_argument("--eval-every", type=int, default=500, help="a point of the curve every so many steps")
    parser.add_argument("--scenes", type=int, default=1500, help="of the procedural city; 0: leave it out")
    parser.add_argument("--held-out", type=int, default=32, help="clips that variants are judged by")
    parser.add_argument("--av2", type=Path, help="Argoverse 2 logs: compare on these too")
    parser.add_argument("--av2-held-out", default="", help="how the log to hold out begins (default: the first)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    own = dict(setting.partition("=")[::2] for setting in options.steps_of)
    if not own.keys() <= set(options.variants) or not all(steps.isdecimal() for steps in own.values()):
        parser.error(f"--steps-of {options.steps_of}: give a variant and whole steps, e.g. world=2000")
    options.steps_of = {name: int(own.get(name, options.steps)) for name in options.variants}
    options.points = options.steps // max(1, options.eval_every)
    if options.steps != options.points * options.eval_every:
        parser.error("--steps has to be a multiple of --eval-every")
    if any(n % options.points or n < 5 * options.points for n in options.steps_of.values()):
        parser.error(f"a curve has {options.points} points: give steps that so many intervals of 5 or more make up")
    return options


def main() -> None:
    options, console = parsed(), Console(width=None if sys.stdout.isatty() else 120)
    torch.set_num_threads(options.threads)
    base = replace(preset(options.preset), vae=preset(options.network or options.preset).vae)
    base = world_config(override(base, options.set))
    configs: dict[str, Config] = {}
    for name, steps in options.steps_of.items():
        config = variant(base, name)
        # fit_vae judges its own held-out clips once, at the end: the curves are made of what it ships on the way.
        schedule = {"steps": steps, "eval_every": steps, "checkpoint_every": steps // options.points}
        config = replace(config, train_vae=replace(config.train_vae, **schedule))
        if config in configs.values():
            console.print(f"{name}: left out, this preset's network is that one already")
        else:
            configs[name] = config
    if options.scenes:
        data = procedural_data(options.out / "procedural", base, options.scenes, options.held_out)
        compare(data, configs, options, console)
    if options.av2 is not None and not options.av2.is_dir():
        console.print(f"{options.av2}: no such folder, so no comparison on Argoverse 2")
    elif options.av2 is not None:
        source = options.av2.absolute()
        data = recorded_data(options.out / "av2", base, source, options.av2_held_out, options.held_out)
        compare(data, configs, options, console)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
