"""The restricted reader of pickles: plain values and numpy arrays, nothing that can run."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from dyncity.datasets.plain_pickle import load_plain_pickle
from dyncity.errors import InputError


def test_pickles_of_plain_values_come_back_whatever_their_protocol(tmp_path: Path) -> None:
    value = {
        "list": [1, 2.5, "text", None, True, (b"\xff\0", 3)],
        "arrays": [np.arange(6.0).reshape(2, 3), np.array(["a", "bc"]), np.array([], np.int32), np.eye(2)[::2]],
        "numbers": [np.float32(1.5), np.int64(-3)],
        "objects": np.array([1, "two"], object),
    }
    for protocol in (2, 3, 4):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
        found = load_plain_pickle(tmp_path / "a.pkl")
        assert found["list"] == value["list"]
        for one, other in zip(found["arrays"], value["arrays"], strict=True):
            np.testing.assert_array_equal(one, other)
        assert found["numbers"] == value["numbers"]
        assert found["objects"].tolist() == [1, "two"]


def test_pickles_that_name_anything_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    for content in (
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'a'\ntR.",
        b"",
        b"\x80\x05.",
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.pkl"):
            load_plain_pickle(path)
