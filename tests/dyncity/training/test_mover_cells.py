"""Cells of the latent planes tell of movers where the clip would be another without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from small_models import make_city, small_config

from dyncity.checkpoint import build_vae
from dyncity.hexplane import PLANES, planes_of, rollout_mask
from dyncity.taxonomy import NATIVE
from dyncity.training.clips import Clips
from dyncity.training.mover_cells import mover_cells

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
        cells = mover_cells(vae, clips, vae.encode(torch.from_numpy(clips)), "native")
    assert cells.shape == (3, 1, *rollout_mask(config.latent_shape).shape[2:])
    assert ((cells >= 0) & (cells <= 1)).all()
    assert (cells[0] == 0).all()
    plane = dict(zip(PLANES, planes_of(cells, config.latent_shape).values(), strict=True))
    for found in plane["xy"][1:, 0]:
        assert found[:3].max() > 100 * found[-2:].max()  # 2 voxels a cell: the car is at the near side
