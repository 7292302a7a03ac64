"""Given voxels reach the model where they are given, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import torch
from small_models import small_config
from torch import Tensor

from dyncity.checkpoint import build_dit, build_vae
from dyncity.config import Config
from dyncity.diffusion.guidance import guided
from dyncity.hexplane import planes_of, rollout_mask, rollout_shape
from dyncity.models.conditioning import ConditionBatch, encode_conditions
from dyncity.models.dit import DiT
from dyncity.models.given import encode_given, normalised_given
from dyncity.scene import UNKNOWN
from dyncity.training.dit_loop import cell_weights


def with_given(config: Config) -> tuple[DiT, Tensor, Tensor, ConditionBatch, Tensor]:
    """A DiT with weights at random, two noised rollouts with their times, a command, and given voxels."""
    torch.manual_seed(0)
    dit = build_dit(config).eval()
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, config.vae.latent_channels, *rollout_shape(config.latent_shape))
    time = torch.full((2,), 500.0)
    bare = encode_conditions(["left"] * 2, [None] * 2, config.clip.frames, config.clip_grid, config.vae.downsample[1:3])
    return dit, x, time, bare, torch.randn(2, dit.given_channels, *x.shape[2:])


def test_the_share_says_what_is_given_in_every_plane() -> None:
    config = small_config()
    vae = build_vae(config).eval()
    ids = torch.full((1, *config.clip_shape), UNKNOWN, dtype=torch.uint8)
    ids[:, 1, :4] = 1  # one frame of four, four of x
    with torch.inference_mode():
        encoded = encode_given(vae, ids)
    share = planes_of(encoded[:, -1:], vae.latent_shape)
    factor_t, factor_x = (config.clip_shape[i] // vae.latent_shape[i] for i in (0, 1))
    x = 4 // factor_x
    assert (share["xy"][..., :x, :] == 1 / 4).all()
    assert (share["xy"][..., x:, :] == 0).all()
    assert (share["tx"][..., 1 // factor_t, :x] == 1 / factor_t).all()
    assert share["tx"].sum() == x / factor_t
    scaled = normalised_given(encoded, torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0))
    assert (scaled[:, :-1] != 0).amax(1)[encoded[:, -1] > 0].all()
    assert (scaled[:, :-1].abs().amax(1)[encoded[:, -1] == 0] == 0).all()


def test_a_cell_that_is_open_in_part_is_open() -> None:
    config = small_config()
    vae = build_vae(config).eval()
    ids = torch.randint(0, 5, (1, *config.clip_shape), dtype=torch.uint8)
    ids[:, :, 6:] = UNKNOWN
    half = ids.clone()
    half[:, 1:, 5] = UNKNOWN  # the cells of columns 4 and 5, but in the first frame
    ids[:, 1:, 4:6] = UNKNOWN
    with torch.inference_mode():
        torch.testing.assert_close(encode_given(vae, half), encode_given(vae, ids), rtol=0, atol=0)
        above = ids.clone()
        above[..., 1:] = UNKNOWN  # ground alone is given: still a cell that is known
        assert (encode_given(vae, above)[:, -1].amax() > 0).all()


def test_maps_matter_to_the_dit_and_can_be_dropped() -> None:
    config = small_config()
    dit, x, time, bare, given = with_given(config)
    layout = torch.rand(2, dit.layout_channels, *config.latent_shape[1:3])
    with torch.inference_mode():
        without = dit(x, time, bare)
        for name, maps in (("given", given), ("layout_plane", layout)):
            conditions = replace(bare, **{name: maps})
            assert not torch.allclose(dit(x, time, conditions), without)
            second = conditions.dropped(**{name: torch.tensor([False, True])})
            torch.testing.assert_close(dit(x, time, second)[1], without[1])
            assert not torch.allclose(dit(x, time, second)[0], without[0])
            # Beside samples without them, absent maps are zeros.
            both = bare.followed_by(conditions)
            mixed = dit(torch.cat([x, x]), torch.cat([time, time]), both)
            torch.testing.assert_close(mixed[:2], without, rtol=1e-4, atol=1e-5)
            assert getattr(conditions.none(), name) is None


def test_guidance_leads_away_from_no_condition_but_not_from_given_voxels() -> None:
    config = small_config()
    dit, x, time, bare, given = with_given(config)
    known = replace(bare, given=given)
    with torch.inference_mode():
        asked, unasked = dit(x, time, known), dit(x, time, replace(bare.none(), given=given))
        expected = unasked + 4.0 * (asked - unasked)
        torch.testing.assert_close(guided(dit, known, 4.0)(x, time), expected, rtol=1e-4, atol=1e-4)
        rows: list[int] = []
        dit.embed.register_forward_hook(lambda module, inputs, out: rows.append(len(out)))
        alone = replace(known.none(), given=given)  # a tile away from the ego path
        torch.testing.assert_close(guided(dit, alone, 4.0)(x, time), unasked)
        assert rows == [2]


def test_what_is_given_hardly_counts_in_the_loss_and_rows_weigh_alike() -> None:
    latent = small_config().latent_shape
    mask = rollout_mask(latent)
    given = torch.zeros(3, 2, *mask.shape[2:])
    given[1, -1, : mask.shape[2] // 2] = 1.0
    given[2, -1] = 1.0
    weights = cell_weights(given, mask)
    torch.testing.assert_close(weights.sum(dim=(1, 2, 3)), mask.sum().expand(3))
    torch.testing.assert_close(weights[0], mask[0])
    torch.testing.assert_close(weights[2], mask[0])  # nothing is open: all cells are alike again
    known = weights[1][(given[1, -1:] == 1) & (mask[0] > 0)]
    open_ = weights[1][(given[1, -1:] == 0) & (mask[0] > 0)]
    assert (known > 0).all()
    torch.testing.assert_close(open_.min() / known.max(), torch.tensor(11.0))
    assert (weights * (1 - mask) == 0).all()
    assert cell_weights(None, mask) is mask
