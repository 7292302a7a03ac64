from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dyncity.conditions import poses_from_trajectory
from dyncity.config import DiTConfig, SamplingConfig
from dyncity.diffusion.flow import euler, interpolate, noise_levels
from dyncity.diffusion.guidance import WeakerSelf, guided, weaker_selves
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.hexplane import rollout_mask, rollout_shape
from dyncity.models.attention import attend, resolve_backend
from dyncity.models.conditioning import draw_path, encode_conditions
from dyncity.models.dit import DiT

LATENT = (2, 8, 6, 2)
GRID = GridSpec((16, 12, 4), (1.0, 1.0, 1.0), (-8.0, -6.0, -1.0), 5.0)
CONFIG = DiTConfig(width=32, depth=2, heads=4, patch=2, objective="flow", path_plane=True)


def model(awake: bool = True) -> DiT:
    torch.manual_seed(0)
    dit = DiT(CONFIG, 3, LATENT, frames=4)
    if awake:  # adaLN-Zero answers zero until it has learned something
        for parameter in dit.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        dit.command.weight.data[-1] = 0
    return dit.eval()


def conditions(b: int, command: str | None = "left"):  # type: ignore[no-untyped-def]
    path = np.stack([np.arange(4.0), 0.3 * np.arange(4.0), 0.2 * np.arange(4.0)], axis=1)
    return encode_conditions([command] * b, [path] * b, 4, GRID, (2, 2))


def test_padding_stays_zero_and_planes_do_not() -> None:
    x = torch.randn(2, 3, *rollout_shape(LATENT))
    out = model()(x, torch.tensor([10.0, 900.0]), conditions(2))
    mask = rollout_mask(LATENT).bool().expand_as(out)
    assert out.shape == x.shape
    assert (out[~mask] == 0).all()
    assert (out[mask] != 0).float().mean() > 0.99


def test_it_starts_at_zero() -> None:
    x = torch.randn(1, 3, *rollout_shape(LATENT))
    assert (model(awake=False)(x, torch.tensor([5.0]), conditions(1)) == 0).all()


def test_each_condition_matters_and_can_be_dropped() -> None:
    dit, x, time = model(), torch.randn(1, 3, *rollout_shape(LATENT)), torch.tensor([500.0])
    every, none = conditions(1), conditions(1).none()
    yes = torch.tensor([True])
    answers = [
        dit(x, time, c)
        for c in (every, every.dropped(command=yes), every.dropped(trajectory=yes), every.dropped(path=yes), none)
    ]
    for i, a in enumerate(answers):
        for b in answers[i + 1 :]:
            assert not torch.allclose(a, b)
    absent = encode_conditions([None], [None], 4, GRID, (2, 2))
    torch.testing.assert_close(dit(x, time, absent), answers[-1], rtol=0, atol=0)


def test_guidance_in_one_pass_is_the_formula() -> None:
    dit, x, time = model(), torch.randn(2, 3, *rollout_shape(LATENT)), torch.tensor([100.0, 800.0])
    with_all = conditions(2)
    c, u = dit(x, time, with_all), dit(x, time, with_all.none())
    torch.testing.assert_close(guided(dit, with_all, 3.0)(x, time), u + 3.0 * (c - u), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(guided(dit, with_all, 1.0)(x, time), c)


def test_each_scene_has_its_own_scale() -> None:
    dit, x, time = model(), torch.randn(2, 3, *rollout_shape(LATENT)), torch.tensor([300.0, 300.0])
    both = guided(dit, conditions(2), torch.tensor([2.0, 5.0]))(x, time)
    for i, scale in enumerate((2.0, 5.0)):
        alone = guided(dit, conditions(1), scale)(x[i : i + 1], time[:1])
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("time", "guides"), [(100.0, False), (300.0, True), (700.0, True), (900.0, False)])
def test_guidance_keeps_to_its_interval(time: float, guides: bool) -> None:
    dit, x, times = model(), torch.randn(1, 3, *rollout_shape(LATENT)), torch.tensor([time])
    out = guided(dit, conditions(1), 3.0, (0.2, 0.8))(x, times)
    assert torch.allclose(out, dit(x, times, conditions(1))) != guides


def test_a_model_without_conditions_is_never_asked_twice() -> None:
    alone = DiTConfig(width=32, depth=1, heads=4, patch=2, command=False, trajectory=False)
    dit, rows = DiT(alone, 3, LATENT, frames=4).eval(), []
    dit.embed.register_forward_hook(lambda module, inputs, out: rows.append(len(out)))
    guided(dit, conditions(2), 4.0)(torch.randn(2, 3, *rollout_shape(LATENT)), torch.tensor([5.0, 5.0]))
    assert rows == [2]


