from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dyncity.config import VAEConfig
from dyncity.hexplane import PLANES, plane_shapes
from dyncity.models import vae as vae_module
from dyncity.models.losses import class_weights, lovasz_softmax, reconstruction_loss
from dyncity.models.vae import ChangeToFeatures, FramesToFeatures, HexPlaneVAE, kl_divergence

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
    features = ChangeToFeatures(VAEConfig(**SMALL, downsample=(2, 2, 1, 2)), 3, 5)
    ids = torch.randint(0, 4, (2, 3, 4, 6, 2))
    table = features.table.detach().view(2, 1, 2, 5, -1)  # each voxel of a cell: class -> channels
    one_hot = torch.nn.functional.one_hot(ids, 5).float().permute(0, 1, 5, 2, 3, 4).flatten(0, 1)
    kernel = table.permute(4, 3, 0, 1, 2)  # [c, class, fx, fy, fz]
    frames = torch.nn.functional.conv3d(one_hot, kernel, stride=(2, 1, 2)).unflatten(0, (2, 3))
    _, change, _ = features(ids.int())
    torch.testing.assert_close(change, frames - frames.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_what_was_not_observed_adds_nothing() -> None:
    """A clip of which one frame is known has that frame's mean, and no change."""
    features = ChangeToFeatures(VAEConfig(**SMALL), 4, 5)
    frame = torch.randint(0, 4, (1, 1, 4, 6, 2))
    known = frame.expand(1, 4, -1, -1, -1)
    partly = torch.full_like(known, 4).clone()
    partly[:, 2] = frame[:, 0]
    still, change, _ = features(partly.int())
    torch.testing.assert_close(still, features(known.int())[0])
    assert (change == 0).all()


def test_the_xy_plane_can_tell_one_way_from_its_reverse() -> None:
    """The mean over time is the same; what each cell sees when is not."""
    features = ChangeToFeatures(VAEConfig(**SMALL), 4, 5)
    clip = torch.zeros(1, 4, 8, 2, 2, dtype=torch.int32)
    clip[0, torch.arange(4), 2 * torch.arange(4)] = 3
    (still, _, schedule), (still_back, _, schedule_back) = features(clip), features(clip.flip(1))
    torch.testing.assert_close(still, still_back)
    assert not torch.allclose(schedule, schedule_back)


def test_the_decoder_reads_from_the_xy_plane_who_is_there_when() -> None:
    vae = small_vae().eval()
    shapes = plane_shapes(vae.latent_shape)
    latent = {p: torch.zeros(1, vae.latent_channels, *shapes[p]) for p in PLANES}
    latent["xy"] = torch.randn_like(latent["xy"])
    frames = torch.arange(vae.shape[0])
    with torch.no_grad():
        temporal = [w for p in ("tx", "ty", "tz") for w in vae.decoder.planes[p].parameters()]
        for other in (*temporal, *vae.decoder.voxels.positions):  # all else that knows the frame
            other.zero_()
        logits = vae.logits(latent, frames)
        assert not torch.allclose(logits[:, 0], logits[:, 1])
        vae.decoder.schedule.zero_()
        logits = vae.logits(latent, frames)
    torch.testing.assert_close(logits[:, 0], logits[:, 2])


def test_lovasz_of_the_hardest_voxels_is_nearly_that_of_all() -> None:
    """The voxels left out are nearly right; a class that only they have still counts, by its number."""
    torch.manual_seed(0)
    ids = torch.randint(0, 5, (2, 16, 16, 4), dtype=torch.uint8)
    logits = 8 * torch.nn.functional.one_hot(ids.long(), 5).movedim(-1, 1).float()
    wrong = torch.rand(2, 1, 16, 16, 4) < 0.05
    logits = torch.where(wrong, torch.randn_like(logits), logits)
    everything = reconstruction_loss(logits, ids, torch.ones(5))
    hardest = reconstruction_loss(logits, ids, torch.ones(5), hardest=256)
    assert hardest[0] == everything[0]
    torch.testing.assert_close(hardest[1], everything[1], rtol=0.05, atol=0)


def test_the_first_layers_are_those_of_embeddings_and_one_hot_frames() -> None:
    """As published: the temporal encoder's first convolution reads t more channels, one a frame."""
    torch.manual_seed(0)
    size = {"t": 3, "x": 3, "y": 2, "z": 2}
    features = FramesToFeatures(VAEConfig(**SMALL), size, 5)
    released = nn.Conv3d(4 + 3, 4, 3, padding=1, padding_mode="replicate")
    with torch.no_grad():
        features.temporal.first.weight.copy_(released.weight[:, :4])
        features.temporal.first.bias.copy_(released.bias)
        features.temporal.time_bias.copy_(released.weight[:, 4:].sum((2, 3, 4)).T)
    ids = torch.randint(0, 5, (2, 3, 6, 4, 4))
    volume = features.embedding(ids).movedim(-1, 2)  # [b, t, c, x, y, z]
    frame = torch.eye(3)[None, :, :, None, None, None].expand(2, 3, 3, 6, 4, 4)
    hidden = released(torch.cat([volume, frame], dim=2).flatten(0, 1))
    _, temporal, _ = features(ids.int())
    right = features.temporal.rest(hidden).unflatten(0, (2, 3))
    torch.testing.assert_close(temporal, right, rtol=1e-4, atol=1e-5)
    still = features.spatial.rest(features.spatial.first(volume.flatten(0, 1))).unflatten(0, (2, 3))
    right = features.over_time.eval()(still.movedim(2, -1))
    torch.testing.assert_close(features.eval()(ids.int())[0], right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("at_once", "half"), [(1, False), (3, False), (1, True)])
def test_recomputing_changes_neither_loss_nor_gradient(
    at_once: int, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae_module, "frames_at_once", lambda device: at_once)
    ids = torch.randint(0, 9, (2, 4, 8, 6, 4), dtype=torch.uint8)  # 7 and 8: not observed
    losses, gradients = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        vae = HexPlaneVAE(VAEConfig(**SMALL, recompute=recompute), (4, 8, 6, 4), 7)
        for module in vae.modules():
            module.dropout = 0.0  # which draws other numbers in parts
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            posterior = vae.encode(ids)
            logits, frames = vae.logits(posterior.mean, torch.tensor([0, 2, 3])), ids[:, [0, 2, 3]]
        terms = [reconstruction_loss(a, b, torch.ones(7)) for a, b in zip(logits.float(), frames, strict=True)]
        losses.append(sum(a + b for a, b in terms) + kl_divergence(posterior))
        gradients.append(torch.autograd.grad(losses[-1], list(vae.parameters()), allow_unused=True))
    torch.testing.assert_close(*losses)
    names = [name for name, _ in vae.named_parameters()]
    for name, plain, again in zip(names, *gradients, strict=True):
        assert (plain is None) == (again is None), name
        if plain is not None:
            # In bfloat16 the frames' gradients of a weight are added up before or after rounding.
            assert (plain - again).norm() <= (1e-2 if half else 1e-5) * plain.norm() + (1e-2 if half else 1e-5), name


class LargestOutput(TorchDispatchMode):
    """Notes the size in bytes of the largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out


def test_the_logits_of_a_clip_never_exist_at_once() -> None:
    shape, classes = (16, 16, 16, 8), 7
    vae = HexPlaneVAE(VAEConfig(**SMALL), shape, classes).eval()
    latent = {p: torch.randn(1, 3, *s) for p, s in plane_shapes(vae.latent_shape).items()}
    of_a_frame = 4 * classes * 16 * 16 * 8
    with LargestOutput() as noted:
        ids = vae.decode(latent)
    assert noted.largest <= of_a_frame
    with LargestOutput() as noted:
        torch.testing.assert_close(vae.decode(latent, chunk=5), ids)
    assert noted.largest <= 5 * of_a_frame
