"""The completion files are what the program itself would print, and they complete."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "completions"
FILES = {"bash": "uipad.bash", "zsh": "_uipad", "fish": "uipad.fish"}


def program(**environment):
    code = "import sys; from uipad_cli.cli import main; sys.exit(main([]))"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    ).stdout


@pytest.mark.parametrize("shell", FILES)
def test_the_files_are_current(shell):
    assert (FOLDER / FILES[shell]).read_text() == program(_UIPAD_COMPLETE=f"source_{shell}")


@pytest.mark.parametrize(("words", "expected"), [("uipad tr", "train"), ("uipad infer --exi", "--exit-code")])
def test_a_command_and_an_option_are_completed(words, expected):
    place = str(len(words.split()) - 1)
    completed = program(_UIPAD_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place)
    assert expected in completed.split()
