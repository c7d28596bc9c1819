"""Every configuration in the repository is understood by the program, and says the command that uses it."""

from pathlib import Path

import pytest

from uipad_cli import config
from uipad_cli.engine.checkpoint import method_class
from uipad_cli.engine.record import RunConfig
from uipad_cli.methods import METHODS

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_names_its_command(path):
    merged = config.merge([path], [])
    run = config.build(RunConfig, merged)
    config.build(method_class(run.method).Options, merged, "options")
    assert "# Command: uipad" in path.read_text()


@pytest.mark.parametrize("method", METHODS)
def test_the_printed_defaults_are_the_defaults(method):
    merged = config.merge([CONFIGS / "methods" / f"{method}.yaml"], [])
    options = method_class(method).Options
    assert config.build(options, merged, "options") == options()
    written = merged.values["options"]
    assert list(written) == list(options.model_fields)
    if "training" in written:
        assert list(written["training"]) == list(type(options().training).model_fields)
    run = config.build(RunConfig, merged)
    assert run.model_copy(update={"options": {}}) == RunConfig(method=method)
