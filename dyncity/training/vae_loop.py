"""Training the VAE: cross entropy + Lovasz-softmax + KL on clips of a corpus (paper section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dyncity.checkpoint import build_vae, save_checkpoint, start_from
from dyncity.config import Config
from dyncity.hexplane import PLANES, Planes, plane_shapes
from dyncity.metrics.reconstruction import class_iou, confusion, mapped, mean_iou
from dyncity.models.losses import class_weights, reconstruction_loss
from dyncity.models.vae import HexPlaneVAE, kl_divergence
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import label_map, taxonomy
from dyncity.training.card import vae_card
from dyncity.training.clips import Clips, batch_numbers
from dyncity.training.loop import Metrics, Place, optimise
from dyncity.training.memory import hand_back_large_blocks

_COUNTED_CLIPS = 200
_EVALUATED_CLIPS = 24
_LOVASZ_VOXELS = 16_384


@dataclass(frozen=True)
class VAEBatch:
    """Rows of one worker: ids ``[r, t, x, y, z]``, noise planes ``[r, ...]``, frames ``[f]``,
    and the size of the global batch over the number of workers.
    """

    ids: Tensor
    noise: Planes
    frames: Tensor
    share: float


class VAEObjective(nn.Module):
    """The VAE together with what it is trained on."""

    def __init__(self, vae: HexPlaneVAE, weights: Tensor, kl_weight: float) -> None:
        super().__init__()
        self.vae, self.kl_weight = vae, kl_weight
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, batch: VAEBatch) -> dict[str, Tensor]:
        """The losses of this worker's rows; each clip counts alike, whatever its unknown voxels."""
        posterior = self.vae.encode(batch.ids)
        logits = self.vae.logits(posterior.sample(batch.noise), batch.frames)
        ce, lovasz = logits.new_zeros(()), logits.new_zeros(())
        for clip, ids in zip(logits.unbind(0), batch.ids, strict=True):
            known = ids[batch.frames]
            terms = reconstruction_loss(clip, known, self.class_weights, _LOVASZ_VOXELS, self.vae.decoder.recompute)
            ce, lovasz = ce + terms[0], lovasz + terms[1]
        kl = kl_divergence(posterior) * len(batch.ids)
        loss = ce + lovasz + self.kl_weight * kl
        return {
            name: value / batch.share for name, value in {"loss": loss, "ce": ce, "lovasz": lovasz, "kl": kl}.items()
        }


def fit_vae(
    config: Config, data: Path, out: Path, place: Place, report: Callable[[Metrics], None], start: Path | None = None
) -> None:
    """Train the VAE of ``config`` on a corpus; ``out`` is prepared by ``run_folder.prepare_run``.

    With ``start``, a checkpoint, the weights are its own at first; they have to fit ``config``.

    Raises:
        InputError: the corpus or ``start`` does not fit the configuration.
    """
    settings, seed = config.train_vae, config.train_vae.seed
    clips, held_clips = Clips(data, config), Clips(data, config)
    train, held = clips.split()
    torch.manual_seed(seed)
    if config.vae.recompute and place.device.type == "cpu":
        hand_back_large_blocks()
    vae = build_vae(config)
    if start is not None:
        start_from(start, "vae", vae)
    order = np.array(train)[stream(seed, 0, Purpose.TRAIN_BATCH).permutation(len(train))]
    counts = _class_counts(clips, order[:_COUNTED_CLIPS], vae.slots)
    weights = class_weights(torch.from_numpy(counts), config.vae.class_weight_power)
    shapes = plane_shapes(vae.latent_shape)
    parts = place.parts(settings)

    def batch_of(step: int) -> list[VAEBatch]:
        numbers = batch_numbers(order, step, settings.batch)
        count = settings.decoded_frames or config.clip.frames
        frames = np.sort(stream(seed, step, Purpose.TRAIN_DROP).permutation(config.clip.frames)[:count])
        return [micro_batch(step, rows, numbers, frames) for rows in parts]

    def micro_batch(step: int, rows: range, numbers: NDArray[np.int64], frames: NDArray[np.int64]) -> VAEBatch:
        noise = [_plane_noise(seed, step * settings.batch + row, shapes, vae.latent_channels) for row in rows]
        return VAEBatch(
            torch.from_numpy(np.stack([clips[numbers[row]].ids for row in rows])).to(place.device),
            {p: torch.stack([n[p] for n in noise]).to(place.device) for p in PLANES},
            torch.from_numpy(frames).to(place.device),
            settings.batch / place.world,
        )

    held_out = [held_clips[i].ids for i in held[:_EVALUATED_CLIPS]] if place.rank == 0 else []

    def evaluate(objective: nn.Module) -> Metrics:
        return reconstruction_metrics(objective.vae, held_out, config.taxonomy, place.device)

    def ship(objective: nn.Module, metrics: Metrics) -> None:
        tensors = {f"vae.{name}": t for name, t in objective.vae.state_dict().items()}
        save_checkpoint(out, config, tensors, vae_card(config, clips.corpus.manifest.plan, metrics), clips.licence)

    optimise(
        out=out,
        config=settings,
        objective=VAEObjective(vae, weights, config.vae.kl_weight),
        parts=[vae.encoder, *vae.decoder.planes.values()],
        place=place,
        batch_of=batch_of,
        evaluate=evaluate,
        ship=ship,
        report=report,
    )


def reconstruction_metrics(vae: HexPlaneVAE, clips: list[np.ndarray], labels: str, device: torch.device) -> Metrics:
    """mIoU of reconstructions from the means, in the model's classes and, from native, CarlaSC's ten.

    Args:
        vae: in evaluation mode.
        clips: uint8 ``[t, x, y, z]`` each.
        labels: the label space of the clips.
        device: where the VAE is.
    """
    space = taxonomy(labels)
    matrix = np.zeros((len(space), len(space)), np.int64)
    with torch.inference_mode():
        for ids in clips:
            batch = torch.from_numpy(ids)[None].to(device)
            guess = vae.decode(vae.encode(batch).mean)[0].cpu().numpy()
            matrix += confusion(ids, guess, len(space))
    metrics: Metrics = {"miou": round(mean_iou(matrix, space), 4)}
    target = "carlasc"
    if labels == "native":
        matrix, space = mapped(matrix, label_map(labels, target), len(taxonomy(target))), taxonomy(target)
    if labels in ("native", target):
        metrics["miou_carlasc"] = round(mean_iou(matrix, space), 4)
        for name, value in zip(space.classes, class_iou(matrix), strict=True):
            if np.isfinite(value) and name != "free":
                metrics[f"iou_{name}"] = round(float(value), 4)
    return metrics


def _class_counts(clips: Clips, numbers: np.ndarray, classes: int) -> np.ndarray:
    counts = np.zeros(256, np.int64)
    for number in numbers:
        counts += np.bincount(clips[int(number)].ids.reshape(-1), minlength=256)
    return counts[:classes]


def _plane_noise(seed: int, index: int, shapes: dict[str, tuple[int, int]], channels: int) -> Planes:
    rng = stream(seed, index, Purpose.TRAIN_NOISE)
    return {p: torch.from_numpy(rng.standard_normal((channels, *shapes[p]), dtype=np.float32)) for p in PLANES}
