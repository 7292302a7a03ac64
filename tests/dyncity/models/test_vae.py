from __future__ import annotations

import pytest
import torch

from dyncity.config import VAEConfig
from dyncity.hexplane import PLANES, plane_shapes
from dyncity.models.losses import class_weights, lovasz_softmax, reconstruction_loss
from dyncity.models.vae import ChangeToFeatures, HexPlaneVAE, kl_divergence

SMALL = {"channels": 4, "latent_channels": 3, "query_channels": 6, "hidden_low": 5, "hidden_high": 4}
SHAPES = [
    ((4, 8, 6, 4), (2, 2, 2, 2), 11),
    ((3, 8, 4, 4), (1, 2, 2, 2), 5),
    ((4, 4, 8, 3), (2, 2, 2, 1), 2),
]


@pytest.mark.parametrize(("encoder", "fusion"), [("frames", "product"), ("change", "both"), ("change", "product")])
@pytest.mark.parametrize("projection", ["attention", "linear"])
@pytest.mark.parametrize(("shape", "factors", "classes"), SHAPES)
def test_any_size_goes_in_and_comes_out(encoder, fusion, projection, shape, factors, classes) -> None:  # type: ignore[no-untyped-def]
    config = VAEConfig(**SMALL, encoder=encoder, fusion=fusion, projection=projection, downsample=factors)
    vae = HexPlaneVAE(config, shape, classes).eval()
    ids = torch.randint(0, classes, (2, *shape), dtype=torch.uint8)
    posterior = vae.encode(ids)
    for p, size in plane_shapes(vae.latent_shape).items():
        assert posterior.mean[p].shape == (2, 3, *size)
    logits = vae.logits(posterior.mean, torch.arange(shape[0]))
    assert logits.shape == (2, shape[0], classes, *shape[1:])
    torch.testing.assert_close(vae.decode(posterior.mean, chunk=2), logits.argmax(2).to(torch.uint8))


def small_vae() -> HexPlaneVAE:
    torch.manual_seed(0)
    return HexPlaneVAE(VAEConfig(**SMALL, projection="linear", encoder="change", fusion="both"), (4, 8, 6, 4), 7)


def test_some_frames_decode_as_they_do_among_all() -> None:
    vae = small_vae().eval()
    latent = {p: torch.randn(2, 3, *s) for p, s in plane_shapes(vae.latent_shape).items()}
    every = vae.logits(latent, torch.arange(4))
    some = vae.logits(latent, torch.tensor([1, 3]))
    torch.testing.assert_close(some, every[:, [1, 3]], rtol=1e-4, atol=1e-5)


def test_a_clip_does_not_depend_on_its_neighbours() -> None:
    vae = small_vae().eval()
    ids = torch.randint(0, 7, (3, 4, 8, 6, 4), dtype=torch.uint8)
    together, alone = vae.encode(ids).mean, vae.encode(ids[1:2]).mean
    for p in PLANES:
        torch.testing.assert_close(together[p][1:2], alone[p], rtol=1e-4, atol=1e-5)


def test_unknown_voxels_are_an_input_of_their_own() -> None:
    vae = small_vae().eval()
    free = torch.randint(0, 7, (1, 4, 8, 6, 4), dtype=torch.uint8)
    free[..., 2:] = 0
    unknown = free.clone()
    unknown[..., 3] = 255
    assert not torch.allclose(vae.encode(free).mean["xy"], vae.encode(unknown).mean["xy"])


def test_it_learns_a_clip_by_heart() -> None:
    vae = small_vae()
    ids = torch.zeros(1, 4, 8, 6, 4, dtype=torch.uint8)
    ids[:, :, :, :, 0] = 1
    for t in range(4):
        ids[:, t, 2 * t : 2 * t + 2, 2:4, 1] = 2
    frames, optimizer = torch.arange(4), torch.optim.Adam(vae.parameters(), lr=1e-2)
    for _ in range(150):
        posterior = vae.encode(ids)
        ce, lovasz = reconstruction_loss(vae.logits(posterior.mean, frames)[0], ids[0], torch.ones(7))
        optimizer.zero_grad()
        (ce + lovasz + 1e-4 * kl_divergence(posterior)).backward()
        optimizer.step()
    wrong = (vae.eval().decode(vae.encode(ids).mean) != ids).float().mean()
    assert wrong < 0.01


def test_unknown_voxels_do_not_reach_the_loss() -> None:
    logits = torch.randn(2, 5, 4, 4, 2)
    ids = torch.randint(0, 5, (2, 4, 4, 2), dtype=torch.uint8)
    ids[0, :2] = 255
    changed = logits.clone()
    changed[0, :, :2] = 100.0
    for a, b in zip(
        reconstruction_loss(logits, ids, torch.ones(5)), reconstruction_loss(changed, ids, torch.ones(5)), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_clip_that_nobody_observed_costs_nothing() -> None:
    ids = torch.full((1, 4, 4, 2), 255, dtype=torch.uint8)
    ce, lovasz = reconstruction_loss(torch.randn(1, 5, 4, 4, 2), ids, torch.ones(5))
    assert (ce, lovasz) == (0, 0)


def test_lovasz_is_one_minus_iou_on_hard_answers() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    guess = torch.tensor([0, 0, 1, 1, 1, 2])
    hard = torch.eye(4)[guess]
    # IoU 2/3, 2/3, 1; class 3 is absent and left out.
    torch.testing.assert_close(lovasz_softmax(hard, labels), torch.tensor(2 / 9))


def test_rare_classes_weigh_more_and_absent_ones_nothing() -> None:
    weights = class_weights(torch.tensor([1000, 100, 0]), 0.5)
    assert weights[1] > weights[0] > 0
    assert weights[2] == 0
    torch.testing.assert_close((weights * torch.tensor([1000.0, 100, 0])).sum() / 1100, torch.tensor(1.0))


def test_what_stands_still_says_nothing_to_the_temporal_planes() -> None:
    vae = small_vae().eval()
    frame = torch.randint(0, 7, (1, 1, 8, 6, 4), dtype=torch.uint8)
    other = torch.randint(0, 7, (1, 1, 8, 6, 4), dtype=torch.uint8)
    still, another = (vae.encode(ids.expand(1, 4, -1, -1, -1)).mean for ids in (frame, other))
    for p in PLANES:
        assert torch.allclose(still[p], another[p], atol=1e-5) == ("t" in p)


def test_embedding_a_cell_whole_is_a_strided_convolution_of_the_embedding() -> None:
    features = ChangeToFeatures(VAEConfig(**SMALL, downsample=(2, 2, 1, 2)), 5)
    ids = torch.randint(0, 5, (2, 3, 4, 6, 2))
    table = features.table.detach().view(2, 1, 2, 5, -1)  # each voxel of a cell: class -> channels
    one_hot = torch.nn.functional.one_hot(ids, 5).float().permute(0, 1, 5, 2, 3, 4).flatten(0, 1)
    kernel = table.permute(4, 3, 0, 1, 2)  # [c, class, fx, fy, fz]
    frames = torch.nn.functional.conv3d(one_hot, kernel, stride=(2, 1, 2)).unflatten(0, (2, 3))
    _, change = features(ids.int())
    torch.testing.assert_close(change, frames - frames.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)
