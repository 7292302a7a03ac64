"""Our models give what a plain implementation of the paper gives, at sizes that nobody recorded.

Weights are random under their released names, no norm or bias left at its start, and reach our models the way
a released checkpoint does. The plain models give the recorded numbers (``test_plain_published.py``).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_dit import Given, PlainDDPM, PlainDiT, plain_mask, plain_rollout
from plain_pairs import dit_pair, small, tensors_of_dit, tensors_of_vae, vae_pair
from plain_vae import class_loss, kl, lovasz
from recorded_numbers import CONDITIONS, close
from torch import Tensor
from torch.func import functional_call

from dyncity.config import Config
from dyncity.diffusion.ddpm import add_noise, ancestral, ddpm_losses, linear_schedule, respaced_schedule
from dyncity.diffusion.guidance import guided
from dyncity.hexplane import PLANES, plane_shapes, rollout, rollout_mask
from dyncity.models.conditioning import NO_COMMAND, ConditionBatch
from dyncity.models.dit import DiT
from dyncity.training.vae_loop import VAEBatch, VAEObjective

# name: (classes decoded, sizes)
VAE_SIZES: dict[str, tuple[int, dict[str, Any]]] = {
    "as recorded, smaller": (11, {}),
    "8 frames, x longer than y": (11, {"clip__frames": 8, "grid__shape": [12, 6, 4]}),
    "16 frames, y longer than x, 18 classes": (
        18,
        {"clip__frames": 16, "grid__shape": [4, 10, 4], "vae__class_slots": 18},
    ),
    "5 frames, time not halved, 23 classes": (
        23,
        {"clip__frames": 5, "vae__downsample": [1, 2, 2, 2], "vae__class_slots": 23},
    ),
    "z not halved, 2 classes, one head": (
        2,
        {
            "grid__shape": [8, 6, 3],
            "vae__downsample": [2, 2, 2, 1],
            "vae__class_slots": 2,
            "vae__projection_heads": 1,
        },
    ),
    "only z halved": (11, {"grid__shape": [5, 4, 6], "vae__downsample": [2, 1, 1, 2]}),
    "nothing halved": (11, {"clip__frames": 3, "grid__shape": [4, 5, 3], "vae__downsample": [1, 1, 1, 1]}),
    "one layer, four heads, wide latent": (
        11,
        {
            "vae__projection_layers": 1,
            "vae__projection_heads": 4,
            "vae__channels": 16,
            "vae__latent_channels": 9,
            "vae__query_channels": 5,
        },
    ),
    "three layers, odd channels, 29 classes": (
        29,
        {
            "vae__projection_layers": 3,
            "vae__projection_heads": 1,
            "vae__channels": 5,
            "vae__hidden_low": 3,
            "vae__hidden_high": 1,
            "vae__class_slots": 29,
        },
    ),
    "two frames, one after halving": (11, {"clip__frames": 2, "grid__shape": [6, 8, 4]}),
    "one frame": (11, {"clip__frames": 1, "vae__downsample": [1, 2, 2, 2]}),
    "time by four": (11, {"vae__downsample": [4, 2, 2, 2]}),
}
each_vae = pytest.mark.parametrize("size", VAE_SIZES)


def ids_of(config: Config, classes: int, b: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(0, classes, (b, *config.clip_shape), dtype=torch.uint8)


def latent_of(config: Config, b: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(2)
    return {p: torch.randn(b, config.vae.latent_channels, *s) for p, s in plane_shapes(config.latent_shape).items()}


@each_vae
@torch.inference_mode()
def test_planes_and_posterior(size: str) -> None:
    classes, sizes = VAE_SIZES[size]
    config = small(**sizes)
    plain, ours = vae_pair(config, classes)
    ids = ids_of(config, classes)
    (mean, log_variance), posterior = plain.encode(ids), ours.encode(ids)
    planes, our_planes = plain.encoder(ids), ours.encoder(ids)
    for p in PLANES:
        close(our_planes[p], planes[p])
        close(posterior.mean[p], mean[p])
        close(posterior.log_variance[p], log_variance[p])


@each_vae
@torch.inference_mode()
def test_logits_and_class_ids(size: str) -> None:
    """Decoded in chunks of frames, ids are those of the largest of all logits, the unused slots left out."""
    classes, sizes = VAE_SIZES[size]
    config = small(**sizes)
    plain, ours = vae_pair(config, classes)
    latent, frames = latent_of(config), torch.arange(config.clip.frames)
    logits = plain.decoder(latent)
    close(ours.logits(latent, frames), logits)
    some = frames.flip(0)[::2]
    close(ours.logits(latent, some), logits[:, some])
    best = logits[:, :, :classes].argmax(2).to(torch.uint8)
    for chunk in (1, 3, len(frames)):
        assert torch.equal(ours.decode(latent, chunk), best)


@each_vae
def test_losses_and_every_gradient_of_vae_training(size: str) -> None:
    """In float64, since a kink of a leaky ReLU or two Lovasz ranks that swap under rounding make gradients jump.

    Gradients of our tensors are carried back to the released ones through their conversion, dropout off. The
    weighted mean of the cross entropy is a clip's own here, hence a clip at a time.
    """
    classes, sizes = VAE_SIZES[size]
    config = small(**sizes)
    plain, ours = vae_pair(config, classes)
    released = {name: value.detach().clone().requires_grad_() for name, value in plain.named_parameters()}
    ids, noise = ids_of(config, classes), {p: plane.double() for p, plane in latent_of(config).items()}
    weights = torch.rand(config.vae.class_slots).double() + 0.5

    mean, log_variance = plain.double().encode(ids)
    logits = plain.decoder({p: mean[p] + noise[p] * torch.exp(0.5 * log_variance[p]) for p in PLANES})
    ce = sum(class_loss(logits[i : i + 1], ids[i : i + 1], weights) for i in range(2)) / 2
    ranks = sum(lovasz(logits[i : i + 1], ids[i : i + 1]) for i in range(2)) / 2
    divergence = kl(mean, log_variance)
    losses = {"ce": ce, "lovasz": ranks, "kl": divergence, "loss": ce + ranks + 0.0015 * divergence}
    theirs = torch.autograd.grad(losses["loss"], list(plain.parameters()))

    objective, frames = VAEObjective(ours, weights, 0.0015).eval().double(), torch.arange(config.clip.frames)
    answers = objective(VAEBatch(ids, noise, frames, 2.0))
    for name, loss in losses.items():
        torch.testing.assert_close(answers[name], loss, rtol=1e-6, atol=0)
    own = dict(ours.named_parameters())
    of_own = torch.autograd.grad(answers["loss"], list(own.values()))
    converted = tensors_of_vae(released, config)
    back = sum((converted[n] * g.float()).sum() for n, g in zip(own, of_own, strict=True))
    gradients = torch.autograd.grad(back, list(released.values()))
    largest = max(float(gradient.norm()) for gradient in theirs)
    for name, our, their in zip(released, gradients, theirs, strict=True):
        # A bias that a norm takes away again has no gradient but what rounding leaves.
        assert float((our - their).norm()) <= 1e-5 * float(their.norm()) + 1e-8 * largest, name


NONE, EVERY = dict.fromkeys(CONDITIONS, False), dict.fromkeys(CONDITIONS, True)
DIT_SIZES: dict[str, dict[str, Any]] = {
    "unconditional": NONE,
    "command": NONE | {"command": True},
    "trajectory": NONE | {"trajectory": True},
    "command and trajectory, one head, patch 1": NONE | {"command": True, "trajectory": True, "heads": 1, "patch": 1},
    "previous": NONE | {"previous": True},
    "previous, seen": NONE | {"previous": True, "cross_attention": True},
    "layout": NONE | {"layout": True},
    "layout, seen, patch 1, 5 frames": NONE
    | {"layout": True, "cross_attention": True, "patch": 1, "frames": 5, "down": [1, 2, 2, 2]},
    "previous and layout, not seen": EVERY | {"cross_attention": False},
    "seen but nothing to see": NONE | {"cross_attention": True, "command": True},
    "everything": EVERY,
    "everything, patch 4, one head": EVERY | {"patch": 4, "frames": 8, "grid": [16, 8, 8], "heads": 1},
    "everything, 16 frames, wide and shallow": EVERY
    | {"frames": 16, "grid": [12, 8, 4], "width": 48, "depth": 1, "heads": 3, "latent": 5},
    "everything, nothing halved": EVERY | {"down": [1, 1, 1, 1], "depth": 3},
}
PLACES_OF = {
    "frames": "clip__frames",
    "grid": "grid__shape",
    "down": "vae__downsample",
    "latent": "vae__latent_channels",
}
each_dit = pytest.mark.parametrize("size", DIT_SIZES)


def dit_config(size: str) -> Config:
    return small(**{PLACES_OF.get(key, f"dit__{key}"): value for key, value in DIT_SIZES[size].items()})


def rollout_of(config: Config, b: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(b, config.vae.latent_channels, *rollout_mask(config.latent_shape).shape[-2:])


def conditions_of(config: Config, b: int) -> tuple[Given, ConditionBatch]:
    """The same conditions for both; each sample lacks others."""
    torch.manual_seed(3)
    command, trajectory = torch.arange(b) % 4, torch.randn(b, config.clip.frames, 3) * 5
    previous = rollout_of(config, b, 4)
    _, x, y, _ = config.clip_shape
    layout = (torch.rand(b, config.clip.frames, max(1, x // 4), max(1, y // 4)) < 0.3).float()
    keep = {
        name: torch.tensor([float((i + place) % 3 != 2) for i in range(b)])
        for place, name in enumerate(("command", "trajectory", "previous", "layout"))
    }
    ours = ConditionBatch(
        torch.where(keep["command"] == 1, command, NO_COMMAND),
        (trajectory * torch.tensor([0.1, 0.1, 1.0])).flatten(1),  # ours are in units of 10 m
        keep["trajectory"],
        torch.zeros(b, 0, 1, 1),
        previous,
        keep["previous"],
        layout,
        keep["layout"],
    )
    return Given(command, trajectory, previous, layout, keep), ours


def asked(size: str, seed: int) -> tuple[PlainDiT, DiT, Tensor, Given, ConditionBatch]:
    """Both models, four rollouts for them, and conditions of which each row drops others, in both forms."""
    config = dit_config(size)
    return *dit_pair(config), rollout_of(config, 4, seed), *conditions_of(config, 4)


@each_dit
@torch.inference_mode()
def test_noise_prediction_with_conditions_dropped_for_some(size: str) -> None:
    plain, ours, x, given, conditions = asked(size, 5)
    step = torch.tensor([0, 13, 500, 999])
    close(ours(x, step.float(), conditions), plain(x, step, given))
    nothing = Given(**vars(given) | {"keep": dict.fromkeys(given.keep or {}, torch.zeros(4))})
    close(ours(x, step.float(), conditions.none()), plain(x, step, nothing))


@each_dit
@torch.inference_mode()
def test_guidance_with_a_scale_a_scene(size: str) -> None:
    plain, ours, x, given, conditions = asked(size, 6)
    scale = torch.tensor([4.0, 1.0, 0.0, 2.5])
    answer = guided(ours, conditions, scale)(x, torch.full((4,), 300.0))
    close(answer, plain.guided(x, torch.full((4,), 300), given, scale))


@each_dit
def test_losses_and_every_gradient_of_dit_training(size: str) -> None:
    config = dit_config(size)
    plain, ours = dit_pair(config)
    released = dict(plain.named_parameters())
    data, noise = rollout_of(config, 4, 7), rollout_of(config, 4, 8)
    step, mask, schedule = torch.tensor([0, 1, 400, 999]), plain_mask(config.latent_shape), linear_schedule()
    given, conditions = conditions_of(config, 4)
    ddpm = PlainDDPM()
    theirs = ddpm.losses(plain(ddpm.noisy(data, noise, step), step, given), data, noise, step, mask)
    gradients = torch.autograd.grad(sum(theirs).mean(), list(released.values()), allow_unused=True)

    x = add_noise(data, noise, step, schedule)
    converted = tensors_of_dit({**released, "pos_embed": plain.pos_embed}, config)
    answer = functional_call(ours, converted, (x, step.float(), conditions))
    losses = ddpm_losses(answer, data, noise, x, step, schedule, rollout_mask(config.latent_shape))
    for our, their in zip(losses, theirs, strict=True):
        close(our, their)
    ours_gradients = torch.autograd.grad(sum(losses).mean(), list(released.values()), allow_unused=True)
    largest = max(float(gradient.norm()) for gradient in gradients if gradient is not None)
    for name, our, their in zip(released, ours_gradients, gradients, strict=True):
        assert (our is None) == (their is None), name
        if our is not None and their is not None:
            assert float((our - their).norm()) <= 1e-3 * float(their.norm()) + 1e-6 * largest, name


@pytest.mark.parametrize("steps", [3, 7, 25])
def test_ancestral_samples_of_other_lengths(steps: int) -> None:
    config = dit_config("command and trajectory, one head, patch 1")
    plain, ours = dit_pair(config)
    given, conditions = conditions_of(config, 2)
    schedule, scale = respaced_schedule(steps), torch.tensor([4.0, 2.0])
    start, noise = rollout_of(config, 2, 9), torch.stack([rollout_of(config, 2, 10 + i) for i in range(steps)])
    out = ancestral(guided(ours, conditions, scale), start, schedule, lambda i: noise[i])
    with torch.inference_mode():
        theirs = PlainDDPM(schedule.timesteps.tolist()).sample(
            lambda x, step: plain.guided(x, step, given, scale), start, noise
        )
    close(out, theirs)


@each_vae
def test_rollout_and_its_mask(size: str) -> None:
    config = small(**VAE_SIZES[size][1])
    assert torch.equal(rollout(latent_of(config)), plain_rollout(latent_of(config)))
    assert torch.equal(rollout_mask(config.latent_shape), plain_mask(config.latent_shape))
