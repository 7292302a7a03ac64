"""What is given of a sample stays, the rest is drawn beside it, and repeated steps keep to their noise level."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dyncity.diffusion.flow import ab2, euler, heun
from dyncity.diffusion.joining import Repeats, joined, known_cells, noised_again
from dyncity.hexplane import rollout_shape
from dyncity.models.dit import TIME_SCALE

LATENT = (4, 6, 4, 2)


def given(*shares: Tensor) -> Tensor:
    """Given voxels of samples whose xy planes have these shares."""
    maps = torch.randn(len(shares), 4, *rollout_shape(LATENT))
    maps[:, -1] = 0.5  # of the other planes
    maps[:, -1, : LATENT[1], : LATENT[2]] = torch.stack(shares)
    return maps


def test_cells_are_known_where_samples_are_given_whole_cells_and_nothing_else() -> None:
    hole, frame, nothing = torch.ones(6, 4), torch.full((6, 4), 0.25), torch.zeros(6, 4)
    hole[2:4, 1:3] = 0.0
    some_frames = hole.clone()
    some_frames[2:4, 1:3] = 0.5
    known = known_cells(given(hole, frame, nothing, some_frames), LATENT)
    assert known.rows.tolist() == [True, False, False, False]
    assert (known.cells[0, 0, :6, :4] == (hole == 1)).all()
    assert not known.cells[:, :, 6:].any()
    assert not known.cells[:, :, :, 4:].any()


@pytest.mark.parametrize("solve", [euler, heun, ab2])
def test_known_cells_end_as_they_are_known_and_the_others_as_asked(solve) -> None:  # type: ignore[no-untyped-def]
    known = known_cells(given(torch.ones(6, 4)), LATENT)
    noise, levels = torch.randn_like(known.data), {"told": [], "untold": []}

    def answer(name: str):  # type: ignore[no-untyped-def]
        def velocity(x: Tensor, time: Tensor) -> Tensor:
            levels[name].append(float(time[0]) / TIME_SCALE)
            return noise  # a flow from the noise to zeros

        return velocity

    end = solve(joined(answer("told"), answer("untold"), known, 0.6), noise, 8)
    assert end.isfinite().all()
    if solve is heun:  # at noise level 0 there is no velocity towards anything
        end = known.placed(end)
    torch.testing.assert_close(end[:, :, :6, :4], known.data[:, :, :6, :4])
    assert end[:, :, 6:].abs().max() < 1e-5
    assert min(levels["told"]) > 0.6 >= max(levels["untold"])


def test_noise_that_is_put_back_is_that_of_the_level() -> None:
    torch.manual_seed(0)
    data, after, now = torch.tensor(3.0), 0.4, 0.7
    x = (1 - after) * data + after * torch.randn(200_000)
    again = noised_again(x, after, now, torch.randn(200_000))
    assert abs(float(again.mean()) - (1 - now) * 3.0) < 0.01
    assert abs(float(again.std()) - now) < 0.01


@pytest.mark.parametrize("solve", [euler, ab2])
def test_steps_are_taken_again_for_their_samples_at_their_levels_alone(solve) -> None:  # type: ignore[no-untyped-def]
    data = torch.randn(2, 3, 4, 4)
    noise, calls = torch.randn_like(data), []

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        calls.append(round(float(time[0]) / TIME_SCALE, 3))
        return (x - data) / float(time[0]) * TIME_SCALE

    def fresh(number: int) -> Tensor:
        return torch.full_like(data, number)

    rows = torch.tensor([True, False])
    found = solve(velocity, noise, 4, repeats=Repeats(rows, 3, (0.4, 0.8), fresh))
    assert calls == [1.0, 0.75, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25]
    torch.testing.assert_close(found, data, rtol=1e-4, atol=1e-4)
    calls.clear()
    solve(velocity, noise, 4, repeats=Repeats(~rows & rows, 3, (0.4, 0.8), fresh))
    assert calls == [1.0, 0.75, 0.5, 0.25]

    def drifting(x: Tensor, time: Tensor) -> Tensor:
        return x

    changed = solve(drifting, noise, 4, repeats=Repeats(rows, 2, (0.4, 0.8), fresh))
    plain = solve(drifting, noise, 4)
    torch.testing.assert_close(changed[1], plain[1], rtol=0, atol=0)
    assert not torch.allclose(changed[0], plain[0])
