"""What ``world_fixed.py`` compares: the clips, the variants, their training with a clock, their judging.

Letters: t frames, x y z voxels, k classes of the model's label space.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from dyncity.anchoring import anchored, clip_of, ego_windows
from dyncity.checkpoint import CONFIG, WEIGHTS, build_vae, load_checkpoint
from dyncity.config import Config, VAEConfig
from dyncity.datasets.corpus import open_corpus
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.metrics.reconstruction import confusion
from dyncity.models.vae import HexPlaneVAE
from dyncity.presets import preset
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.taxonomy import label_map, taxonomy
from dyncity.training.loop import Metrics, Place
from dyncity.training.run_folder import load_state, prepare_run, sole_writer
from dyncity.training.vae_loop import VAEObjective, fit_vae
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.plan import MIXED, CorpusPlan
from generators.procedural.city import ProceduralCity
from generators.recorded import RecordedLogs

VARIANTS = ("world", "ego", "ego-wide", "published")
TRUTHS = ("ego-rendered", "cut out")
PLANES: tuple[Literal["world", "ego"], ...] = ("world", "ego")
TRAIN_SEED, HELD_OUT_SEED = 1, 1001
MARGIN_M = (12.8, 6.4)  # of presets that have none, metres along x and y: that of tiny
_WARM_UP = 2  # steps of a process before its clock counts

Matrices = dict[str, np.ndarray]


def world_config(config: Config) -> Config:
    """The configuration with planes fixed to the world; a margin as ``tiny`` has where it has none."""
    if config.clip.planes == "world":
        return config
    units = [s * f for s, f in zip(config.grid.voxel_size[:2], config.vae.downsample[1:3], strict=True)]
    mx, my = (f * round(m / u) for m, u, f in zip(MARGIN_M, units, config.vae.downsample[1:3], strict=True))
    return replace(config, clip=replace(config.clip, planes="world", margin=(mx, my)))


def variant(world: Config, name: str) -> Config:
    """A variant of a configuration with world-fixed planes.

    "world": as it is. "ego": the same network in ego-centred planes, without a margin. "ego-wide": the
    same with as many encoder channels as it takes to have at least the parameters of "world".
    "published": ego-centred planes, the published encoder, projection, fusion and widths; latent size and
    losses stay those of the others.
    """
    ego = replace(world, clip=replace(world.clip, planes="ego", margin=(0, 0)))
    if name == "world":
        return world
    if name == "ego":
        return ego
    if name == "published":
        kept = ("latent_channels", "downsample", "kl_weight", "class_weight_power", "class_slots", "recompute")
        return replace(ego, vae=VAEConfig(**{field: getattr(world.vae, field) for field in kept}))
    wanted, heads = parameters(world)[0], world.vae.projection_heads
    wide = ego
    while parameters(wide)[0] < wanted:
        wide = replace(wide, vae=replace(wide.vae, channels=wide.vae.channels + heads))
    return wide


def parameters(config: Config) -> tuple[int, int]:
    """Parameters of the VAE, and those of them in its projections, whose number depends on the grid."""
    named = list(build_vae(config).named_parameters())
    in_projections = sum(p.numel() for name, p in named if ".project." in name or ".over_time." in name)
    return sum(p.numel() for _, p in named), in_projections


@dataclass(frozen=True)
class Data:
    """The same clips twice, world-fixed and ego-centred, for training and held out: four corpora."""

    name: str
    folder: Path

    def corpus(self, part: str, planes: str) -> Path:
        """The folder of a part ("train", "held-out") in planes ("world", "ego")."""
        return self.folder / f"{part}-{planes}"

    def digest(self) -> str:
        """What the held-out clips are, as a hash."""
        plans = [open_corpus(self.corpus("held-out", planes)).manifest.fingerprint for planes in PLANES]
        return hashlib.sha256("".join(plans).encode()).hexdigest()


def procedural_data(folder: Path, config: Config, scenes: int, held_out: int) -> Data:
    """Scenes of the procedural city: the same specs in both frames, the four commands in turn.

    Args:
        folder: gets the corpora; those that are there already are kept.
        config: with world-fixed planes. Both corpora are made under it: the city depends on its extent.
        scenes, held_out: of root seeds ``TRAIN_SEED`` and ``HELD_OUT_SEED``.
    """
    data = Data("procedural", folder)
    for part, seed, count in (("train", TRAIN_SEED, scenes), ("held-out", HELD_OUT_SEED, held_out)):
        for planes in PLANES:
            build: Any = partial(ProceduralCity, config, frame=planes)
            _fill(data.corpus(part, planes), build, config, count, seed)
    return data


class RecordedClips:
    """A SceneGenerator of windows of imported logs, world-fixed or ego-centred; ``spec.index`` counts them.

    Resampling is done here, once, so that no variant pays for it while it is trained.
    """

    name = "argoverse2"
    micro_batch = 1

    def __init__(self, logs: Path, config: Config, planes: str, clips: tuple[tuple[str, int], ...]) -> None:
        self.config, self.planes, self.clips = config, planes, clips
        self._logs = open_corpus(logs)
        self._log: OccupancyScene | None = None

    def fingerprint(self) -> dict[str, str | int | float]:
        """The corpus of logs, the planes, and which windows."""
        windows = hashlib.sha256(json.dumps(self.clips).encode()).hexdigest()
        return {"logs": self._logs.manifest.fingerprint, "planes": self.planes, "windows": windows}

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """The windows numbered ``spec.index``."""
        return [self._clip(*self.clips[spec.index]) for spec in specs]

    def _clip(self, log: str, start: int) -> OccupancyScene:
        if self._log is None or self._log.scene_id != log:
            self._log = self._logs.scene(log)
        clip = replace(clip_of(self._log, start, self.config.clip.frames), scene_id=f"{log}-{start:04d}")
        if self.planes == "world":
            return anchored(clip, self.config.clip_grid)
        return clip


def recorded_data(folder: Path, config: Config, source: Path, held_out_log: str, held_out: int) -> Data:
    """Windows of Argoverse 2 logs: one log is held out, every window of the others is trained on.

    Args:
        folder: gets the imported logs and the corpora; those that are there already are kept.
        config: with world-fixed planes.
        source: the logs.
        held_out_log: begins the name of the log that is held out; empty: the first one.
        held_out: windows of it that are judged, evenly spaced.

    Raises:
        InputError: damaged logs, fewer than two, no log of that name.
    """
    recordings = RecordedLogs(source, config)
    recordings.check()
    _fill(folder / "logs", partial(RecordedLogs, source, config), config, recordings.scenes)
    logs = open_corpus(folder / "logs")
    windows = {log: [(log, k) for k in range(logs.frames(log) - config.clip.frames + 1)] for log in logs.scene_ids}
    held = next((log for log in windows if log.startswith(held_out_log)), None)
    if held is None or not windows[held]:
        raise InputError("--av2-held-out", f"no log {held_out_log!r} with a whole clip", f"one of {', '.join(windows)}")
    chosen = np.unique(np.linspace(0, len(windows[held]) - 1, held_out).round().astype(int))
    parts = {
        "train": tuple(w for log in windows if log != held for w in windows[log]),
        "held-out": tuple(windows[held][k] for k in chosen),
    }
    if not parts["train"]:
        raise InputError(source, "there is one log", "give two or more: one is held out")
    data = Data("av2", folder)
    for part, clips in parts.items():
        for planes in PLANES:
            build = partial(RecordedClips, folder / "logs", config, planes, clips)
            _fill(data.corpus(part, planes), build, config, len(clips))
    return data


def _fill(out: Path, build: Callable[[], Any], config: Config, scenes: int, seed: int = 0) -> None:
    """Make a corpus, or what is missing of it."""
    source = build()
    made = replace(preset(config.preset), grid=config.grid, clip=config.clip)  # whatever network is trained on it
    command = MIXED if source.name == "procedural" else None
    plan = CorpusPlan(
        source.name, made, scenes, seed=seed, command=command, fingerprint_of_generator=source.fingerprint()
    )
    result = make_corpus(plan, build, ParquetExporter(), out, resume=True)
    if result.failed:
        raise InputError(out, f"{result.failed} scenes could not be made", "choose other --scenes")


@dataclass(frozen=True)
class HeldOut:
    """A held-out clip in the model's label space.

    Attributes:
        world, ego: what the variants see of it.
        truths: uint8 ``[t, x, y, z]`` in the ego-centred window, by name: as the source made it
            ("ego-rendered") and cut out of ``world``; 255 in both where either does not know.
        uncovered: share of the voxels known to ``ego`` that the world-fixed clip does not know.
    """

    world: OccupancyScene
    ego: OccupancyScene
    truths: dict[str, np.ndarray]
    uncovered: float


def held_out_clips(data: Data, config: Config) -> list[HeldOut]:
    """The held-out clips with the truths that all variants are judged by."""
    corpora = [open_corpus(data.corpus("held-out", planes)) for planes in PLANES]
    table = label_map(corpora[0].taxonomy, config.taxonomy)
    clips = []
    for pair in zip(*(corpus.scenes() for corpus in corpora), strict=True):
        world, ego = (
            replace(s, semantics=table[s.semantics], taxonomy=config.taxonomy, instances=None, boxes=None) for s in pair
        )
        assert world.scene_id == ego.scene_id
        cut = ego_windows(world, config.grid).semantics
        known = (cut != UNKNOWN) & (ego.semantics != UNKNOWN)
        seen = (np.where(known, ids, UNKNOWN).astype(np.uint8) for ids in (ego.semantics, cut))
        uncovered = 1 - known.sum() / max(1, (ego.semantics != UNKNOWN).sum())
        clips.append(HeldOut(world, ego, dict(zip(TRUTHS, seen, strict=True)), float(uncovered)))
    return clips


def rebuilt(vae: HexPlaneVAE, planes: str, clip: HeldOut, grid: GridSpec, device: torch.device) -> OccupancyScene:
    """What a VAE makes of a clip (from the posterior means), as ego-centred frames on ``grid``."""
    scene = clip.world if planes == "world" else clip.ego
    with torch.inference_mode():
        ids = torch.from_numpy(scene.semantics)[None].to(device)
        guess = vae.decode(vae.encode(ids).mean)[0].cpu().numpy()
    scene = replace(scene, semantics=guess)
    return ego_windows(scene, grid) if planes == "world" else scene


def judged(clips: Iterable[HeldOut], scenes: Iterable[OccupancyScene]) -> Matrices:
    """Confusion matrices ``[k, k]`` of ego-centred scenes with both truths; unknown voxels are left out."""
    matrices: Matrices = {}
    for clip, scene in zip(clips, scenes, strict=True):
        classes = len(taxonomy(scene.taxonomy))
        for name, truth in clip.truths.items():
            matrices[name] = matrices.get(name, 0) + confusion(truth, scene.semantics, classes)
    return matrices


class Clock:
    """Seconds a training step, and the weights shipped along the way; called as each step begins.

    On a CPU the seconds are those of all cores together, whatever else the machine does; elsewhere they
    are the clock's. A step after which the run was saved is not counted, nor are the first of a process.
    """

    def __init__(self, run: Path, done: int, every: int, device: torch.device) -> None:
        self.run, self.done, self.every, self.begun = run, done, every, 0
        self.now = time.process_time if device.type == "cpu" else time.perf_counter
        self.last = 0.0
        path = run / "seconds.json"
        self.counted = json.loads(path.read_text()) if path.exists() else {"steps": 0, "seconds": 0.0}

    def running(self) -> RemovableHandle:
        """A context in which every forward pass of a ``VAEObjective`` starts a step."""
        return register_module_forward_pre_hook(lambda module, _: self.tick() if type(module) is VAEObjective else None)

    def tick(self) -> None:
        """A step begins; ``done`` are behind."""
        if self.done and self.done % self.every == 0:
            self.keep()
        elif self.begun > _WARM_UP:
            self.counted["steps"] += 1
            self.counted["seconds"] += self.now() - self.last
        self.begun += 1
        self.done += 1
        self.last = self.now()

    def keep(self) -> None:
        """Copy the weights that were shipped after ``done`` steps, and write down the seconds."""
        path = self.run / "snapshots" / f"step-{self.done:08d}"
        if not path.exists():
            part = path.with_name(f".{path.name}.{os.getpid()}")
            part.mkdir(parents=True)
            for name in (WEIGHTS, CONFIG):
                shutil.copyfile(self.run / name, part / name)
            part.rename(path)
        (self.run / "seconds.json").write_text(json.dumps(self.counted))


def trained(config: Config, data: Path, run: Path, device: torch.device, report: Callable[[Metrics], None]) -> None:
    """Train a variant by ``fit_vae``, or the rest of it, keeping the weights of every checkpoint on the way.

    Raises:
        InputError: the run was begun under another configuration or is being trained by somebody else.
    """
    prepare_run(run, config, resume=True, overwrite=False)
    steps = config.train_vae.steps
    if (run / "snapshots" / f"step-{steps:08d}").exists():
        return
    with sole_writer(run, patience=5.0):
        state = load_state(run)
        clock = Clock(run, state[0] if state else 0, config.train_vae.checkpoint_every, device)
        with clock.running():
            fit_vae(config, data, run, Place(device=device), report)
        clock.done = steps
        clock.keep()


@dataclass(frozen=True)
class Point:
    """A place on the curve of a run: after ``step`` steps and ``seconds``, judged by both truths."""

    step: int
    seconds: float
    matrices: Matrices


def curve(run: Path, data: Data, clips: list[HeldOut], config: Config, device: torch.device) -> Iterator[Point]:
    """The curve of a finished run; what was judged before by the same clips is not judged again."""
    counted = json.loads((run / "seconds.json").read_text())
    a_step = counted["seconds"] / max(1, counted["steps"])
    digest = data.digest()
    for folder in sorted((run / "snapshots").glob("step-*")):
        step, path = int(folder.name.removeprefix("step-")), folder / "judged.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if known.get("clips") != digest:
            vae = load_checkpoint(folder, device).vae
            scenes = (rebuilt(vae, config.clip.planes, clip, config.grid, device) for clip in clips)
            matrices = {name: matrix.tolist() for name, matrix in judged(clips, scenes).items()}
            known = {"clips": digest, "matrices": matrices}
            part = path.with_suffix(".part")
            part.write_text(json.dumps(known))
            part.replace(path)
        yield Point(step, step * a_step, {name: np.array(m, np.int64) for name, m in known["matrices"].items()})
