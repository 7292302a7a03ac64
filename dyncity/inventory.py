"""What a folder holds, in a few rows: a corpus, its latents, a checkpoint or a training run."""

from __future__ import annotations

import json
from pathlib import Path

from dyncity.bounded_files import check_is_file, check_tensors_header
from dyncity.config_file import read_config
from dyncity.errors import InputError
from dyncity.fetched_checkpoint import fetched
from dyncity.folder_kind import not_wanted
from dyncity.grid import GridSpec
from dyncity.object_storage import ObjectPath
from dyncity.terminal import size_text

Rows = list[tuple[str, str]]
_TOLD = ("step", "steps", "loss", "miou", "held_out_loss")  # of the metrics of a run; a VAE has one for each class
_LINE_BYTES = 2**16  # no line of metrics has more


def describe(folder: Path | ObjectPath) -> Rows:
    """Names and values of what a folder holds.

    Raises:
        InputError: no such folder, or one that holds none of these.
    """
    if isinstance(folder, ObjectPath):
        return _corpus(folder) if (folder / "manifest.json").exists() else describe(fetched(folder))
    if not folder.is_dir():
        raise not_wanted(folder, "it is no folder", "give a corpus, a checkpoint or a training run")
    if (folder / "manifest.json").exists():
        return _corpus(folder)
    if (folder / "latents.json").exists():
        return _latents(folder)
    if (folder / "checkpoints").is_dir():
        return _run(folder) + (_checkpoint(folder) if (folder / "model.safetensors").exists() else [])
    if (folder / "model.safetensors").exists():
        return _configuration(folder) + _checkpoint(folder)
    missing = "no corpus, latents, checkpoint, run or exported tree"
    raise not_wanted(folder, missing, "give a folder that a dyncity verb wrote")


def _grid(grid: GridSpec) -> str:
    shape, edges = ("x".join(f"{n:g}" for n in values) for values in (grid.shape, grid.voxel_size))
    low, high = (",".join(f"{v:g}" for v in corner) for corner in (grid.origin, grid.upper))
    return f"{shape} voxels of {edges} m, [{low}] to [{high}), {grid.frame_rate:g} Hz"


def _corpus(folder: Path | ObjectPath) -> Rows:
    from dyncity.datasets.corpus import open_corpus

    corpus = open_corpus(folder)
    manifest, plan = corpus.manifest, corpus.manifest.plan
    counts = f"{manifest.written} written, {manifest.failed} failed of {manifest.requested} requested"
    rows = [
        ("kind", "corpus"),
        ("scenes", counts if manifest.complete else f"{counts}; not finished, --resume goes on"),
        ("frames", str(sum(s.frames for s in manifest.shards))),
        ("shards", f"{len(manifest.shards)}, {size_text(sum(s.bytes for s in manifest.shards))}"),
        ("grid", _grid(corpus.grid)),
        ("frames are", "centred on the ego" if corpus.anchor is None else f"fixed at frame {corpus.anchor}"),
        ("labels", corpus.taxonomy),
    ]
    shown = ("generator", "seed", "command", "container")
    rows += [(key, str(plan[key])) for key in shown if plan.get(key) is not None]
    return [*rows, ("fingerprint", manifest.fingerprint[:16])]


def _latents(folder: Path) -> Rows:
    from dyncity.training.latents import open_latents

    latents = open_latents(folder)
    return [
        ("kind", "latents"),
        ("clips", f"{len(latents.rollout)}, of which {len(latents.held)} held out"),
        ("rollout", "x".join(map(str, latents.rollout.shape[1:])) + " (channels, height, width)"),
        ("encoded by", f"VAE {latents.vae_sha256}"),
        *_configuration(folder),
    ]


def _configuration(folder: Path) -> Rows:
    config = read_config(folder / "config.json")
    return [
        ("preset", config.preset),
        ("grid", _grid(config.grid)),
        ("clip", f"{config.clip.frames} frames, planes fixed to the {config.clip.planes}"),
        ("labels", config.taxonomy),
    ]


def _checkpoint(folder: Path) -> Rows:
    from safetensors import SafetensorError, safe_open

    from dyncity.checkpoint import weights_digest

    path = folder / "model.safetensors"
    counts: dict[str, int] = {}
    check_tensors_header(path, "give a folder that holds a checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118
                size = 1
                for n in file.get_slice(name).get_shape():
                    size *= n
                part = name.split(".")[0]
                counts[part] = counts.get(part, 0) + size
    except (SafetensorError, OSError) as error:
        raise InputError(path, f"not a safetensors file ({error})", "restore the file") from None
    parts = [f"{counts[p] / 1e6:.2f} M in the {name}" for p, name in (("vae", "VAE"), ("dit", "DiT")) if p in counts]
    return [
        ("checkpoint", "VAE and DiT: generates" if "dit" in counts else "VAE alone: encodes"),
        ("weights", f"{', '.join(parts)}; {size_text(path.stat().st_size)}"),
        ("sha256", weights_digest(folder)),
    ]


def _run(folder: Path) -> Rows:
    states = sorted((folder / "checkpoints").glob("step-*"))
    rows = [("kind", "training run"), *_configuration(folder)]
    rows.append(("last state", states[-1].name if states else "none yet"))
    if line := _last_line(folder / "metrics.jsonl"):
        try:
            values = json.loads(line).items()
            told = ", ".join(f"{k} {v:.4g}" for k, v in values if k in _TOLD and isinstance(v, int | float))
            text = f"{told}; all are in metrics.jsonl"
        except (ValueError, AttributeError, OverflowError, RecursionError):
            text = "its last line is not one of metrics"
        rows.append(("last metrics", text))
    return rows


def _last_line(path: Path) -> bytes:
    """The last line of a file that may be of any length; empty where there is none."""
    if not path.exists():
        return b""
    check_is_file(path, "remove it, or restore the run")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LINE_BYTES))
        return (file.read(_LINE_BYTES).splitlines() or [b""])[-1]
