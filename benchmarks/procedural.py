"""What the procedural city costs and what it is made of: scenes a second, free share, class shares.

    python benchmarks/procedural.py [--preset tiny] [--frame ego] [--scenes 64] [--seed 0]

Time is CPU time of this process; run it with OMP_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from dyncity.presets import PRESETS, preset
from dyncity.scene import SceneSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.city import ProceduralCity


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the procedural city.")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--frame", choices=("ego", "world"), default="ego")
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = ProceduralCity(preset(options.preset), frame=options.frame)
    generator.generate([SceneSpec(0, options.seed)])
    free, vehicles, pedestrians = [], [], []
    counts = np.zeros(256, np.int64)
    spent = 0.0
    for index in range(options.scenes):
        start = time.process_time()
        scene = generator.generate([SceneSpec(index, options.seed)])[0]
        spent += time.process_time() - start
        counts += np.bincount(scene.semantics.ravel(), minlength=256)
        free.append((scene.semantics == 0).mean())
        assert scene.boxes is not None
        walking = scene.boxes.label[scene.boxes.frame == 0] == NATIVE.id("pedestrian")
        vehicles.append(int((~walking).sum()))
        pedestrians.append(int(walking.sum()))
    console = Console()
    totals = Table("measure", "mean", "least", "most", title=f"{options.preset}, {options.frame} frame")
    totals.add_row("scenes a CPU second", f"{options.scenes / spent:.1f}", "", "")
    totals.add_row("free voxels, %", *(f"{100 * f(free):.1f}" for f in (np.mean, np.min, np.max)))
    for name, values in (("vehicles", vehicles), ("pedestrians", pedestrians)):
        totals.add_row(f"{name} in frame 0", *(f"{f(values):.1f}" for f in (np.mean, np.min, np.max)))
    console.print(totals)
    classes = Table("class", "% of occupied")
    for index in np.argsort(-counts[1 : len(NATIVE)], kind="stable") + 1:
        if counts[index]:
            classes.add_row(NATIVE.classes[index], f"{100 * counts[index] / counts[1:].sum():.2f}")
    console.print(classes)


if __name__ == "__main__":
    main()
