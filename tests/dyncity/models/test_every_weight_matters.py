"""Each released tensor reaches the outputs: altered by a hundredth it is noticed, or it is known to be idle."""

from __future__ import annotations

from collections.abc import Callable

import torch
from plain_dit import Given
from plain_pairs import dit_pair, randomise, small, tensors_of_dit, tensors_of_vae, vae_pair
from recorded_numbers import CONDITIONS, close
from torch import Tensor

from dyncity.conditions import COMMANDS
from dyncity.hexplane import PLANES, plane_shapes, rollout_shape
from dyncity.models.conditioning import ConditionBatch

# An instance norm takes away what is the same at every place: these biases of the released model do nothing.
IDLE = {
    *(
        f"encoder.{net}.{layer}.bias"
        for net in ("voxel_encoder", "t_encoder")
        for layer in ("conv0", "conv1.0", "conv1.3", "down.0.0", "down.1.0", "down.1.3")
    ),
    *(f"decoder.conv_block.{layer}.bias" for layer in ("in_layers_h", "in_layers_t", "out_layers_h.1", "shortcut_h")),
    *(f"decoder.hex_upsample_block.{plane}.upsample.{layer}.bias" for plane in range(6) for layer in (0, 3)),
    *(f"decoder.voxel_decoder.conv_layers.{pair}.{layer}.bias" for pair in (0, 1) for layer in (0, 3)),
    *(f"decoder.voxel_decoder.{layer}.bias" for layer in ("transpose_conv", "final_conv.0")),
}


def unnoticed(answer: Callable[[dict[str, Tensor]], list[Tensor]], weights: dict[str, Tensor]) -> set[str]:
    """The tensors that the parity check lets pass though each value is a hundredth larger or smaller."""
    right, names = answer(weights), set()
    for name, value in weights.items():
        # At random: a norm takes away what scales a whole channel.
        sign = torch.randint(0, 2, value.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        try:
            for ours, theirs in zip(answer({**weights, name: value * (1 + 0.01 * sign)}), right, strict=True):
                close(ours, theirs)
            names.add(name)
        except AssertionError:
            pass
    return names


@torch.inference_mode()
def test_every_tensor_of_the_vae() -> None:
    config = small(clip__frames=2)
    plain, ours = vae_pair(config, 11)
    ids = torch.randint(0, 11, (1, *config.clip_shape), dtype=torch.uint8)
    latent = {p: torch.randn(1, 3, *shape) for p, shape in plane_shapes(config.latent_shape).items()}

    def answer(weights: dict[str, Tensor]) -> list[Tensor]:
        ours.load_state_dict(tensors_of_vae(weights, config))
        posterior = ours.encode(ids)
        logits = ours.logits(latent, torch.arange(config.clip.frames))
        return [*(part[p] for part in (posterior.mean, posterior.log_variance) for p in PLANES), logits]

    assert unnoticed(answer, plain.state_dict()) == IDLE


@torch.inference_mode()
def test_the_one_hot_frame_channels_of_the_release_are_idle() -> None:
    """Constant over a frame, so the norms of that frame take them away: the encoder is not told the time."""
    config = small()
    plain, _ = vae_pair(config, 11)
    ids = torch.randint(0, 11, (1, *config.clip_shape), dtype=torch.uint8)
    before = plain.double().encoder(ids)
    plain.encoder.t_encoder.conv0.weight[:, config.vae.channels :] += 1.0
    for p, plane in plain.encoder(ids).items():
        close(plane, before[p])


@torch.inference_mode()
def test_every_tensor_of_the_dit() -> None:
    config = small(**{f"dit__{name}": True for name in CONDITIONS})
    plain, ours = dit_pair(config)
    randomise(plain, 1)
    side, every = rollout_shape(config.latent_shape), torch.ones(4)
    x, previous = torch.randn(2, 4, 3, *side)
    layout = (torch.rand(4, config.clip.frames, 2, 2) < 0.5).float()
    command, trajectory, step = torch.arange(len(COMMANDS)), torch.randn(4, config.clip.frames, 3), torch.tensor(250)
    conditions = ConditionBatch(
        command,
        (trajectory * torch.tensor([0.1, 0.1, 1.0])).flatten(1),
        every,
        torch.zeros(4, 0, 1, 1),
        previous,
        every,
        layout,
        every,
    )

    def answer(weights: dict[str, Tensor]) -> list[Tensor]:
        ours.load_state_dict(tensors_of_dit({**weights, "pos_embed": plain.pos_embed}, config))
        return [ours(x, step.expand(4).float(), conditions)]

    weights = dict(plain.named_parameters())
    close(answer(weights)[0], plain(x, step.expand(4), Given(command, trajectory, previous, layout)))
    assert unnoticed(answer, weights) == set()
