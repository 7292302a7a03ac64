"""The command that makes a corpus, for its card: with it ``--resume`` goes on and the same shards come out."""

from __future__ import annotations

import json
import shlex
from typing import Any

from dyncity.checkpoint import shipped_checkpoint, weights_digest
from dyncity.config_file import read_config, to_dict
from dyncity.presets import preset as named
from generators.plan import CorpusPlan
from generators.recorded_trees import TREES


def command_line(plan: CorpusPlan) -> str | None:
    """The command that makes the corpus, with ``DIR``, ``FILE``, ``SOURCE`` and ``CHECKPOINT`` in place of paths.

    None where the source of the scenes is not one that the command line knows. Of a checkpoint that is not the shipped
    one nobody knows here how it samples by itself: steps and guidance are said, other settings of sampling are not.
    """
    said = plan.fingerprint_of_generator
    if plan.generator == "argoverse2":
        words = ["import", "av2", "SOURCE", "--out", "DIR", "--preset", plan.config.preset]
        words += ["--frames", str(said["frames"])] if said.get("frames") else []
        words += _settings(to_dict(plan.config), to_dict(named(plan.config.preset)))
    elif plan.generator in TREES:
        words = ["import", plan.generator, "SOURCE", "--out", "DIR"]
        words += ["--frames", str(said["frames"])] if said.get("frames") else []
    elif "edited_corpus_sha256" in said:
        words = ["edit", "SOURCE", "--out", "DIR", "--num-scenes", str(plan.num_scenes), "--seed", str(plan.seed)]
        if "outpaint" in said:
            words += ["--outpaint", str(said["outpaint"])]
        elif "region" in said:
            words += ["--inpaint", "FILE"]
        else:
            words += ["--frame", str(said["frame"]), "--at", str(said["at"])]
        words += _sampling(plan)
    elif plan.generator in ("procedural", "diffusion"):
        words = ["generate", "--out", "DIR", "--generator", plan.generator]
        words += ["--num-scenes", str(plan.num_scenes), "--seed", str(plan.seed)]
        words += ["--micro-batch", str(plan.micro_batch)]
        if plan.generator == "procedural":
            words += ["--preset", plan.config.preset, "--frame", str(said.get("frame", "ego"))]
            words += _settings(to_dict(plan.config), to_dict(named(plan.config.preset)))
        else:
            words += ["--chunks", str(said["chunks"])] if "chunks" in said else []
            words += _sampling(plan, without=("micro_batch",))
        words += ["--layout", "FILE"] if plan.layout is not None else []
        if plan.trajectory is not None:
            words += ["--trajectory", "FILE"]
        elif plan.command is not None:
            words += ["--command", plan.command]
    else:
        return None
    words += ["--scenes-per-shard", str(plan.shard_size), "--labels", plan.labels, "--container", plan.container]
    if plan.columns:
        words += ["--columns", ",".join(plan.columns)]
    return shlex.join(["dyncity", *words])


def _sampling(plan: CorpusPlan, without: tuple[str, ...] = ()) -> list[str]:
    """The checkpoint, and how it samples otherwise than by itself; ``without``: fields that are said elsewhere."""
    chosen = {k: v for k, v in to_dict(plan.config.sampling).items() if k not in without}
    shipped = shipped_checkpoint()
    if plan.fingerprint_of_generator.get("checkpoint_sha256") == weights_digest(shipped):
        return _settings(chosen, to_dict(read_config(shipped / "config.json").sampling), "sampling.")
    known = {name: chosen[name] for name in ("steps", "cfg_scale", "cfg_scale_layout", "micro_batch") if name in chosen}
    return ["--checkpoint", "CHECKPOINT", *_settings(known, {}, "sampling.")]


def _settings(chosen: dict[str, Any], base: dict[str, Any], prefix: str = "") -> list[str]:
    """``--set a.b=c`` for each value that is not the base's."""
    words: list[str] = []
    for name, value in chosen.items():
        if isinstance(value, dict):
            words += _settings(value, base.get(name, {}), f"{prefix}{name}.")
        elif name not in base or value != base[name]:
            shown = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            words += ["--set", f"{prefix}{name}={shown}"]
    return words
