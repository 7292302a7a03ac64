"""Attention and its backends: torch's SDPA, or flash-attn where it is usable."""

from __future__ import annotations

import importlib
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from dyncity.errors import InputError

Backend = Literal["sdpa", "flash_attn", "fa4"]
Choice = Literal["auto", "sdpa", "flash_attn", "fa4"]

_SYMBOLS = {"flash_attn": ("flash_attn", "flash_attn_func"), "fa4": ("flash_attn.cute", "flash_attn_func")}


def _installed(backend: str) -> bool:
    # With only flash-attn-4 installed `import flash_attn` succeeds without the function: probe the symbol.
    module, symbol = _SYMBOLS[backend]
    try:
        return callable(getattr(importlib.import_module(module), symbol, None))
    except (ImportError, OSError, RuntimeError):
        return False


def resolve_backend(choice: str, device: torch.device, precision: str) -> Backend:
    """The backend that a choice means on a device, for a run in "float32" or "bfloat16".

    flash-attn works in half precision alone, so ``auto`` takes it on a CUDA device where it is installed and
    the run is in bfloat16, else SDPA. An explicit choice that cannot run here is an error, never a silent
    change, least of all of the precision.

    Raises:
        InputError: an unknown choice, or one that this device, precision or installation cannot run.
    """
    if choice not in get_args(Choice):
        raise InputError("attention", f"found {choice!r}", f"use one of {', '.join(get_args(Choice))}")
    if choice == "sdpa":
        return "sdpa"
    if choice == "auto":
        usable = device.type == "cuda" and precision == "bfloat16" and _installed("flash_attn")
        return "flash_attn" if usable else "sdpa"
    if device.type != "cuda":
        raise InputError("attention", f"{choice} needs a CUDA device, found {device.type}", "use auto or sdpa")
    if precision != "bfloat16":
        raise InputError("attention", f"{choice} needs half precision, found {precision}", "set precision to bfloat16")
    if not _installed(choice):
        extra = "flash" if choice == "flash_attn" else "flash4"
        raise InputError("attention", f"{choice} is not installed", f"pip install 'dyncity[{extra}]'")
    return choice  # type: ignore[return-value]


def attend(q: Tensor, k: Tensor, v: Tensor, backend: Backend) -> Tensor:
    """Scaled dot-product attention, ``[b, h, n, d]`` each -> ``[b, h, n, d]``."""
    if backend == "sdpa" and q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # On a CPU its gradient takes four times as long in half precision as in float32.
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    if backend == "sdpa":
        return F.scaled_dot_product_attention(q, k, v)
    module, symbol = _SYMBOLS[backend]
    flash = getattr(importlib.import_module(module), symbol)
    # flash-attn takes [b, n, h, d].
    out = flash(*(a.transpose(1, 2) for a in (q, k, v)))
    return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)
