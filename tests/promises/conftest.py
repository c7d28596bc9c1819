"""What several promises are tested on."""

import os
import signal

import pytest
from program import SMALL

from uipad_cli import config
from uipad_cli.engine.train import train


@pytest.fixture(scope="session")
def stopped(world, tmp_path_factory):
    """A training that was stopped at its third step; to be copied before it is changed."""
    out = tmp_path_factory.mktemp("stopped") / "run"

    def stop(progress):
        if progress.training_state is not None and progress.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(world.prepared, out, category="pegs", configuration=config.merge([], SMALL), report=stop)
    assert (out / "training.safetensors").is_file()
    return out
