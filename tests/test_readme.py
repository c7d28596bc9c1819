"""The README's commands are the program's, and the CI runs the README's own test command."""

import re
from pathlib import Path

import typer

from uipad_cli.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_command_and_option_exists():
    commands = typer.main.get_command(app).commands
    used = re.findall(r"(?:^|/|`)uipad ([a-z]+)([^`#\n|]*)", README, flags=re.MULTILINE)
    assert {name for name, _ in used} == set(commands)
    for name, rest in used:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            assert option in known, f"uipad {name} {option}"


def test_the_ci_runs_the_test_command_of_the_readme():
    assert re.search(r"^python3 -m venv \.venv && .*pytest$", README, flags=re.MULTILINE)
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_linked_page_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).is_file(), link


def test_every_table_of_the_docs_has_its_lines():
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for line in page.read_text().splitlines():
            if re.search(r"\|---|\| \|", line):
                assert line.startswith("|"), f"{page.name}: {line}"
                assert line.endswith("|"), f"{page.name}: {line}"
                assert "|---" not in line or set(line) <= set("|-:"), f"{page.name}: {line}"
