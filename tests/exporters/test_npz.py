"""Archives of arrays: what readers of zip and of npz find in them."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from exporters.npz import write_npz

ARRAYS = {
    "flow": np.random.default_rng(0).normal(size=(20, 20, 8, 3)).astype(np.float32),
    "mask": np.zeros((200, 200, 16), np.uint8),
    "turned": np.arange(24, dtype=np.uint16).reshape(4, 6).T,
    "flags": np.arange(9) % 2 == 0,
    "nobody": np.zeros((0, 7)),
    "number": np.float64(3.5),
}


def test_numpy_reads_the_arrays_and_zip_finds_no_damage(tmp_path):
    path = tmp_path / "frame.npz"
    write_npz(path, {**ARRAYS, "boxes": [{"token": "a", "size": [1.0, 2.0, 3.0]}]})
    with np.load(path, allow_pickle=True) as found:
        assert found.files == [*ARRAYS, "boxes"]
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == np.asarray(array).dtype
        assert found["boxes"].tolist() == [{"token": "a", "size": [1.0, 2.0, 3.0]}]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        assert archive.getinfo("mask.npy").compress_size < 1_000


def test_the_same_arrays_are_the_same_bytes_and_what_is_there_is_not_replaced(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    write_npz(tmp_path / "b.npz", ARRAYS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(FileExistsError):
        write_npz(tmp_path / "a.npz", {})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
