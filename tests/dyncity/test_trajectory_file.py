"""--trajectory FILE: three kinds of file, the same rows; anything else is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from dyncity.errors import InputError
from dyncity.trajectory_file import read_trajectory

ROWS = [[1.0, 2.0, 0.0], [3.0, 2.0, 0.1], [5.0, 2.5, 0.2]]


def test_json_numpy_and_csv_hold_the_same_trajectory(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    np.save(tmp_path / "a.npy", np.array(ROWS))
    (tmp_path / "a.csv").write_text("x,y,yaw\n" + "\n".join(",".join(map(str, r)) for r in ROWS) + "\n")
    (tmp_path / "b.csv").write_text("\n".join(",".join(map(str, r)) for r in ROWS))
    expected = np.array(ROWS) - (1.0, 2.0, 0.0)
    for name in ("a.json", "a.npy", "a.csv", "b.csv"):
        np.testing.assert_allclose(read_trajectory(tmp_path / name, 3), expected, err_msg=name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "no such file"),
        ("a.json", b"[[1, 2, 3], [1, 2]]", "not rows of numbers"),
        ("a.json", b"{", "not readable as JSON"),
        ("a.json", b"[[0, 0, 0]]", "has 1 rows"),
        ("a.json", b"[[0, 0], [1, 0], [2, 0]]", "found shape"),
        ("a.json", b"[[0,0,0],[1,0,NaN],[2,0,0]]", "not finite"),
        ("a.npy", b"\x93NUMPY", "not readable as an array"),
        ("a.csv", b"x,y,yaw\n1,2,three", "not rows of numbers"),
        ("a.txt", b"0 0 0", "not a kind of file"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_trajectory(tmp_path / name, 3)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_pickle_in_an_npy_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"Python objects"):
        read_trajectory(tmp_path / "a.npy", 1)
