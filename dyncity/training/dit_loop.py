"""Training the DiT on normalised latent rollouts, conditions dropped at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dyncity.checkpoint import build_dit, load_checkpoint, save_checkpoint, start_from, vae_digest
from dyncity.conditions import LAYOUT_CLASSES
from dyncity.config import Config
from dyncity.config_file import to_dict
from dyncity.diffusion.ddpm import TRAINED_STEPS, add_noise, ddpm_losses, linear_schedule
from dyncity.diffusion.flow import interpolate, logit_normal_times
from dyncity.diffusion.latent_scale import LatentScale
from dyncity.errors import InputError
from dyncity.hexplane import PLANES, planes_of, rollout_mask
from dyncity.layout import encode_layout
from dyncity.models.attention import resolve_backend
from dyncity.models.conditioning import ConditionBatch
from dyncity.models.dit import TIME_SCALE, DiT
from dyncity.models.given import normalised_given
from dyncity.seeding import Purpose, stream
from dyncity.training.card import dit_card
from dyncity.training.clips import batch_numbers
from dyncity.training.latents import Latents, open_latents
from dyncity.training.loop import Metrics, Place, optimise
from dyncity.training.mover_cells import mover_directions

_STATISTICS_CLIPS = 1000
_EVALUATED_CLIPS = 64
# Shares of the training rows that have a layout, of the classes that it has, and of the rows with given voxels.
_WITH_LAYOUT, _LAYOUT_CLASS, _WITH_GIVEN = 0.2, 0.6, 0.4
# What a cell weighs in the loss where all of it is given, against 1 + this where none of it is.
_GIVEN_WEIGHT = 0.1


@dataclass(frozen=True)
class DiTBatch:
    """Rows of one worker: normalised rollouts and noise ``[r, c, h, w]``, noise levels ``[r]`` (times
    in (0, 1) of a flow, int64 steps of DDPM), conditions, directions along which errors count once more, as much
    as they are long squared (``[r, c, h, w]``, zero for none), and the global batch over the number of workers.
    """

    data: Tensor
    noise: Tensor
    time: Tensor
    conditions: ConditionBatch
    movers: Tensor
    share: float


class DiTObjective(nn.Module):
    """The DiT together with its objective, masked to the planes, and to what is open where voxels are given."""

    def __init__(self, dit: DiT, objective: str) -> None:
        super().__init__()
        self.dit, self.objective, self.schedule = dit, objective, linear_schedule()
        self.register_buffer("mask", rollout_mask(dit.latent), persistent=False)

    def forward(self, batch: DiTBatch) -> dict[str, Tensor]:
        """Rectified flow: the squared error of the velocity. DDPM: that of the noise, and the variational term."""
        weights = cell_weights(batch.conditions.given, self.mask)
        if self.objective == "flow":
            noised, velocity = interpolate(batch.data, batch.noise, batch.time)
            guess = self.dit(noised, batch.time * TIME_SCALE, batch.conditions)
            error = guess - velocity
            along = (error * batch.movers).sum(dim=1, keepdim=True)
            total = (error.square() * weights).sum() + (along.square() * weights).sum()
            return {"loss": total / (self.mask.sum() * guess.shape[1]) / batch.share}
        noised = add_noise(batch.data, batch.noise, batch.time, self.schedule)
        answer = self.dit(noised, batch.time.float(), batch.conditions)
        mse, variational = ddpm_losses(answer, batch.data, batch.noise, noised, batch.time, self.schedule, weights)
        terms = {"loss": mse + variational, "mse": mse, "vb": variational}
        return {name: term.sum() / batch.share for name, term in terms.items()}


def cell_weights(given: Tensor | None, mask: Tensor) -> Tensor:
    """What each cell of the rollouts counts in the loss: ``[b, 1, h, w]``, of the same sum in every row.

    A row with given voxels teaches what to put beside them. Were the cells that it was told to weigh as much as the
    others, an edit's open part would be a hundredth of the loss and would not be learned.

    Args:
        given: ``[b, c + 1, h, w]`` as in ``ConditionBatch``, or None.
        mask: ``[1, 1, h, w]`` 1 where a plane lies.
    """
    if given is None:
        return mask
    weights = (1.0 + _GIVEN_WEIGHT - given[:, -1:]) * mask
    return weights * (mask.sum() / weights.sum(dim=(1, 2, 3), keepdim=True))


def latent_scale(latents: Latents) -> LatentScale:
    """Mean and standard deviation of each plane and channel, ``[6, c]``, over up to 1000 training clips.

    The deviation is that of posterior samples, not of the means alone: a channel whose means vary less than the noise
    that the decoder was trained with says nothing, and scaled up to 1 it would take as much of the DiT as any other.
    """
    numbers = latents.train[:: max(1, len(latents.train) // _STATISTICS_CLIPS)]
    planes = planes_of(torch.from_numpy(latents.rollout[numbers].astype(np.float32)), latents.config.latent_shape)
    mean = torch.stack([planes[p].mean(dim=(0, 2, 3)) for p in PLANES])
    variance = torch.stack([planes[p].var(dim=(0, 2, 3)) for p in PLANES]) + torch.tensor(latents.variance.tolist())
    return LatentScale(mean, variance.sqrt().clamp(min=1e-4))


def drop_conditions(conditions: ConditionBatch, rng: np.random.Generator, probability: float) -> ConditionBatch:
    """Drop all conditions of a sample with ``probability`` (guidance needs that), then each by itself."""
    b = len(conditions.command)
    everything = rng.random(b) < probability
    names = ("command", "trajectory", "path", "previous", "layout")
    return conditions.dropped(**{name: torch.from_numpy(everything | (rng.random(b) < probability)) for name in names})


def fit_dit(
    config: Config,
    data: Path,
    vae: Path,
    out: Path,
    place: Place,
    report: Callable[[Metrics], None],
    start: Path | None = None,
) -> None:
    """Train the DiT of ``config`` on latents; ``out`` is prepared by ``run_folder.prepare_run``.

    The run ships VAE and DiT in one checkpoint, ready for ``dyncity generate``. With ``start``, a checkpoint, the
    weights are its own at first, and so is the scale of the latents.

    Raises:
        InputError: the latents do not come from this VAE, or they or ``start`` do not fit the configuration.
    """
    settings, seed = config.train_dit, config.train_dit.seed
    latents = open_latents(data)
    checkpoint = load_checkpoint(vae)
    if latents.vae_sha256 != vae_digest(checkpoint.vae):
        raise InputError(data, "was encoded by another VAE than --vae", "encode again with this VAE")
    _same_clips(config, latents.config, data)
    needed = (
        ("layout_plane", latents.layout, "false"),
        ("given", latents.given, "false"),
        ("mover_weight", latents.movers, "0"),
    )
    for name, array, off in needed:
        if getattr(config.dit, name) and array is None:
            fix = f"encode again with dit.{name} in the VAE's config.json, or --set dit.{name}={off}"
            raise InputError(data, f"was encoded without what dit.{name} needs", fix)
    torch.manual_seed(seed)
    dit = build_dit(config)
    dit.backend = resolve_backend(settings.attention, place.device, settings.precision)
    if start is None:
        scale = latent_scale(latents)
    else:
        tensors = start_from(start, "dit", dit)
        scale = LatentScale(tensors["latent.mean"], tensors["latent.std"])
    mean, std = scale.maps(config.latent_shape)
    order = np.array(latents.train)[stream(seed, 0, Purpose.TRAIN_BATCH).permutation(len(latents.train))]
    bias = config.dit.time_mean
    micro_batches = place.parts(settings)

    def batch_of(numbers: list[int], index: int, drop: float, share: float) -> DiTBatch:
        """Rows ``numbers``; row i draws from the stream ``index[i]``."""
        rollouts = torch.from_numpy(latents.rollout[numbers].astype(np.float32))
        streams = [stream(seed, index + k, Purpose.TRAIN_NOISE) for k in range(len(numbers))]
        noise = np.stack([s.standard_normal(rollouts.shape[1:], dtype=np.float32) for s in streams])
        levels = (
            logit_normal_times(torch.tensor([s.standard_normal() for s in streams], dtype=torch.float32), bias)
            if config.dit.objective == "flow"
            else torch.tensor([int(s.integers(TRAINED_STEPS)) for s in streams])
        )
        conditions = latents.conditions(numbers)
        movers = torch.zeros(len(numbers), 1, 1, 1)
        if drop and config.dit.mover_weight and latents.movers is not None:
            added = torch.from_numpy(latents.movers[numbers].astype(np.float32))
            movers = config.dit.mover_weight**0.5 * mover_directions(added, std)
        if drop:
            conditions = drop_conditions(conditions, streams[0], drop)
            conditions = replace(conditions, **_maps_of(latents, numbers, streams, config, (mean, std)))
        return DiTBatch(
            ((rollouts - mean) / std).to(place.device),
            torch.from_numpy(noise).to(place.device),
            levels.to(place.device),
            conditions.to(place.device),
            movers.to(place.device),
            share,
        )

    def train_batch(step: int) -> list[DiTBatch]:
        numbers, first = batch_numbers(order, step, settings.batch), step * settings.batch
        drop, share = config.dit.drop_condition, settings.batch / place.world
        return [
            _joined([batch_of([int(numbers[row])], first + row, drop, 1.0) for row in rows], share)
            for rows in micro_batches
        ]

    held = latents.held[:_EVALUATED_CLIPS]
    held_out = batch_of(held, 2**62, 0.0, float(len(held))) if place.rank == 0 else None

    def evaluate(objective: nn.Module) -> Metrics:
        with torch.inference_mode():
            return {"held_out_loss": round(float(objective(held_out)["loss"]), 5)}

    def ship(objective: nn.Module, metrics: Metrics) -> None:
        tensors = {f"vae.{n}": t for n, t in checkpoint.vae.state_dict().items()}
        tensors |= {f"dit.{n}": t for n, t in objective.dit.state_dict().items()}
        tensors |= {"latent.mean": scale.mean, "latent.std": scale.std}
        save_checkpoint(out, config, tensors, dit_card(config, latents.plan, metrics), checkpoint.licence)

    optimise(
        out=out,
        config=settings,
        objective=DiTObjective(dit, config.dit.objective),
        parts=list(dit.blocks),
        place=place,
        batch_of=train_batch,
        evaluate=evaluate,
        ship=ship,
        report=report,
    )


def _maps_of(
    latents: Latents,
    numbers: list[int],
    streams: list[np.random.Generator],
    config: Config,
    scale: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Layouts and given voxels of training rows; most rows have neither, since most scenes are made without."""
    maps: dict[str, Tensor] = {}
    draws = [s.random(2 + len(LAYOUT_CLASSES)) for s in streams]
    if config.dit.layout_plane and latents.layout is not None:
        some = [(draw[0] < _WITH_LAYOUT) & (draw[2:] < _LAYOUT_CLASS) for draw in draws]
        cells = latents.layout[numbers].astype(np.float32) / 255
        encoded = [encode_layout(c, given) for c, given in zip(cells, some, strict=True)]
        maps["layout_plane"] = torch.from_numpy(np.stack(encoded))
    if config.dit.given and latents.given is not None:
        keep = torch.tensor([float(draw[1] < _WITH_GIVEN) for draw in draws])
        encoded = normalised_given(torch.from_numpy(latents.given[numbers].astype(np.float32)), *scale)
        maps["given"] = encoded * keep[:, None, None, None]
    return maps


def _joined(parts: list[DiTBatch], share: float) -> DiTBatch:
    conditions = parts[0].conditions
    for part in parts[1:]:
        conditions = conditions.followed_by(part.conditions)
    joined = replace(parts[0], conditions=conditions, share=share)
    tensors = {name: torch.cat([getattr(p, name) for p in parts]) for name in ("data", "noise", "time", "movers")}
    return replace(joined, **tensors)


def _same_clips(config: Config, encoded: Config, data: Path) -> None:
    for name in ("grid", "clip", "taxonomy", "vae"):
        if to_dict(getattr(config, name)) != to_dict(getattr(encoded, name)):
            raise InputError(
                data,
                f"was encoded under another {name!r} configuration",
                "train the DiT with the VAE's configuration",
            )
