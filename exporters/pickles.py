"""Pickles for readers that demand them, such that any numpy reads them. We write them; we never load one."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np


def portable_pickle(value: Any) -> bytes:
    """A pickle of dicts, lists, texts, numbers and arrays that numpy before and after 2.0 loads.

    Arrays pickled by numpy 2 name a module that older ones lack; protocol 2 spells module names out in
    plain lines, so the name that both know takes its place. The same value gives the same bytes.
    """
    return pickle.dumps(value, protocol=2).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def object_array(items: list[Any]) -> bytes:
    """The bytes of a ``.npy`` file that holds a list ``[n]`` of Python objects (readers need allow_pickle)."""
    array = np.empty(len(items), object)
    array[:] = items
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": array.shape})
    return file.getvalue() + portable_pickle(array)
