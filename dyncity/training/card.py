"""The card of a checkpoint: what it is, what it was trained on, what it reaches, how to use it."""

from __future__ import annotations

from typing import Any

from dyncity.config import Config

_INTENT = """
## Use

    dyncity generate --checkpoint THIS_FOLDER --out corpus

`model.safetensors` holds the tensors, `config.json` the whole configuration; nothing here runs code.
"""


def _data_table(plan: dict[str, Any]) -> str:
    rows = [
        (key, plan[key])
        for key in ("generator", "num_scenes", "seed", "labels", "licence")
        if plan.get(key) is not None
    ]
    return "| training corpus | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows)


def _metrics_table(metrics: dict[str, float | int]) -> str:
    rows = "".join(f"| {key} | {value} |\n" for key, value in metrics.items() if key != "steps_per_second")
    return "| measured at the last checkpoint | |\n|---|---|\n" + rows


def vae_card(config: Config, plan: dict[str, Any], metrics: dict[str, float | int]) -> str:
    """Markdown for a VAE run; ``plan`` is that of the corpus it was trained on."""
    t, x, y, z = config.clip_shape
    return (
        f"# HexPlane VAE, preset {config.preset}\n\n"
        f"Clips of {t} frames, {x}x{y}x{z} voxels, planes fixed to the {config.clip.planes}.\n\n"
        f"{_data_table(plan)}\n{_metrics_table(metrics)}\n"
        "IoU on held-out clips of the training corpus, from the averaged weights, unknown voxels left out; "
        "`miou_carlasc` is over CarlaSC's ten classes other than free.\n"
    )


def dit_card(config: Config, plan: dict[str, Any], metrics: dict[str, float | int]) -> str:
    """Markdown for a DiT run, which holds its VAE too."""
    t, x, y, z = config.clip_shape
    return (
        f"# HexPlane VAE and DiT, preset {config.preset}\n\n"
        f"Generates scenes of {t} frames at {config.grid.frame_rate:g} Hz in a window of "
        f"{'x'.join(map(str, config.grid.shape))} voxels; the model works on {x}x{y}x{z}, planes fixed to "
        f"the {config.clip.planes}. DiT {config.dit.width} wide, {config.dit.depth} deep, rectified flow.\n\n"
        f"{_data_table(plan)}\n{_metrics_table(metrics)}{_INTENT}"
    )
