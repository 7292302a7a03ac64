"""Movers add to the latent planes where the clip would be another without them, and errors count more along that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import make_city, small_config
from torch import Tensor, nn

from dyncity.checkpoint import build_dit, build_vae
from dyncity.hexplane import PLANES, planes_of, rollout_mask, rollout_shape
from dyncity.models.conditioning import encode_conditions
from dyncity.taxonomy import NATIVE
from dyncity.training.clips import Clips
from dyncity.training.dit_loop import DiTBatch, DiTObjective
from dyncity.training.mover_cells import mover_directions, mover_latents

CAR = NATIVE.id("car")


def test_where_movers_are_and_nowhere_else(tmp_path: Path) -> None:
    config = small_config()
    torch.manual_seed(0)
    vae = build_vae(config).eval()
    ids = Clips(make_city(tmp_path / "city", 2), config)[0].ids
    empty = np.where(np.isin(ids, NATIVE.movers), NATIVE.free, ids)
    parked, driving = empty.copy(), empty.copy()
    parked[:, 2:6, 3:5, 2:4] = CAR
    for t in range(len(ids)):
        driving[t, t : t + 3, 3:5, 2:4] = CAR
    clips = np.stack([empty, parked, driving])
    with torch.inference_mode():
        added = mover_latents(vae, clips, vae.encode(torch.from_numpy(clips)), "native")
    assert added.shape == (3, config.vae.latent_channels, *rollout_shape(config.latent_shape))
    assert (added[0] == 0).all()
    planes = dict(zip(PLANES, planes_of(added, config.latent_shape).values(), strict=True))
    for found in planes["xy"][1:].square().sum(dim=1):
        assert found[:3].max() > 100 * found[-2:].max()  # 2 voxels a cell: the car is at the near side


def test_directions_are_one_long_where_movers_say_more_than_noise() -> None:
    added = torch.zeros(1, 4, 2, 2)
    added[0, :, 0, 0] = torch.tensor([8.0, 0.0, 0.0, 6.0])
    added[0, 1, 1, 1] = 1e-3
    std = torch.ones(4, 2, 2)
    std[3] = 2.0  # where latents spread twice as far, a step is half as long
    found = mover_directions(added, std)[0]
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([8.0, 0.0, 0.0, 3.0]) / 73**0.5, rtol=0.01, atol=0)
    assert found[:, 0, 1].abs().max() == 0
    assert found[:, 1, 1].abs().max() < 0.01


class Answer(nn.Module):
    """Stands where the DiT does, and answers with velocities that are off by ``error``."""

    def __init__(self, dit: nn.Module, velocity: Tensor, error: Tensor) -> None:
        super().__init__()
        self.latent, self.answer = dit.latent, velocity + error

    def forward(self, noised: Tensor, time: Tensor, conditions: object) -> Tensor:
        return self.answer


@pytest.mark.parametrize(("along", "expected"), [(True, 1 + 3.0), (False, 1.0)])
def test_errors_along_a_direction_count_more_and_others_do_not(along: bool, expected: float) -> None:
    config = small_config()
    dit, c = build_dit(config), config.vae.latent_channels
    mask = rollout_mask(config.latent_shape)
    data, noise = torch.randn(2, 1, c, *mask.shape[2:])
    direction = torch.zeros_like(data)
    direction[:, 0] = 1.0
    error = torch.zeros_like(data)
    error[:, 0 if along else 1] = 0.5
    conditions = encode_conditions(
        [None], [np.zeros((config.clip.frames, 3))], config.clip.frames, config.clip_grid, config.vae.downsample[1:3]
    )
    objective = DiTObjective(dit, "flow")
    objective.dit = Answer(dit, noise - data, error)
    batch = DiTBatch(data, noise, torch.tensor([0.5]), conditions, 3.0**0.5 * direction, 1.0)
    torch.testing.assert_close(objective(batch)["loss"], torch.tensor(0.25 * expected / c))
