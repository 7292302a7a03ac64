from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dyncity.models.blocks import InstanceNorm, Pointwise, ResidualPair, conv3, recomputed

LAST = torch.channels_last_3d


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_instance_norm_is_exact_wherever_the_channels_lie(memory_format: torch.memory_format, offset: float) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 16, 32, 32, 8) + offset).contiguous(memory_format=memory_format)
    norm = InstanceNorm(16, affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    out = norm(x)
    right = nn.functional.instance_norm(x.double(), weight=norm.weight.double(), bias=norm.bias.double()).float()
    torch.testing.assert_close(out, right, rtol=1e-5, atol=2e-5)
    assert out.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, LAST])
def test_pointwise_is_a_convolution_with_kernel_one(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=memory_format)
    layer = Pointwise(3, 7)
    right = nn.functional.conv3d(x, layer.weight[..., None, None, None], layer.bias)
    torch.testing.assert_close(layer(x), right, rtol=1e-4, atol=1e-5)


def test_recomputing_repeats_no_convolution_and_changes_no_gradient() -> None:
    torch.manual_seed(0)
    pair = ResidualPair(conv3(3, 3, "replicate"), conv3(3, 3, "replicate"), 3, nn.LeakyReLU(0.1))
    gradients, work = [], []
    for wanted in (False, True):
        x = torch.linspace(-2, 3, 720).view(2, 3, 6, 5, 4).requires_grad_()
        pair.zero_grad()
        with FlopCounterMode(display=False) as counter:
            recomputed(wanted, pair, x).square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in pair.parameters())])
        work.append(counter.get_total_flops())
    assert work[0] == work[1] > 0
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
