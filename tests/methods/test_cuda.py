"""The contract on a GPU: trains, scores, and agrees with the CPU within the stated tolerance."""

import pytest
import torch

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.methods.uipad import UIPADMethod
from uipad_cli.methods.uipad_options import UIPADOptions
from uipad_cli.records import Batch, silent

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
SIZE = 112
OPTIONS = UIPADOptions.model_validate({"blocks": 2, "training": {"steps": 60, "batch": 4, "warmup_steps": 10}})


def batch(seed):
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return Batch(images, images.flip(1), torch.ones(4, SIZE, SIZE, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_trains_and_scores(dtype):
    method = UIPADMethod(build_encoder("tiny", SIZE), OPTIONS, Compute(torch.device("cuda"), dtype), seed=0)
    method.fit([batch(0)], silent)
    scores = method.score(batch(1))
    assert scores.map.device.type == "cpu"
    assert torch.isfinite(scores.map).all()
    again = UIPADMethod(build_encoder("tiny", SIZE), OPTIONS, Compute(torch.device("cpu")), seed=1)
    again.restore(method.state())
    assert torch.allclose(again.score(batch(1)).image, scores.image, rtol=1e-3 if dtype == torch.float32 else 0.2)
