"""Building a model that a file from outside describes: no more memory than the file's own weights account for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# What makes tensors of a shape that a configuration decides; whatever is computed from them is about as large.
_BY_SHAPE = frozenset((torch.empty, torch.zeros, torch.ones, torch.full, torch.randn))


class TooManyNumbers(Exception):
    """A model asks for more numbers than it may have."""


class BoundedBuild(TorchFunctionMode):
    """Within it, tensors that are made have ``most`` numbers in all.

    The device "meta", which makes none at all, loads torch's compiler for the first sum: two seconds of every command.

    Raises:
        TooManyNumbers: before the memory is taken.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count what ``func`` makes, then make it."""
        if func in _BY_SHAPE:
            self.left -= _numbers(args, kwargs or {})
            if self.left < 0:
                raise TooManyNumbers
        return func(*args, **(kwargs or {}))


def _numbers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many numbers a tensor has that is asked for by ``(3, 4)``, by ``3, 4`` or by ``size=(3, 4)``."""
    sizes = args or (kwargs.get("size", ()),)
    shape = sizes[0] if isinstance(sizes[0], Iterable) else [size for size in sizes if isinstance(size, int)]
    return math.prod(shape)
