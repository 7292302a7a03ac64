"""Encoding a corpus: the latent rollouts that the DiT is trained on.

``LATENTS/rollout.npy`` float16 ``[n, c, h, w]``, ``trajectory.npy`` float64 ``[n, t, 3]``, ``command.npy``
uint8 ``[n]`` (``COMMANDS``), ``grid_yaw.npy`` float64 ``[n]`` (``Conditions.grid_yaw``), ``latents.json`` (clips,
held-out clips, ``vae_digest`` of the VAE, digests of the other files), ``config.json``,
``variance.npy`` float64 ``[6, c]`` (mean variance of the posterior, planes in the order of ``PLANES``). Where the
configuration has ``dit.layout_plane``, ``dit.given`` or ``dit.mover_weight``, ``layout.npy`` uint8 ``[n, m, x, y]``
(``layout_cells`` in 1/255), ``given.npy`` float16 ``[n, c + 1, h, w]`` (``encode_given`` of a part of each clip) and
``movers.npy`` float16 ``[n, c, h, w]`` (``mover_latents``).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyncity.bounded_files import read_array, read_json
from dyncity.checkpoint import Checkpoint, load_checkpoint, vae_digest
from dyncity.conditions import COMMANDS, LAYOUT_CLASSES
from dyncity.config import Config
from dyncity.config_file import config_json, read_config
from dyncity.errors import InputError
from dyncity.folder_kind import LATENTS, not_wanted
from dyncity.hexplane import PLANES, rollout, rollout_shape
from dyncity.layout import layout_cells, layout_channels, layout_of
from dyncity.models.conditioning import ConditionBatch, encode_conditions
from dyncity.models.given import encode_given
from dyncity.noted_digest import note_digest, sha256_of
from dyncity.places import check_outside_corpora
from dyncity.seeding import Purpose, stream
from dyncity.training.clips import Clip, Clips
from dyncity.training.latent_files import ALWAYS, DIGESTS, OWN, RECORD, SOMETIMES, digests_of
from dyncity.training.mover_cells import mover_latents
from dyncity.training.partial import draw_given
from dyncity.training.run_folder import sole_writer

_MADE, _REPLACED = "made", "replaced"  # in the folder beside the place, while it is written


@dataclass(frozen=True)
class Latents:
    """A folder of encoded clips, its arrays mapped into memory."""

    config: Config
    rollout: NDArray[np.float16]
    trajectory: NDArray[np.float64]
    command: NDArray[np.uint8]
    variance: NDArray[np.float64]
    grid_yaw: NDArray[np.float64]
    layout: NDArray[np.uint8] | None
    given: NDArray[np.float16] | None
    movers: NDArray[np.float16] | None
    train: list[int]
    held: list[int]
    vae_sha256: str
    plan: dict[str, Any]

    def conditions(self, numbers: list[int]) -> ConditionBatch:
        """The commands and trajectories of some clips."""
        return encode_conditions(
            [COMMANDS[c] for c in self.command[numbers]],
            list(self.trajectory[numbers]),
            self.config.clip.frames,
            self.config.clip_grid,
            self.config.vae.downsample[1:3],
            self.grid_yaw[numbers].tolist(),
        )


def encode_corpus(
    data: Path,
    vae: Path,
    out: Path,
    *,
    overwrite: bool = False,
    batch: int = 4,
    device: str = "cpu",
    report: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] | None = None,
) -> int:
    """Encode all clips of a corpus to latent means; the number of clips.

    Args:
        data: a corpus.
        vae: a checkpoint or a run of ``train vae``.
        out: the folder to write; it appears when it is complete. Until then ``.<name>.partial`` grows beside it; what a
            killed run leaves of that goes with the next one.
        overwrite: replace a folder of latents that is there; files in it that are none of theirs stay.
        batch: clips at a time.
        device: where to compute.
        report: called with clips done and all clips.
        say: told in one line what ``overwrite`` deletes, once it is known that the corpus can be encoded.

    Raises:
        InputError: bad input, ``out`` exists, or another process encodes to it.
    """
    _check(out, overwrite)
    checkpoint = load_checkpoint(vae, device)
    clips = Clips(data, checkpoint.config)
    place = out.absolute()
    partial = place.with_name(f".{place.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with sole_writer(partial, 0.0, "encoding to it"):
            try:
                _settle(partial, out)
                _check(out, overwrite)  # again: a killed run may have left it beside its place
                if out.exists() and say is not None:
                    sizes = [path.stat().st_size for path in out.iterdir() if _is_own(path)]
                    say(f"--overwrite deletes {out}: latents of {len(sizes)} files, {sum(sizes)} bytes")
                (partial / _MADE).mkdir()
                _write(partial / _MADE, clips, checkpoint, batch, device, report)
                if out.exists():
                    out.rename(partial / _REPLACED)
                (partial / _MADE).rename(out)
            finally:
                _settle(partial, out)
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise InputError(out, f"cannot be written ({error.strerror})", "free space or give another --out") from None
    return len(clips)


def _check(out: Path, overwrite: bool) -> None:
    """Raise InputError unless latents may be written there."""
    check_outside_corpora(out)
    if (out.exists() or out.is_symlink()) and not (overwrite and not out.is_symlink() and (out / RECORD).is_file()):
        raise InputError(out, "already exists", "use --overwrite on latents, or another --out")


def _is_own(path: Path) -> bool:
    """Whether a file in a folder of latents is one that is written there."""
    return path.name in OWN and path.is_file()


def _settle(partial: Path, out: Path) -> None:
    """End what a run left, perhaps a killed one: what was replaced comes back, or goes but for files of others."""
    replaced = partial / _REPLACED
    if replaced.exists() and not out.exists():
        replaced.rename(out)
    elif replaced.exists():
        for path in replaced.iterdir():
            if not _is_own(path):
                path.rename(out / path.name)
        shutil.rmtree(replaced)
    shutil.rmtree(partial / _MADE, ignore_errors=True)


def _write(
    folder: Path,
    clips: Clips,
    checkpoint: Checkpoint,
    batch: int,
    device: str,
    report: Callable[[int, int], None],
) -> None:
    config, vae, total = checkpoint.config, checkpoint.vae, len(clips)
    height, width = rollout_shape(vae.latent_shape)
    shape = (total, vae.latent_channels, height, width)
    rollouts = _mapped(folder / "rollout.npy", np.float16, shape)
    layouts = givens = movers = None
    if config.dit.layout_plane:
        shape = (total, _layout_maps(config), *vae.latent_shape[1:3])
        layouts = _mapped(folder / "layout.npy", np.uint8, shape)
    if config.dit.given:
        shape = (total, vae.latent_channels + 1, height, width)
        givens = _mapped(folder / "given.npy", np.float16, shape)
    if config.dit.mover_weight:
        movers = _mapped(folder / "movers.npy", np.float16, rollouts.shape)
    variance = np.zeros((len(PLANES), vae.latent_channels))
    trajectories = np.zeros((total, config.clip.frames, 3))
    commands = np.zeros(total, np.uint8)
    grid_yaws = np.zeros(total)
    starts = list(range(0, total, batch))

    def load(start: int) -> list[Clip]:
        return [clips[i] for i in range(start, min(start + batch, total))]

    with ThreadPoolExecutor(1) as ahead, torch.inference_mode():
        upcoming = ahead.submit(load, 0)
        for start in starts:
            loaded = upcoming.result()
            if start + batch < total:
                upcoming = ahead.submit(load, start + batch)
            ids = np.stack([clip.ids for clip in loaded])
            end = start + len(loaded)
            posterior = vae.encode(torch.from_numpy(ids).to(device))
            rollouts[start:end] = rollout(posterior.mean).cpu().numpy()
            spread = [posterior.log_variance[p].exp().mean(dim=(2, 3)).sum(0) for p in PLANES]
            variance += torch.stack(spread).double().cpu().numpy() / total
            if layouts is not None:
                layouts[start:end] = [_layout_bytes(clip, config) for clip in loaded]
            if givens is not None:
                givens[start:end] = encode_given(vae, _given_parts(loaded, start, config).to(device)).cpu().numpy()
            if movers is not None:
                movers[start:end] = mover_latents(vae, ids, posterior, config.taxonomy).cpu().numpy()
            trajectories[start:end] = [clip.trajectory for clip in loaded]
            commands[start:end] = [COMMANDS.index(clip.command) for clip in loaded]
            grid_yaws[start:end] = [clip.grid_yaw for clip in loaded]
            report(end, total)
    for array in (rollouts, layouts, givens, movers):
        if array is not None:
            array.flush()
    np.save(folder / "trajectory.npy", trajectories)
    np.save(folder / "command.npy", commands)
    np.save(folder / "variance.npy", variance)
    np.save(folder / "grid_yaw.npy", grid_yaws)
    train, held = clips.split()
    (folder / "config.json").write_text(config_json(config))
    facts = {
        "clips": total,
        "held_out": len(held),
        "vae_sha256": vae_digest(vae),
        "train": train,
        "held": held,
        "data": clips.corpus.manifest.plan,
        DIGESTS: digests_of(folder),
    }
    (folder / RECORD).write_text(json.dumps(facts, indent=1) + "\n")
    note_digest(folder / RECORD, sha256_of(folder / RECORD))


def _mapped(path: Path, kind: Any, shape: tuple[int, ...]) -> Any:
    """A new array in a file that the disk has room for: writing to the map of one that it has not ends the process.

    Raises:
        OSError: there is no room.
    """
    array = np.lib.format.open_memmap(path, "w+", kind, shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _layout_maps(config: Config) -> int:
    """How many maps a layout of a clip has, cell by cell."""
    return layout_channels(config.clip.frames, config.vae.downsample[1:3]) - len(LAYOUT_CLASSES)


def _layout_bytes(clip: Clip, config: Config) -> NDArray[np.uint8]:
    cells = layout_cells(layout_of(clip.ids, config.taxonomy).maps, config.vae.downsample[1:3])
    return np.round(255 * cells).astype(np.uint8)


def _given_parts(clips: list[Clip], first: int, config: Config) -> Tensor:
    """What is given of clips ``first``, ``first`` + 1, ...; the number of a clip decides what."""
    streams = [stream(0, first + k, Purpose.TRAIN_GIVEN) for k in range(len(clips))]
    parts = [draw_given(c.ids, c.trajectory, config, rng, c.grid_yaw) for c, rng in zip(clips, streams, strict=True)]
    return torch.from_numpy(np.stack(parts))


def open_latents(folder: Path) -> Latents:
    """Open a folder that ``encode_corpus`` wrote.

    Raises:
        InputError: missing, damaged or mismatched files.
    """
    fix = "make it by dyncity encode"
    if not (folder / RECORD).is_file():
        raise not_wanted(folder, f"there is no {RECORD} in it", fix, LATENTS)
    config = read_config(folder / "config.json")
    try:
        facts = read_json(folder / RECORD, fix)
        arrays: dict[str, Any] = {name: read_array(folder / f"{name}.npy", fix) for name in ALWAYS}
        for name in SOMETIMES:
            path = folder / f"{name}.npy"
            arrays[name] = read_array(path, fix) if path.exists() else None
        latents = Latents(
            config, **arrays, train=list(facts["train"]), held=list(facts["held"]),
            vae_sha256=str(facts["vae_sha256"]), plan=dict(facts["data"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(folder, f"not a folder of latents ({error})", "make it by dyncity encode") from None
    numbers = [*latents.train, *latents.held]
    n, c = len(latents.trajectory) if latents.trajectory.ndim else 0, config.vae.latent_channels
    plane = rollout_shape(config.latent_shape)
    expected = {
        "rollout": (np.float16, (n, c, *plane)),
        "trajectory": (np.float64, (n, config.clip.frames, 3)),
        "command": (np.uint8, (n,)),
        "variance": (np.float64, (len(PLANES), c)),
        "grid_yaw": (np.float64, (n,)),
        "layout": (np.uint8, (n, _layout_maps(config), *config.latent_shape[1:3])),
        "given": (np.float16, (n, c + 1, *plane)),
        "movers": (np.float16, (n, c, *plane)),
    }
    for name, (kind, shape) in expected.items():
        array = arrays[name]
        if array is not None and (array.dtype, array.shape) != (kind, shape):
            found = f"found {array.dtype} {list(array.shape)}, not {np.dtype(kind)} {list(shape)}"
            raise InputError(folder / f"{name}.npy", found, fix)
    for name in ("trajectory", "variance", "grid_yaw"):
        if not np.isfinite(getattr(latents, name)).all():
            raise InputError(folder / f"{name}.npy", "it holds values that are not finite", fix)
    whole = all(type(i) is int and 0 <= i < n for i in numbers) and (latents.command < len(COMMANDS)).all()
    if not numbers or not whole:
        raise InputError(folder, "its arrays do not belong together", "make it anew by dyncity encode")
    return latents
