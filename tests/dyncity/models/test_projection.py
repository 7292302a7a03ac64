from __future__ import annotations

import pytest
import torch

from dyncity.models import projection
from dyncity.models.projection import AttentionLayer, attend


def test_the_last_layer_answers_one_query_as_it_would_among_all() -> None:
    torch.manual_seed(0)
    layer, x = AttentionLayer(8, 2, 12, 0.1, False).eval(), torch.randn(5, 7, 8)
    torch.testing.assert_close(layer(x, queries=1), layer(x)[:, :1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 20, 70, 10_000])
def test_attention_under_dropout_goes_backward_through_what_it_dropped(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "_WEIGHTS_AT_ONCE", at_once)
    torch.manual_seed(0)
    q, k, v, g = torch.randn(4, 3, 2, 6, 4).unbind(0)
    v.requires_grad_()
    out = attend(q, k, v, 0.5)
    assert out.shape == q.shape
    assert not torch.allclose(out, attend(q, k, v, 0.0))
    # Attention is linear in the values, so this holds if and only if the same weights were dropped again.
    (gradient,) = torch.autograd.grad((out * g).sum(), v)
    torch.testing.assert_close((gradient * v).sum(), (out * g).sum())
    weights = torch.stack([attend(q, k, torch.eye(6).expand(3, 2, 6, 6)[..., i : i + 4], 0.5) for i in (0, 2)])
    assert 0.2 < (weights == 0).float().mean() < 0.8


def test_one_query_under_dropout() -> None:
    q, k, v = torch.randn(3, 2, 1, 4), torch.randn(3, 2, 6, 4), torch.randn(3, 2, 6, 4)
    assert attend(q, k, v, 0.1).shape == (3, 2, 1, 4)


def test_recomputing_changes_no_gradient() -> None:
    torch.manual_seed(0)
    layers = [AttentionLayer(8, 2, 12, 0.0, recompute) for recompute in (False, True)]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(5, 7, 8, requires_grad=True)
    gradients = [torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]) for layer in layers]
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
