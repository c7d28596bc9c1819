"""The contract on a GPU: trains, scores, and agrees with the CPU within the stated tolerance."""

import pytest
import torch
from textures import SIZE, batch

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.engine.checkpoint import method_class
from uipad_cli.methods import METHODS
from uipad_cli.records import silent

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
TRAINING = {"blocks": 2, "training": {"steps": 60, "batch": 4, "warmup_steps": 10}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", METHODS)
def test_trains_and_scores(name, dtype):
    kind = method_class(name)
    options = kind.Options.model_validate(TRAINING if kind.trains else {})
    method = kind(build_encoder("tiny", SIZE), options, Compute(torch.device("cuda"), dtype), seed=0)
    method.fit([batch([0, 1, 2, 3])], silent)
    again = kind(build_encoder("tiny", SIZE), options, Compute(torch.device("cpu")), seed=1)
    again.restore(method.state())
    for known in (None, *method.alone):
        scores = method.score(batch([4, 5], known=known))
        assert scores.map.device.type == "cpu"
        assert torch.isfinite(scores.map).all()
        expected = again.score(batch([4, 5], known=known)).image
        assert torch.allclose(expected, scores.image, rtol=1e-3 if dtype == torch.float32 else 0.2)