def test_the_path_is_drawn_where_the_ego_drives() -> None:
    trajectory = np.array([[0, 0, 0], [2, 0, 0], [4, 1, 0.6], [5, 3, 1.2]], float)
    drawn = draw_path(trajectory, GRID, (2, 2))
    poses = poses_from_trajectory(trajectory)
    points = (np.linalg.inv(poses[2]) @ poses)[:, :2, 3]
    centers = np.stack(np.meshgrid(np.arange(-7.0, 8, 2), np.arange(-5.0, 6, 2), indexing="ij"), -1)
    for x, y in points:
        cell = np.unravel_index(np.hypot(centers[..., 0] - x, centers[..., 1] - y).argmin(), (8, 6))
        assert drawn[0][cell] > 0.4
    assert drawn[0, 0, 0] < 0.01
    later = np.hypot(*(centers - points[3]).transpose(2, 0, 1)).argmin()
    first = np.hypot(*(centers - points[0]).transpose(2, 0, 1)).argmin()
    share = drawn[1] / drawn[0]
    assert share.flat[first] < 0.2 < 0.8 < share.flat[later]


def test_the_route_goes_on_where_the_clip_ends() -> None:
    trajectory = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]], float)
    before, after = np.array([[-4.0, 0, 0], [-2.0, 0, 0]]), np.array([[4.0, 0, 0], [4.0, 4.0, 0]])
    alone, drawn = draw_path(trajectory, GRID, (2, 2)), draw_path(trajectory, GRID, (2, 2), route=(before, after))
    assert (drawn[0] >= alone[0] - 1e-6).all()
    # Cells of 2 m around the middle pose at (2, 0): the route begins 6 m behind it and ends 2 m ahead, 4 m to the left.
    assert alone[0, 1, 2:4].max() < 0.1 < drawn[0, 1, 2:4].max()
    assert alone[0, 5, 5] < 0.1 < drawn[0, 5, 5]
    assert drawn[1, 1, 2:4].max() < 1e-6  # before the clip
    np.testing.assert_allclose(drawn[1, 5, 5], drawn[0, 5, 5], rtol=1e-5)  # after it
    np.testing.assert_array_equal(draw_path(trajectory, GRID, (2, 2), route=(before[:0], after[:0])), alone)


def test_euler_follows_a_straight_flow_exactly() -> None:
    data, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    _, velocity = interpolate(data, noise, torch.rand(2))
    for steps, shift in ((1, 1.0), (7, 1.0), (7, 3.0)):
        torch.testing.assert_close(euler(lambda x, t: velocity, noise, steps, shift), data, rtol=1e-4, atol=1e-5)


def test_a_shift_moves_steps_to_the_noise() -> None:
    for steps, shift in ((1, 2.0), (9, 1.0), (9, 2.0), (30, 0.5)):
        levels = noise_levels(steps, shift)
        assert (levels[0], levels[-1], len(levels)) == (1.0, 0.0, steps + 1)
        assert levels == sorted(levels, reverse=True)
        moved = np.array(levels[1:-1]) - np.linspace(1, 0, steps + 1)[1:-1]
        assert (np.where(np.abs(moved) < 1e-6, 0, np.sign(moved)) == np.sign(shift - 1)).all()
    assert noise_levels(4, 3.0)[2] == pytest.approx(0.75)


def test_a_patch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="does not divide the latent t"):
        DiT(DiTConfig(width=32, depth=1, heads=4, patch=4), 3, LATENT, frames=4)


def test_backends_are_resolved_or_refused_never_changed() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert resolve_backend("auto", cpu, "bfloat16") == "sdpa"
    assert resolve_backend("auto", gpu, "float32") == "sdpa"  # flash-attn would halve the precision
    with pytest.raises(InputError, match="needs a CUDA device"):
        resolve_backend("flash_attn", cpu, "bfloat16")
    with pytest.raises(InputError, match="needs half precision"):
        resolve_backend("flash_attn", gpu, "float32")
    with pytest.raises(InputError, match="use one of"):
        resolve_backend("magic", cpu, "float32")


REFINED = replace(CONFIG, refine=4)


class LeftOut(torch.nn.Module):
    def forward(self, tokens, *others):  # type: ignore[no-untyped-def]
        return tokens


