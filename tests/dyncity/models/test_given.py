"""Given voxels reach the model where they are given, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import torch
from small_models import small_config

from dyncity.checkpoint import build_dit, build_vae
from dyncity.hexplane import planes_of, rollout_shape
from dyncity.models.conditioning import encode_conditions
from dyncity.models.given import encode_given, normalised_given
from dyncity.scene import UNKNOWN


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


def test_maps_matter_to_the_dit_and_can_be_dropped() -> None:
    torch.manual_seed(0)
    config = small_config()
    dit = build_dit(config).eval()
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, config.vae.latent_channels, *rollout_shape(config.latent_shape))
    time = torch.full((2,), 500.0)
    bare = encode_conditions(["left"] * 2, [None] * 2, config.clip.frames, config.clip_grid, config.vae.downsample[1:3])
    given = torch.randn(2, dit.given_channels, *x.shape[2:])
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
