"""Long work is never silent: lines come at a steady pace where no terminal draws a bar."""

import time

import pytest

from dyncity import terminal
from dyncity.terminal import ProgressLine, show_columns, show_table, size_text


def test_lines_come_by_themselves_while_the_work_waits(monkeypatch, capsys) -> None:
    monkeypatch.setattr(terminal, "_EVERY", 0.05)
    with ProgressLine("generate", "scenes", 16):
        time.sleep(0.4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("generate: 0/16 scenes") for line in lines)


def test_a_line_tells_rate_and_time_left_and_leaves_out_what_an_earlier_run_did(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    progress = ProgressLine("train vae", "steps", 1000)
    progress.update(600)  # resumed here
    now[0] += 10.0
    progress.update(700, note="loss 0.31")
    assert progress.line() == "train vae: 700/1000 steps, 10.00 steps/s, 30 s left, 10 s so far, loss 0.31"


def test_the_time_left_does_not_grow_between_two_reports_and_does_when_nothing_comes(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    progress = ProgressLine("train dit", "steps", 1000)
    progress.update(0)
    now[0] += 20.0
    progress.update(20)
    for _ in range(3):
        assert ", 1.00 steps/s, 16:20 min left, " in progress.line()
        now[0] += 19.0
    now[0] += 43.0
    assert ", 0.17 steps/s, 98:00 min left, " in progress.line()


def test_work_before_the_rest_is_counted_by_itself(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    progress = ProgressLine("procedural", "scenes", 1000)
    compared = progress.before("compare", "shards")
    for done in range(1, 12):
        compared(done, 50)
        now[0] += 0.5
    assert progress.line() == "compare: 11/50 shards, 2.00 shards/s, 20 s left, 6 s so far"
    progress.update(400, note="11/50 shards")
    now[0] += 10.0
    progress.update(500, note="12/50 shards")
    assert progress.line() == "procedural: 500/1000 scenes, 10.00 scenes/s, 50 s left, 16 s so far, 12/50 shards"


def test_work_that_hangs_says_for_how_long_there_was_nothing_new(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    progress = ProgressLine("generate", "scenes", 16)
    progress.update(4, note="1/4 shards")
    now[0] += 50.0
    progress.update(8, note="2/4 shards")
    now[0] += 59.0
    progress.update(8, note="2/4 shards")
    assert progress.line().endswith("so far, 2/4 shards")
    now[0] += 61.0
    assert progress.line().endswith("so far, 2/4 shards, nothing new for 2:00 min")
    progress.update(9, note="2/4 shards")
    assert progress.line().endswith("so far, 2/4 shards")


def test_the_last_line_is_the_end_and_a_failure_prints_none(capsys) -> None:
    with ProgressLine("export", "scenes") as progress:
        progress.update(3, 3)
    assert capsys.readouterr().out.startswith("export: 3/3 scenes")
    with pytest.raises(ValueError, match="broken"), ProgressLine("export", "scenes", 3):
        raise ValueError("broken")
    assert capsys.readouterr().out == ""


def test_tables_are_plain_in_a_pipe_and_cells_are_not_markup(capsys) -> None:
    show_table([("root", "[red]x[/red]"), ("scenes", 3)], title="corpus")
    assert capsys.readouterr().out.splitlines() == ["corpus", "root    [red]x[/red]", "scenes  3"]


def test_columns_with_long_names_fit_eighty_characters(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("samples, %", "real, %", "other real, %", "FID_bev / real to real", "pieces / real", "corners / real")
    show_columns({name: {"construction_vehicle": 0.0484, "road": 23.63} for name in names})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[-2:]] == [
        ["construction_vehicle", *["0.0484"] * 6],
        ["road", *["23.63"] * 6],
    ]
    said = " ".join(lines[:-2]).split()
    assert sorted(said) == sorted(word for name in names for word in name.split())


def test_sizes_are_in_the_unit_that_they_are_read_in() -> None:
    said = [size_text(n) for n in (0, 999, 41_123, 999_600, 2_450_000, 31e9)]
    assert said == ["0 B", "999 B", "41.1 kB", "1 MB", "2.45 MB", "31.0 GB"]
