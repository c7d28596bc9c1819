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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float16, 0.02), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_light_and_recorded_says_the_same(name, dtype, tolerance):
    kind = method_class(name)
    options = kind.Options.model_validate(TRAINING if kind.trains else {})
    whole = kind(build_encoder("tiny", SIZE), options, Compute(torch.device("cpu")), seed=0)
    whole.fit([batch([0, 1, 2, 3])], silent)
    light = kind(build_encoder("tiny", SIZE), options, Compute(torch.device("cpu")), seed=1)
    light.restore(whole.state())
    light.lighten(Compute(torch.device("cuda"), dtype))
    for seeds in ([4, 5], [6, 7], [8], [9], [10], [11], [4, 5]):  # pairs are recorded at once, the lone when they recur
        expected, found = whole.score(batch(seeds)), light.score(batch(seeds))
        span = float(expected.map.max() - expected.map.min())
        assert (expected.map - found.map).abs().mean() < tolerance * span
        assert torch.allclose(expected.image, found.image, rtol=tolerance)
        assert set(expected.voices) == set(found.voices)
    if dtype == torch.float32:
        assert len(light.run.records) == 2