def test_a_weaker_answer_is_that_of_the_model_without_the_part() -> None:
    dit = refined(replace(REFINED, depth=3, refine_coarse=6))
    for parameter in dit.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    x, time = torch.randn(2, 3, *rollout_shape(LATENT)), torch.tensor([200.0, 700.0])
    whole, *weaker = dit.answers(x, time, conditions(2), ["coarse", 0, 2])
    torch.testing.assert_close(dit(x, time, conditions(2)), whole, rtol=0, atol=0)
    (alone,) = dit.answers(x, time, conditions(2), [1], rows=1)[1:]
    assert len(alone) == 1
    coarse, dit.refine.coarse = dit.refine.coarse, None
    torch.testing.assert_close(weaker[0], dit(x, time, conditions(2)))
    dit.refine.coarse = coarse
    for part, answer in zip((0, 2, 1), [*weaker[1:], alone], strict=True):
        block, dit.blocks[part] = dit.blocks[part], LeftOut()
        torch.testing.assert_close(answer, dit(x, time, conditions(2))[: len(answer)])
        assert not torch.allclose(answer, whole[: len(answer)])
        dit.blocks[part] = block


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_guidance_by_weaker_selves_is_the_formula_within_its_interval(scale: float) -> None:
    dit, x = model(), torch.randn(2, 3, *rollout_shape(LATENT))
    weaker = [WeakerSelf(0, 2.0), WeakerSelf(1, 0.5, (0.6, 1.0))]
    for level in (400.0, 800.0):
        time = torch.full((2,), level)
        c, without_0, without_1 = dit.answers(x, time, conditions(2), [0, 1])
        expected = c + 2.0 * (c - without_0) + (0.5 * (c - without_1) if level > 600 else 0)
        expected = expected + (scale - 1) * (c - dit(x, time, conditions(2).none()))
        found = guided(dit, conditions(2), scale, weaker=weaker)(x, time)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        first = guided(dit, conditions(2), scale, weaker=weaker, strength=torch.tensor([1.0, 0.0]))(x, time)
        without = guided(dit, conditions(2), scale)(x, time)
        torch.testing.assert_close(first, torch.stack([found[0], without[1]]))


def test_settings_name_the_parts_to_go_without() -> None:
    nothing = SamplingConfig()
    assert weaker_selves(nothing) == ()
    both = replace(nothing, coarse_scale=2.0, skip_scale=1.0, skip_block=3, skip_interval=(0.5, 1.0))
    assert weaker_selves(both) == (WeakerSelf("coarse", 2.0), WeakerSelf(3, 1.0, (0.5, 1.0)))


def refined(config: DiTConfig) -> DiT:
    torch.manual_seed(0)
    return DiT(config, 3, LATENT, frames=4).eval()


def test_finer_convolutions_join_patches_and_coarse_ones_see_farther() -> None:
    """What one cell holds reaches as many cells of the answer as the convolutions say, beside the tokens."""
    x, time = torch.randn(1, 3, *rollout_shape(LATENT)), torch.tensor([500.0])
    other = x.clone()
    other[..., 4, 3] += 1
    reached = []
    for config in (REFINED, replace(REFINED, refine_coarse=6)):
        dit = refined(config)
        for parameter in dit.refine.parameters():  # the transformer stays asleep
            parameter.data += 0.3 * torch.randn_like(parameter)
        change = (dit(x, time, conditions(1)) - dit(other, time, conditions(1))).abs().sum(dim=(0, 1)) > 1e-6
        rows, columns = change.nonzero(as_tuple=True)
        reached.append((4 - rows.min(), rows.max() - 4, 3 - columns.min(), columns.max() - 3))
    assert tuple(int(n) for n in reached[0]) == (3, 3, 3, 3)  # three convolutions of 3x3
    assert all(far >= near for far, near in zip(reached[1], reached[0], strict=True))
    assert reached[1] != reached[0]


def test_coarse_convolutions_begin_as_nothing_and_know_the_noise_level() -> None:
    x, plain = torch.randn(2, 3, *rollout_shape(LATENT)), refined(REFINED)
    torch.nn.init.normal_(plain.refine.last.weight)
    dit = refined(replace(REFINED, refine_coarse=6))
    missing, unexpected = dit.load_state_dict(plain.state_dict(), strict=False)
    assert all(name.startswith("refine.coarse.") for name in missing)
    assert not unexpected
    time = torch.tensor([500.0, 500.0])
    torch.testing.assert_close(dit(x, time, conditions(2)), plain(x, time, conditions(2)))
    torch.nn.init.normal_(dit.refine.coarse.up.weight)
    features, early, late = torch.randn(1, 4, 7, 5), torch.zeros(1, 32), torch.ones(1, 32)
    assert dit.refine.coarse(features, early).shape == (1, 4, 7, 5)  # odd sides are padded
    assert (dit.refine.coarse(features, early) != dit.refine.coarse(features, late)).any()


def test_coarse_convolutions_need_fine_ones() -> None:
    with pytest.raises(InputError, match=r"dit\.refine_coarse"):
        refined(replace(CONFIG, refine_coarse=6))


def test_half_precision_on_a_cpu_attends_in_float32() -> None:
    q, k, v = (torch.randn(2, 3, 20, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    whole = [a.detach().float().requires_grad_() for a in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*whole)
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, k, v, "sdpa")
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.to(torch.bfloat16))
    found.float().sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(q.grad.float(), whole[0].grad, rtol=0.01, atol=1e-4)
