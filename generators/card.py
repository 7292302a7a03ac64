"""The data set card of a corpus: README.md, with the front matter that data set hubs read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import ego_windows
from dyncity.conditions import COMMANDS, LAYOUT_CLASSES
from dyncity.datasets.manifest import Manifest
from dyncity.metrics.adherence import decoded_columns, decoded_shares
from dyncity.metrics.layout_adherence import LayoutCounts
from dyncity.scene import UNKNOWN, OccupancyScene
from dyncity.taxonomy import Taxonomy, taxonomy
from dyncity.terminal import size_text
from generators.card_command import command_line
from generators.plan import MIXED, CorpusPlan

# What is drawn from a program without recorded data in it carries no terms of its own.
SYNTHETIC_LICENCE = "apache-2.0"
UNKNOWN_LICENCE = "unknown"
_LEARNED = ("diffusion",)
_HUB_LICENCES = {
    "unknown",
    "apache-2.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc0-1.0",
    "mit",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_FAILURES_SHOWN = 20


def card(plan: CorpusPlan, manifest: Manifest, sample: Sequence[OccupancyScene], picture: bool) -> str:
    """README.md of a finished corpus: the same plan and shards, the same text.

    Args:
        plan: what was asked for.
        manifest: what there is.
        sample: the first scenes, read back from the shards; class shares and conditions are theirs.
        picture: whether there is a ``preview.png``.
    """
    sections = [
        _front_matter(plan, manifest, sample),
        f"# {_title(plan)}\n",
        "![preview](preview.png)\n" if picture else None,
        _what(plan, manifest, sample),
        _shares(sample) if sample else None,
        _conditions(sample),
        _how_made(plan),
        _how_to_load(plan),
        _failures(manifest),
        _licence_text(plan, sample),
    ]
    return "\n".join(s for s in sections if s is not None)


def licence(plan: CorpusPlan, sample: Sequence[OccupancyScene]) -> str:
    """The terms of the sources: the checkpoint's or the logs', else those of synthetic scenes.

    A checkpoint inherits the terms of the data that it was trained on: where it states none, none are
    made up.
    """
    stated = {str(plan.fingerprint_of_generator["licence"])} if "licence" in plan.fingerprint_of_generator else set()
    stated |= {str(s.provenance["licence"]) for s in sample if s.provenance.get("licence")}
    return ", ".join(sorted(stated)) or (UNKNOWN_LICENCE if plan.generator in _LEARNED else SYNTHETIC_LICENCE)


def class_shares(sample: Sequence[OccupancyScene]) -> NDArray[np.float64]:
    """``[256]`` share of the voxels of each id in the sample."""
    counts = np.zeros(UNKNOWN + 1, np.int64)
    for scene in sample:
        counts += np.bincount(scene.semantics.reshape(-1), minlength=UNKNOWN + 1)
    return counts / max(1, counts.sum())


def _title(plan: CorpusPlan) -> str:
    return ", ".join(("4D semantic occupancy", *dict.fromkeys((plan.generator, plan.config.preset))))


def _front_matter(plan: CorpusPlan, manifest: Manifest, sample: Sequence[OccupancyScene]) -> str:
    terms = licence(plan, sample)
    known = terms.lower() in _HUB_LICENCES
    frames = sum(s.frames for s in manifest.shards)
    size = next((name for limit, name in _SIZES if frames < limit), "n>1M")
    lines = ["---", f"pretty_name: {_title(plan)!r}", f"license: {terms.lower() if known else 'other'}"]
    if not known:
        lines.append(f"license_name: {' '.join(terms.split())!r}")
    lines += ["size_categories:", f"- {size}", "tags:"]
    lines += [f"- {tag}" for tag in ("occupancy", "autonomous-driving", "semantic-segmentation", "4d", "dyncity")]
    if plan.container == "parquet":
        lines += ["configs:", "- config_name: default", "  data_files:"]
        lines += ["  - split: train", "    path: shards/*.parquet"]
    return "\n".join([*lines, "---", ""])


def _what(plan: CorpusPlan, manifest: Manifest, sample: Sequence[OccupancyScene]) -> str:
    grid = sample[0].grid if sample else plan.config.grid
    labels = sample[0].taxonomy if sample else plan.labels
    anchor = sample[0].anchor if sample else None
    frames, size = sum(s.frames for s in manifest.shards), sum(s.bytes for s in manifest.shards)
    low, high = grid.origin, grid.upper
    extent = ", ".join(f"{axis} {a:g} to {b:g} m" for axis, a, b in zip("xyz", low, high, strict=True))
    rows = [
        ("scenes", f"{manifest.written} of {manifest.requested} asked for, {manifest.failed} failed"),
        ("frames", f"{frames}, at {grid.frame_rate:g} Hz"),
        ("shards", f"{sum(s.scenes > 0 for s in manifest.shards)}, {size_text(size)}"),
        ("grid", f"{' x '.join(map(str, grid.shape))} voxels of {' x '.join(f'{v:g}' for v in grid.voxel_size)} m"),
        ("range", extent),
        (
            "frame of reference",
            "the ego vehicle's in each frame, x forward, y left, z up, z = 0 on the road"
            if anchor is None
            else f"fixed to the world by the ego pose of frame {anchor}, z = 0 on the road",
        ),
        ("labels", f"{labels}: {len(taxonomy(labels))} classes, {UNKNOWN} is unknown"),
        ("commands", _commands(plan)),
        ("columns", ", ".join(("semantics", "ego_to_world", *plan.columns))),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])


def _commands(plan: CorpusPlan) -> str:
    if plan.trajectory is not None and plan.trajectory.ndim == 3:
        return "a given trajectory for each scene"
    if plan.trajectory is not None:
        return f"one given trajectory ({plan.command})"
    if plan.command == MIXED:
        return f"{', '.join(COMMANDS)} in turn"
    return plan.command or "none asked for"


def _shares(sample: Sequence[OccupancyScene]) -> str:
    space: Taxonomy = taxonomy(sample[0].taxonomy)
    shares = class_shares(sample)
    rows = [(i, name, shares[i]) for i, name in enumerate(space.classes) if shares[i]]
    rows += [(UNKNOWN, "unknown", shares[UNKNOWN])] if shares[UNKNOWN] else []
    scenes = "scene" if len(sample) == 1 else f"{len(sample)} scenes"
    return "\n".join(
        [
            "## Classes\n",
            f"Share of voxels in the first {scenes}.\n",
            "| id | class | share |",
            "|---|---|---|",
            *(f"| {i} | {name} | {100 * share:.3f} % |" for i, name, share in rows),
            "",
        ]
    )


def _conditions(sample: Sequence[OccupancyScene]) -> str | None:
    """How many scenes of the sample carry which conditions; None where none does."""
    counts: Counter[str] = Counter()
    for scene in sample:
        asked, said = scene.conditions, scene.provenance
        counts.update([f"command {asked.command}"] if asked.command else [])
        counts.update(["trajectory"] if asked.trajectory is not None else [])
        if asked.layout is not None:
            counts.update(f"layout of {n}" for n, on in zip(LAYOUT_CLASSES, asked.layout.given, strict=True) if on)
        counts.update(f"{key}: {said[key]}" for key in ("chunks", "edit") if key in said)
        counts.update(["given voxels"] if "given_voxels" in said else [])
        counts.update(["conditions that contradict themselves"] if "contradictions" in said else [])
    if not counts:
        return None
    order = [f"command {name}" for name in COMMANDS] + ["trajectory", *(f"layout of {n}" for n in LAYOUT_CLASSES)]
    names = [n for n in order if n in counts] + sorted(n for n in counts if n not in order)
    found = sum(n for s in sample if type(n := s.provenance.get("contradictions")) is int)
    return "\n".join(
        [
            "## Conditions\n",
            f"Of the first {'scene' if len(sample) == 1 else f'{len(sample)} scenes'}.\n",
            "| condition | scenes |",
            "|---|---|",
            *(f"| {name} | {counts[name]} |" for name in names),
            *([f"\ncontradictions: {found} (`docs/conditions.md` says what counts)"] if found else []),
            *_agents(sample),
            "",
        ]
    )


def _agents(sample: Sequence[OccupancyScene]) -> list[str]:
    """A line a moving class of layouts: the share of the asked columns that hold it, as decoded and as written."""
    decoded: Counter[str] = Counter()
    written = LayoutCounts()
    for scene in sample:
        if said := decoded_columns(scene):
            decoded.update(said)
            written.add(scene if scene.anchor is None else ego_windows(scene, scene.grid))
    held = written.obeyed()
    return [
        f"\nasked {name} columns: {share:.0f} % hold one as decoded, {held[name]:.0f} % as written: who "
        "is missing is drawn (`docs/conditions.md`)"
        for name, share in decoded_shares(decoded).items()
        if name in held
    ]


def _how_made(plan: CorpusPlan) -> str:
    facts = [f"- {key}: {value}" for key, value in sorted(plan.fingerprint_of_generator.items())]
    command = command_line(plan)
    text = ["## How it was made\n", *(["```bash", command, "```\n"] if command else [])]
    text += ["The source of the scenes says of itself:\n", *facts, ""] if facts else []
    return "\n".join(
        [
            *text,
            "`config.json` is the configuration in full, `manifest.json` the plan, its fingerprint and a digest of "
            "each shard. `dyncity verify DIR` checks every byte. The same plan gives the same `shards/`.",
            "",
        ]
    )


def _how_to_load(plan: CorpusPlan) -> str:
    here = [
        "```python",
        "from dyncity.datasets.shards import OccupancyShards  # a torch Dataset of clips",
        'clips = OccupancyShards("DIR", frames=8)',
        "```",
        "",
    ]
    if plan.container == "numpy":
        plain = [
            "import numpy, pathlib",
            'path = next(pathlib.Path("DIR/shards").glob("*/*.npz"))',
            'semantics = numpy.load(path, allow_pickle=False)["semantics"]  # uint8 [t, x, y, z]',
        ]
    else:
        plain = [
            "import json, numpy, pyarrow.parquet",
            'table = pyarrow.parquet.read_table("DIR/shards/00000.parquet")  # one row a frame',
            'about = json.loads(table.schema.metadata[b"dyncity"])  # shape, voxel size, label space, ...',
            'semantics = numpy.frombuffer(table["semantics"][0].as_buffer(), "u1")  # C order x, y, z',
            "",
            "import datasets",
            'frames = datasets.load_dataset("parquet", data_files="DIR/shards/*.parquet")',
        ]
    return "\n".join(["## How to load it\n", "```python", *plain, "```\n", "With this package:\n", *here])


def _failures(manifest: Manifest) -> str | None:
    failures = [f for shard in manifest.shards for f in shard.failures]
    if not failures:
        return None
    rows = [f"| {f.index} | {f.seed} | {f.reason.replace('|', '/')} |" for f in failures[:_FAILURES_SHOWN]]
    more = len(failures) - len(rows)
    return "\n".join(
        [
            "## Scenes that could not be made\n",
            "| index | seed | reason |",
            "|---|---|---|",
            *rows,
            *([f"\n{more} more are listed in `manifest.json`."] if more else []),
            "",
        ]
    )


def _licence_text(plan: CorpusPlan, sample: Sequence[OccupancyScene]) -> str:
    terms = licence(plan, sample)
    if terms == UNKNOWN_LICENCE and plan.generator not in _LEARNED:
        text = "That of the data set that was imported, which its files do not state."
    elif terms == UNKNOWN_LICENCE:
        text = "That of the data that the checkpoint was trained on, which the checkpoint does not state."
    elif terms == SYNTHETIC_LICENCE:
        text = "Apache-2.0. No recorded data went into it, as far as its source says."
    else:
        text = f"{terms}: the terms of the recordings that it comes from."
    return f"## Licence\n\n{text}\n"
