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
    (tmp_path / "b.csv").write_text("\ufeff" + "\n".join(",".join(map(str, r)) for r in ROWS))  # as spreadsheets do
    expected = np.array(ROWS) - (1.0, 2.0, 0.0)
    (tmp_path / "C.CSV").write_text((tmp_path / "a.csv").read_text())
    for name in ("a.json", "a.npy", "a.csv", "b.csv", "C.CSV"):
        np.testing.assert_allclose(read_trajectory(tmp_path / name, 3, 5.0, 9), expected, err_msg=name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "no such file"),
        ("a.json", b"[[1, 2, 3], [1, 2]]", "differ in length"),
        ("a.json", b"{", "not readable as JSON"),
        ("a.json", b"[[0, 0, 0]]", "has 1 rows"),
        ("a.json", b"[[0, 0], [1, 0], [2, 0]]", "found shape"),
        ("a.json", b"[[0,0,0],[1,0,NaN],[2,0,0]]", r"row 1 is 1, 0, nan; give finite"),
        ("a.json", b"[[0,0,0],[1,0,1e300],[2,0,0]]", "row 1 is 1, 0, 1e\\+300"),
        ("a.json", b"[[true,true,true],[true,true,true],[true,true,true]]", "found bool"),
        ("a.json", b"[[0,0,0],[1,0,0],[2,0,1" + b"0" * 400 + b"]]", "found object"),
        ("a.csv", b"", "it has no rows"),
        ("a.csv", b"x,y,yaw", "it has no rows"),
        ("a.csv", b"0,0,0\n1,0\n2,0,0", "line 2: found '1,0'"),
        ("a.csv", b"0,0,0,0\n0,1,0,0\n0,2,0,0", "trajectories of 1 scenes; give one for all, or 2"),
        ("a.csv", b"0,0,0,0\n1,1,0,0\n0,2,0,0", "in order"),
        (
            "a.csv",
            b"0,0,0\n12.1,0,0\n24,0,0",
            "from frame 0 to 1 it goes 60.5 m/s, at 5 frames a second; give at most 60, in metres",
        ),
        ("a.csv", b"0,0,0\n1,0,0\n2,0,0.7", "from frame 1 to 2 it goes 200.5 degrees a second, .* yaw in radians"),
        ("a.npy", b"\x93NUMPY", "not readable as an array"),
        ("a.csv", b"x,y,yaw\n1,2,three", "line 2: found '1,2,three'"),
        ("a.csv", b"nan,0,0\n1,0,0\n2,0,0", "row 0 is nan, 0, 0; give finite"),  # no header: a header has no number
        ("a.csv", b"zero,0,0\n1,0,0\n2,0,0", "line 1: found 'zero,0,0'"),
        ("a.csv", b"yaw,x,y\n0,0,0\n0,1,0\n0,2,0", "line 1: its columns are 'yaw,x,y'; give x,y,yaw or scene,x,y,yaw"),
        ("a.csv", b"t,x,y,yaw\n0,0,0,0\n1,1,0,0\n2,2,0,0", "line 1: its columns are 't,x,y,yaw'"),
        ("a.csv", b"scene,x,y,yaw\n0,0,0\n1,0,0\n2,0,0", "line 2: found '0,0,0'; give 4 numbers"),
        ("a.csv", b"x;y;yaw\n0;0;0\n1;0;0\n2;0;0", "line 1: its columns are 'x;y;yaw'.* divided by commas"),
        ("a.csv", b"0;0;0\n1;0;0\n2;0;0", "line 1: its columns are '0;0;0'"),
        ("a.csv", b"\xff\xfe0\x00", "not readable as text"),
        ("a.txt", b"0 0 0", "not a kind of file"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_trajectory(tmp_path / name, 3, 5.0, 2)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


@pytest.mark.parametrize("header", ["", "x,y,yaw\n", "\ufeffX, Y, Yaw\n", '\ufeff"x","y","yaw"\n'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_spreadsheets_write_is_read(tmp_path: Path, header: str, end: str) -> None:
    text = header + "".join(f"{','.join(map(str, row))}\n" for row in ROWS) + "\n"
    (tmp_path / "a.csv").write_bytes(text.replace("\n", end).encode())
    (tmp_path / "a.json").write_text(f"\ufeff{json.dumps(ROWS)}")
    expected = read_trajectory(tmp_path / "a.json", 3, 5.0, 1)
    np.testing.assert_array_equal(read_trajectory(tmp_path / "a.csv", 3, 5.0, 1), expected)
    np.testing.assert_allclose(expected, np.array(ROWS) - ROWS[0])


def test_an_array_that_is_too_large_is_told_its_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2**20, 3)))
    with pytest.raises(InputError, match=r"found 25165824 bytes, shape \(1048576, 3\); give at most 8388608"):
        read_trajectory(tmp_path / "a.npy", 3, 5.0, 1)


def test_a_pickle_in_an_npy_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"Python objects"):
        read_trajectory(tmp_path / "a.npy", 1, 5.0, 1)


def test_each_scene_may_have_its_own(tmp_path: Path) -> None:
    scenes = np.array([ROWS, np.array(ROWS) * 2, np.zeros((3, 3))])
    (tmp_path / "a.json").write_text(json.dumps(scenes.tolist()))
    np.save(tmp_path / "a.npy", scenes)
    lines = [",".join(map(str, (k, *row))) for k, rows in enumerate(scenes.tolist()) for row in rows]
    (tmp_path / "a.csv").write_text("scene,x,y,yaw\n" + "\n".join(lines))
    expected = scenes - scenes[:, :1]
    for name in ("a.json", "a.npy", "a.csv"):
        np.testing.assert_allclose(read_trajectory(tmp_path / name, 3, 5.0, 3), expected, err_msg=name)


@pytest.mark.parametrize("dtype", [complex, bool, [("x", "f8")], "U3"])
def test_an_array_of_other_things_than_numbers_is_refused(tmp_path: Path, dtype: object) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 3), dtype))
    with pytest.raises(InputError, match=r"a\.npy"):
        read_trajectory(tmp_path / "a.npy", 3, 5.0, 1)
