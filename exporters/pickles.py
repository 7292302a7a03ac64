"""Pickles for readers that demand them, such that any numpy reads them. We write them; we never load one."""

from __future__ import annotations

import io
import pickle
from typing import Any, BinaryIO

import numpy as np


def portable_pickle(value: Any) -> bytes:
    """A pickle of dicts, lists, texts, numbers and arrays that numpy before and after 2.0 loads.

    Arrays pickled by numpy 2 name a module that older ones lack; protocol 2 spells module names out in
    plain lines, so the name that both know takes its place. The same value gives the same bytes.
    """
    return pickle.dumps(value, protocol=2).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


class PickleStream:
    """A pickle of lists and dicts that is written value by value: larger than memory where it has to be.

    What is opened is a value where one is due: ``open_dict``, a key by ``value``, then its value, and so on.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._write = file.write
        self._write(b"\x80\x02")

    def value(self, value: Any) -> None:
        """Write a whole value: what ``portable_pickle`` has between its head and its stop."""
        self._write(portable_pickle(value)[2:-1])

    def open_list(self) -> None:
        """Begin a list."""
        self._write(b"](")

    def close_list(self) -> None:
        """End it."""
        self._write(b"e")

    def open_dict(self) -> None:
        """Begin a dict."""
        self._write(b"}(")

    def close_dict(self) -> None:
        """End it."""
        self._write(b"u")

    def stop(self) -> None:
        """End the pickle."""
        self._write(b".")


def object_array(items: list[Any]) -> bytes:
    """The bytes of a ``.npy`` file that holds a list ``[n]`` of Python objects (readers need allow_pickle)."""
    array = np.empty(len(items), object)
    array[:] = items
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": array.shape})
    return file.getvalue() + portable_pickle(array)
