import signal

import pytest
import torch

from uipad_cli.core.compute import Compute
from uipad_cli.engine import runtime
from uipad_cli.errors import ResourceError, Terminated, UsageError


def test_scores_are_float32_and_training_takes_what_the_hardware_has(monkeypatch):
    for fast, trained in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(runtime, "has_bf16", lambda device, fast=fast: fast)
        assert runtime.choose_compute("cpu", "auto", "score").dtype == torch.float32
        assert runtime.choose_compute("cpu", "auto", "train").dtype == trained


@pytest.mark.parametrize("purpose", ["train", "score"])
def test_an_explicit_precision_is_obeyed(purpose):
    assert runtime.choose_compute("cpu", "bf16", purpose) == Compute(torch.device("cpu"), torch.bfloat16)


@pytest.mark.parametrize(
    ("device", "precision", "error"),
    [
        ("tpu", "auto", UsageError),
        ("xpu", "auto", UsageError),
        ("cpu", "int4", UsageError),
        ("cuda:77", "auto", ResourceError),
    ],
)
def test_what_is_not_there_is_named(device, precision, error):
    with pytest.raises(error, match=device if device != "cpu" else precision):
        runtime.choose_compute(device, precision, "score")


def test_a_signal_is_obeyed_only_where_the_work_allows_it():
    before = signal.getsignal(signal.SIGTERM)
    with runtime.StopRequest() as stop:
        stop.obey()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated):
            stop.obey()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_is_taken_where_there_is_one():
    assert runtime.choose_compute("auto", "auto", "train").device.type == "cuda"
