"""The rooms, who may import whom, and the sizes that keep files readable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from uipad_cli.methods import METHODS

PACKAGE = Path(__file__).parents[1] / "uipad_cli"
FILES = sorted(PACKAGE.rglob("*.py"))

# room → the rooms it may import; its own room is always allowed
ALLOWED = {
    "errors": set(),
    "records": set(),
    "render": set(),
    "core": set(),
    "metrics": set(),
    "console": {"errors", "records"},
    "config": {"errors"},
    "data": {"errors", "records"},
    "methods": {"errors", "records", "core"},
    "report": {"errors", "records", "render"},
    "engine": {"errors", "records", "render", "core", "metrics", "console", "config", "data", "methods", "report"},
    "options": set(),
    "cli": {"errors", "console", "config", "options", "methods", "data", "cli_study"},
    "cli_study": {"errors", "console", "config", "options"},
    "__main__": {"cli"},
    "__init__": set(),
}
NOT_METHODS = (
    "base",
    "collapse",
    "descent",
    "features",
    "parts",
    "scorer",
    "uipad_options",
    "uipad_scorer",
    "uipad_views",
)
HEAVY = ("torch", "timm", "cv2", "open3d", "numpy", "torchvision")


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "uipad_cli":
            parts = node.module.split(".")[1:]
            names = [parts[0]] if parts else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("uipad_cli.")]
        found += [name for name in names if name != "__version__"]
    return set(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path):
    here = room(path)
    allowed = ALLOWED[here] | {here}
    if here in ("cli", "cli_study"):  # engine only inside functions
        inside = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
            for name in [sub.module for sub in ast.walk(node) if isinstance(sub, ast.ImportFrom)]
        }
        assert "uipad_cli.engine" in inside
        top = {
            node.module for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom) and node.module
        }
        assert not any(module.startswith("uipad_cli.engine") for module in top)
        allowed = allowed | {"engine"}
    assert imported_rooms(path) <= allowed


def test_one_method_never_imports_another():
    for path in (PACKAGE / "methods").glob("*.py"):
        if path.stem not in ("__init__", *NOT_METHODS):
            modules = [
                node.module
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("uipad_cli.methods")
            ]
            assert set(modules) <= {f"uipad_cli.methods.{name}" for name in NOT_METHODS}
    registered = {target.partition(":")[0].rpartition(".")[2] for target in METHODS.values()}
    assert registered.isdisjoint(NOT_METHODS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 300
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name}"
    assert path.stem not in ("utils", "helpers", "common", "misc")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_console_prints_and_nobody_runs_foreign_code(path):
    text = path.read_text()
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert room(path) == "console" or "print" not in names
    assert not names & {"eval", "exec"}
    for forbidden in ("weights_only=False", "allow_pickle=True", "import click", "pickle.load", "tifffile.imread"):
        assert forbidden not in text


def fresh(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    loaded = fresh(
        f"import sys; from uipad_cli.cli import main; code = main({arguments!r});"
        f"print('LOADED', code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert "LOADED 0 []" in loaded


def test_importing_the_package_loads_nothing():
    assert (
        fresh("import sys, uipad_cli; print([name for name in ('typer', 'rich', 'torch') if name in sys.modules])")
        == "[]\n"
    )


def test_the_road_of_the_demo_is_free_of_open3d():
    loaded = fresh(
        "import sys; import uipad_cli.engine.demo, uipad_cli.engine.infer, uipad_cli.engine.prepare;"
        "print('open3d' in sys.modules)"
    )
    assert loaded == "False\n"


def test_an_exported_model_is_judged_without_torch():
    absent = ("torch", "timm", "torchvision", "safetensors", "huggingface_hub")
    loaded = fresh(
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import uipad_cli.engine.infer, "
        "uipad_cli.engine.watch; print('fine')"
    )
    assert loaded == "fine\n"
