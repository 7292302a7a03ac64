"""A model is not built beyond what it may hold, whatever way its sizes are given; what fits is built as ever."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dyncity.models.bounded_build import BoundedBuild, TooManyNumbers

MAKERS: tuple[Callable[[int], object], ...] = (
    lambda n: nn.Linear(n, n, bias=False),
    lambda n: nn.Embedding(n, n),
    lambda n: nn.Conv2d(n, n, 1, bias=False),
    lambda n: torch.zeros(n, n),
    lambda n: torch.randn((n, n)),
    lambda n: torch.ones(size=(n, n)),
    lambda n: torch.full((n, n), 2.0),
    lambda n: [torch.empty(n) for _ in range(n)],
)


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_too_large_is_refused_before_memory_is_taken(make: Callable[[int], object]) -> None:
    with BoundedBuild(100):
        make(10)
    with pytest.raises(TooManyNumbers), BoundedBuild(100):
        make(11)
    if make is not MAKERS[-1]:
        with pytest.raises(TooManyNumbers), BoundedBuild(2**20):
            make(2**30)  # four exabytes: no machine would live to tell


def test_it_changes_nothing_that_fits() -> None:
    torch.manual_seed(3)
    plain = nn.Linear(4, 5)
    torch.manual_seed(3)
    with BoundedBuild(1000):
        bounded = nn.Linear(4, 5)
    torch.testing.assert_close(bounded.weight, plain.weight, rtol=0, atol=0)


def test_a_checkpoint_is_loaded_without_torchs_compiler() -> None:
    """It takes seconds to import, and every command would wait for it."""
    code = (
        "import sys; from dyncity.checkpoint import load_checkpoint, shipped_checkpoint; "
        "load_checkpoint(shipped_checkpoint()); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
