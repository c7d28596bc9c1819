"""The log of verdicts: one writer, whole lines only, and what it knows after a restart."""

import os

import pytest

from uipad_cli.engine.verdict_log import open_log
from uipad_cli.errors import ResourceError


def test_two_may_not_write_one_log(tmp_path):
    refused = pytest.raises(ResourceError, match=r"verdicts\.jsonl: another uipad")
    with open_log(tmp_path / "out", print), refused, open_log(tmp_path / "out", print):
        pass
    with open_log(tmp_path / "out", print) as log:
        log.append({"key": "a"})
    with open_log(tmp_path / "out", print) as log:
        assert ("a" in log, "b" in log, len(log)) == (True, False, 1)


def test_names_of_files_are_known_after_a_restart(tmp_path):
    with open_log(tmp_path, print) as log:
        log.append({"key": "a", "name": "0"})
        log.append({"key": "0", "verdict": "error"})
        assert (log.has_files("0"), log.has_files("a")) == (True, False)
    with open_log(tmp_path, print) as log:
        assert (log.has_files("0"), log.has_files("a"), len(log)) == (True, False, 2)


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with open_log(tmp_path, print) as log:
        log.append({"key": "a"})
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            log.append({"key": "b"})
        assert "b" not in log
    assert (tmp_path / "verdicts.jsonl").read_text() == '{"key": "a"}\n'


def test_a_log_of_something_else_is_left_as_it_is(tmp_path):
    (tmp_path / "verdicts.jsonl").write_text('[1]\n\nx\n{"score": 1}\n{"key": 3}\n{"key": "a"}\n')
    with open_log(tmp_path, print) as log:
        assert len(log) == 1
    assert (tmp_path / "verdicts.jsonl").read_text().endswith('{"key": "a"}\n')
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"), open_log(tmp_path / "file", print):
        pass


def test_a_file_that_is_no_log_is_not_emptied(tmp_path):
    (tmp_path / "verdicts.jsonl").write_text("part;verdict")
    with pytest.raises(ResourceError, match=r"verdicts\.jsonl: not a log of verdicts"), open_log(tmp_path, print):
        pass
    assert (tmp_path / "verdicts.jsonl").read_text() == "part;verdict"
