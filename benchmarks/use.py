"""What generated scenes are worth to a perception model, at equal training budgets.

    python benchmarks/use.py --out DIR [--ask few alone pedestrians turns av2] [--recorded 2 8 32] [--rare 8]
        [--generated 256] [--asked 64] [--held-out 128] [--seeds 0 1 2] [--steps 2000] [--batch 2]
        [--checkpoint DIR] [--av2 LOGS] [--threads 1]

The model completes the voxels of a LiDAR scan (``use_runs.py``). Its recorded logs are a few scenes of the procedural
city, others for each seed; to them come generated scenes, half and half, or as many further scenes of the city: what
more logs would do. Every run has the same number of steps on batches of one size. Then the rare cases: pedestrians,
asked for by layouts, and turns, asked for by command. ``--av2``: recorded logs are real ones, each held out in turn.

What is made once is kept: corpora in ``DIR/corpora``, the confusion of each run in ``DIR/runs``; the same command goes
on where it was interrupted, and writes ``DIR/figures.json``. ``docs/worth.md`` says what came of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from use_data import clips, corpus, pedestrian_layout, views
from use_runs import Matrix, class_weights, figures, judged, trained

from dyncity.checkpoint import shipped_checkpoint
from dyncity.config_file import read_config
from dyncity.errors import InputError
from dyncity.taxonomy import CARLASC

# Root seeds that the shipped checkpoint was not trained on; recorded logs take one a run, from here on.
RECORDED_SEED, FURTHER_SEED, HELD_OUT_SEED, GENERATED_SEED = 6100, 6002, 6003, 4711
PEOPLE = 8  # asked for in a scene by its layout, or pasted into a frame
SCENES_A_LAYOUT = 8
SHOWN = ("mIoU", "completion", "pedestrian", "vehicle", "pole")
Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """A corpus that a run learns from, its share of the batches, pedestrians pasted into its frames."""

    folder: Path
    share: int = 1
    pasted: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """Arms that are compared: what each learns from, by its name; the first is that without further scenes.

    Attributes:
        title: above the table.
        reading: which held-out frames count, "all" or "turning".
        arms: what they learn from, for each seed.
        held_out: the corpora that judge, for each seed.
    """

    title: str
    reading: str
    arms: dict[str, list[list[Part]]]
    held_out: list[Path]


class Corpora:
    """The corpora of the comparison, each made when it is first asked for.

    Args:
        folder: where they lie.
        options: of the command.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options

    def city(self, name: str, scenes: int, seed: int, command: str = "mixed") -> Path:
        """Scenes of the procedural city."""
        drawn = ["--generator", "procedural", "--config", str(self.options.checkpoint / "config.json")]
        drawn += ["--command", command, "--num-scenes", str(scenes), "--seed", str(seed)]
        return corpus(self.folder / f"{name}-{scenes}", "generate", *drawn)

    def generated(self, name: str, scenes: int, *asked: str, seed: int = GENERATED_SEED) -> Path:
        """Scenes of the checkpoint."""
        drawn = ["--checkpoint", str(self.options.checkpoint), "--num-scenes", str(scenes), "--seed", str(seed)]
        return corpus(self.folder / f"{name}-{scenes}", "generate", *drawn, *asked)

    def held_out(self) -> Path:
        """Scenes of the city that judge."""
        return self.city("held-out", self.options.held_out, HELD_OUT_SEED)

    def recorded(self, scenes: int, seed: int, command: str = "mixed") -> Path:
        """The few logs of a seed; those of a smaller number are among those of a larger one."""
        return self.city(f"recorded-{command}-{seed}", scenes, RECORDED_SEED + seed, command)

    def pools(self) -> list[tuple[str, list[Path]]]:
        """What is added to recorded scenes: generated ones, and as many further recorded ones."""
        scenes = self.options.generated
        generated, further = self.generated("generated", scenes), self.city("further", scenes, FURTHER_SEED)
        return [("generated", [generated]), ("further recorded", [further])]

    def pedestrians(self) -> list[Path]:
        """Generated scenes with pedestrians asked for, a corpus a layout."""
        made, config = [], read_config(self.options.checkpoint / "config.json")
        for number in range(-(-self.options.asked // SCENES_A_LAYOUT)):
            layout = pedestrian_layout(self.folder / "layouts" / f"{number}.json", number, PEOPLE, config)
            scenes = min(SCENES_A_LAYOUT, self.options.asked - number * SCENES_A_LAYOUT)
            made.append(
                self.generated(f"people-{number}", scenes, "--layout", str(layout), seed=GENERATED_SEED + 1 + number)
            )
        return made

    def log(self, log: Path) -> Path:
        """A driving log in clips of eight frames."""
        return corpus(self.folder / f"av2-{log.name}", "import", "av2", str(log), "--frames", "8")


def _with(name: str, few: list[list[Part]], added: Sequence[tuple[str, list[Path]]]) -> dict[str, list[list[Part]]]:
    """An arm for each kind of scenes that are added to recorded ones."""
    return {f"{name}, {kind}": [mixture(some, folders) for some in few] for kind, folders in added}


def mixture(recorded: Sequence[Part], further: Sequence[Path]) -> list[Part]:
    """Recorded frames and further ones, half and half."""
    return [Part(p.folder, len(further) * p.share, p.pasted) for p in recorded] + [
        Part(folder, sum(p.share for p in recorded)) for folder in further
    ]


def few_logs(corpora: Corpora, options: argparse.Namespace) -> list[Question]:
    """A few recorded logs, and what is added to them."""
    questions = []
    for n in options.recorded:
        few = [[Part(corpora.recorded(n, seed))] for seed in options.seeds]
        arms = {f"{n} recorded": few} | _with(f"{n} recorded", few, corpora.pools())
        questions.append(Question(f"{n} recorded scenes", "all", arms, [corpora.held_out() for _ in options.seeds]))
    return questions


def one_source(corpora: Corpora, options: argparse.Namespace) -> list[Question]:
    """As many scenes of one source as the other has, without any recorded ones."""
    pools = reversed(corpora.pools())
    arms = {f"{options.generated} {name}": [[Part(*pool)] for _ in options.seeds] for name, pool in pools}
    return [Question("one source alone", "all", arms, [corpora.held_out() for _ in options.seeds])]


def pedestrians(corpora: Corpora, options: argparse.Namespace) -> list[Question]:
    """Pedestrians, a class that few logs show few of."""
    n = options.rare
    few, pasted = ([[Part(corpora.recorded(n, s), pasted=people)] for s in options.seeds] for people in (0, PEOPLE))
    arms = {f"{n} recorded": few}
    arms |= {f"{n} recorded, pedestrians pasted into half": [a + b for a, b in zip(few, pasted, strict=True)]}
    asked = ("generated with pedestrians asked for", corpora.pedestrians())
    arms |= _with(f"{n} recorded", few, [asked, *corpora.pools()])
    return [Question("pedestrians", "all", arms, [corpora.held_out() for _ in options.seeds])]


def turns(corpora: Corpora, options: argparse.Namespace) -> list[Question]:
    """Logs that never turn, judged where the ego turns."""
    n, half, ways = options.rare, max(1, options.asked // 2), ("left", "right")
    few = [[Part(corpora.recorded(n, seed, "forward"))] for seed in options.seeds]
    asked = [corpora.generated(f"turns-{way}", half, "--command", way) for way in ways]
    further = [corpora.city(f"further-turns-{way}", half, FURTHER_SEED, way) for way in ways]
    name = f"{n} recorded straight on"
    added = [corpora.pools()[0], ("generated turns", asked), ("further recorded turns", further)]
    arms = {name: few} | _with(name, few, added)
    held_out = [corpora.held_out() for _ in options.seeds]
    return [Question("frames of turns; the recorded logs have none", "turning", arms, held_out)]


def real_logs(corpora: Corpora, options: argparse.Namespace) -> list[Question]:
    """Argoverse 2: each log held out in turn, the others are recorded."""
    logs = sorted(path.parent for path in options.av2.glob("*/city_SE3_egovehicle.feather"))
    if len(logs) < 2:
        raise InputError(options.av2, f"found {len(logs)} logs", "give a folder of two logs or more")
    made = [corpora.log(log) for log in logs]
    few = [[Part(other) for other in made if other != held] for held in made]
    (_, generated), (_, city) = corpora.pools()
    arms = {"logs": few} | _with("logs", few, [("generated", generated), ("procedural city", city)])
    arms |= {"generated": [[Part(*generated)] for _ in few]}
    return [Question(f"Argoverse 2, {len(logs)} logs, each held out in turn", "all", arms, made)]


QUESTIONS = {
    "few": few_logs,
    "alone": one_source,
    "pedestrians": pedestrians,
    "turns": turns,
    "av2": real_logs,
}
_clips, _views = cache(clips), cache(views)


def confusion_of(
    out: Path, parts: list[Part], weighed_by: Path, held_out: Path, seed: int, options: argparse.Namespace
) -> dict[str, Matrix]:
    """What a run gives, read where it was done before."""
    settings = {
        "parts": [[part.folder.name, part.share, part.pasted] for part in parts],
        "weighed_by": weighed_by.name,
        "held_out": held_out.name,
        "seed": seed,
        "steps": options.steps,
        "batch": options.batch,
    }
    for file in out.glob("*.json"):
        run = json.loads(file.read_text())
        if run["settings"] == settings:
            return {name: np.array(matrix) for name, matrix in run["confusion"].items()}
    torch.set_num_threads(options.threads)  # making a corpus sets its own
    begun = time.process_time()
    corpora = [_clips(part.folder, part.pasted) for part in parts]
    shares = [part.share for part in parts]
    network = trained(corpora, shares, class_weights(_views(weighed_by)), options.steps, options.batch, seed)
    matrices = judged(network, _views(held_out, judge=True))
    run = {"settings": settings, "cpu_seconds": time.process_time() - begun}
    run["confusion"] = {name: matrix.tolist() for name, matrix in matrices.items()}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{len([*out.glob('*.json')]):03d}.json").write_text(json.dumps(run) + "\n")
    return matrices


def answered(question: Question, out: Path, options: argparse.Namespace) -> dict[str, list[Row]]:
    """The figures of each arm, a row a seed."""
    rows: dict[str, list[Row]] = {name: [] for name in question.arms}
    first = next(iter(question.arms.values()))
    for number, held_out in enumerate(question.held_out):
        seed = options.seeds[number] if len(question.held_out) == len(options.seeds) else number
        for name, runs in question.arms.items():
            weighed_by = first[number][0].folder  # the same weights for all arms
            matrices = confusion_of(out, runs[number], weighed_by, held_out, seed, options)
            rows[name].append(figures(matrices[question.reading]))
            print(f"{name}, seed {seed}: mIoU {rows[name][-1]['mIoU']:.1f}", flush=True)
    return rows


def shown(title: str, rows: dict[str, list[Row]], metrics: Sequence[str]) -> Table:
    """Mean and standard deviation over seeds, and the gain in mIoU over the first arm, seed by seed."""
    table = Table("IoU, %", *metrics, "mIoU - first", title=title)
    first = [row["mIoU"] for row in next(iter(rows.values()))]
    for name, seeds in rows.items():
        cells = [spread([row.get(metric, np.nan) for row in seeds]) for metric in metrics]
        gains = [row["mIoU"] - base for row, base in zip(seeds, first, strict=True)]
        table.add_row(name, *cells, spread(gains))
    return table


def spread(values: Sequence[float]) -> str:
    """Mean and, of more than one, standard deviation."""
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{deviation}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of corpora, runs and figures")
    parser.add_argument("--ask", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), help="which questions")
    parser.add_argument("--recorded", type=int, nargs="+", default=[2, 8, 32], help="recorded scenes")
    parser.add_argument("--rare", type=int, default=8, help="recorded scenes where rare cases are asked for")
    parser.add_argument("--generated", type=int, default=256, help="generated scenes, and further recorded ones")
    parser.add_argument("--asked", type=int, default=64, help="generated scenes of a rare case")
    parser.add_argument("--held-out", type=int, default=128, help="scenes that judge")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, default=shipped_checkpoint(), help="else the shipped one")
    parser.add_argument("--av2", type=Path, help="Argoverse 2 logs: what generated scenes do for these")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    options, console = parsed(), Console(width=None if sys.stdout.isatty() else 150)
    corpora, report = Corpora(options.out / "corpora", options), {}
    if options.av2 is None or not options.av2.is_dir():
        options.ask = [name for name in options.ask if name != "av2"]
        console.print(f"{options.av2 or '--av2'}: no such folder, so nothing of Argoverse 2")
    for name in options.ask:
        for question in QUESTIONS[name](corpora, options):
            rows = report[question.title] = answered(question, options.out / "runs", options)
            console.print(shown(question.title, rows, SHOWN))
            others = [name for name in CARLASC.classes if name not in (*SHOWN, "free")]
            console.print(shown(f"{question.title}: the other classes", rows, others))
    (options.out / "figures.json").write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"{options.out / 'figures.json'}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
