"""The completion files are what the program itself would print, and they complete: asked alone, and in each shell."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "completions"
FILES = {"bash": "uipad.bash", "zsh": "_uipad", "fish": "uipad.fish"}
# zsh runs a file of its fpath at the first TAB, and reads what it is for from the first line: without these, that
# TAB is lost, and with an empty line on top, as the program prints it, the file is never found
AT_FIRST_TAB = '\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n  _uipad_completion "$@"\nfi\n'
CASES = [("uipad tr", "uipad train"), ("uipad infer --exi", "uipad infer --exit-code")]
BIN = Path(sys.executable).parent  # where pip puts the program
PATH = f"{BIN}{os.pathsep}{os.environ['PATH']}"
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], f"source {FOLDER}/uipad.bash"),
    "zsh": (["zsh", "-f", "-i"], f"autoload -Uz compinit; compinit -u -D; source {FOLDER}/_uipad"),
    "zsh, by its fpath": (["zsh", "-f", "-i"], f"fpath=({FOLDER} $fpath); autoload -Uz compinit; compinit -u -D"),
}


def program(code="sys.exit(main([]))", **environment):
    code = f"import sys; from uipad_cli.cli import main; {code}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    ).stdout


def need(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here: apt-get install {shell}")
    if not (BIN / "uipad").is_file():
        pytest.skip(f"no uipad in {BIN}: pip install -e .")


def tell(command, setup, keys, wanted, home):
    """Start a shell on a terminal, type keys once it is set up, and wait for what it should say then."""
    terminal, its_end = pty.openpty()
    environment = {"HOME": str(home), "TERM": "xterm", "PATH": PATH, "PS1": "> "}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), its_end)
    with subprocess.Popen(command, **pipes, env=environment, start_new_session=True) as shell:
        os.close(its_end)
        try:
            os.write(terminal, f"{setup}; echo rea''dy\n".encode())
            wait_for(terminal, b"ready")
            os.write(terminal, keys.encode())
            wait_for(terminal, wanted.encode())
        finally:
            shell.kill()
            os.close(terminal)


def wait_for(terminal, wanted, seconds=30):
    heard, end = b"", time.monotonic() + seconds
    while wanted not in heard and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            heard += os.read(terminal, 65536)
    assert wanted in heard


@pytest.mark.parametrize("shell", FILES)
def test_the_files_are_current(shell):
    printed = program(_UIPAD_COMPLETE=f"source_{shell}")
    expected = printed.strip("\n") + "\n" + AT_FIRST_TAB if shell == "zsh" else printed
    assert (FOLDER / FILES[shell]).read_text() == expected


@pytest.mark.parametrize(("words", "completed"), CASES)
def test_a_command_and_an_option_are_completed(words, completed):
    place = str(len(words.split()) - 1)
    told = program(_UIPAD_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place)
    assert completed.split()[-1] in told.split()


def test_completion_loads_nothing_heavy():
    heavy = ("torch", "timm", "cv2", "open3d", "numpy", "torchvision")
    code = f"code = main([]); print('LOADED', code, [name for name in {heavy!r} if name in sys.modules])"
    told = program(code, _UIPAD_COMPLETE="complete_bash", COMP_WORDS="uipad infer --exi", COMP_CWORD="2")
    assert told.split("\n")[:2] == ["--exit-code", "LOADED 0 []"]


@pytest.mark.parametrize(("words", "completed"), CASES)
@pytest.mark.parametrize("shell", START)
def test_a_tab_completes_on_a_terminal(shell, words, completed, tmp_path):
    command, setup = START[shell]
    need(command[0])
    # TAB, then at the start of the line (Ctrl-A) the order to print it
    tell(command, setup, f"{words}\t:end\x01echo ma''de: \n", f"made: {completed} :end", tmp_path)


@pytest.mark.parametrize(("words", "completed"), CASES)
def test_fish_completes(words, completed):
    need("fish")
    code = f"source {FOLDER}/uipad.fish; complete -C '{words}'"
    environment = {**os.environ, "PATH": PATH}
    told = subprocess.run(
        ["fish", "--no-config", "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert [line.split("\t")[0] for line in told.stdout.splitlines()] == [completed.split()[-1]]
