import json

import pytest

from uipad_cli import console
from uipad_cli.records import Progress


def test_data_goes_to_stdout_and_refuses_what_json_has_no_word_for(capsys):
    console.data({"a": 1.5})
    console.data_line({"b": [1, 2]})
    out = capsys.readouterr().out
    assert json.loads(out[: out.index("}") + 1]) == {"a": 1.5}
    assert out.endswith('{"b": [1, 2]}\n')
    with pytest.raises(ValueError, match="JSON"):
        console.data({"a": float("nan")})


def test_errors_are_two_lines_on_stderr_and_brackets_stay(capsys):
    console.error("file [red]a[/red].tiff is broken", "mend [it]")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == ["error: file [red]a[/red].tiff is broken", "  → mend [it]"]


def test_a_table_shows_a_dash_for_nothing_and_three_digits_for_figures(capsys):
    console.table("figures", ["name", "value"], [["a", None], ["b", 0.12345]])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].strip() == "figures"
    assert lines[2].split() == ["a", "–"]
    assert lines[3].split() == ["b", "0.123"]


def test_plain_progress_is_seldom_and_always_tells_the_end(capsys, monkeypatch):
    monkeypatch.setenv("CI", "1")
    with console.progress() as report:
        for done in range(1, 101):
            report(Progress("train", done, 100, values={"loss": 0.5, "hidden": 1.0}))
        report(Progress("note", 0, 0, note="note: something"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("train 100/100")
    assert lines[0].endswith("loss 0.5")
    assert lines[1] == "note: something"
    with console.progress(every=True) as report:
        report(Progress("prepare", 1, 2, note="a: 3% missing"))
        report(Progress("prepare", 2, 2, note="b: 4% missing"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "a: 3% missing" in lines[0]


def test_no_color_when_asked(capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console.error("plain")
    assert "\x1b" not in capsys.readouterr().err
