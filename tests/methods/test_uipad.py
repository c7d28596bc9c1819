from pathlib import Path

import pytest
import torch
import yaml

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.methods.base import CollapseError
from uipad_cli.methods.uipad import CollapseWatch, UIPADMethod, UIPADOptions
from uipad_cli.records import Batch, silent

SIZE = 112
HEALTHY = {"fused_spread": 1.0, "effective_prototypes": 5.0, "prototype_cosine": 0.1}


def batch(seeds):
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    waves = 0.5 + 0.2 * torch.sin(rows / 4) + 0.2 * torch.cos(columns / 5)
    noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    rgb = (waves + 0.02 * noise).clamp(0, 1)
    return Batch(rgb, rgb.flip(1), torch.ones(len(seeds), SIZE, SIZE, dtype=torch.bool))


def fit(options, *, dtype=torch.float32, report=silent, epochs=200):
    quick = {"blocks": 2, "training": {"epochs": epochs, "batch": 4, "warmup_steps": 20}}
    merged = UIPADOptions.model_validate({**options, **quick})
    method = UIPADMethod(build_encoder("tiny", SIZE), merged, Compute(torch.device("cpu"), dtype), seed=0)
    method.fit([batch([0, 1]), batch([2, 3])], report)
    return method


def test_the_printed_text_collapses_and_the_gauges_say_so():
    path = Path(__file__).parents[2] / "configs" / "ablations" / "literal.yaml"
    literal = yaml.safe_load(path.read_text())["options"]
    losses = []
    with pytest.raises(CollapseError, match=r"effective_prototypes|fused_spread") as caught:
        fit(literal, report=lambda step: losses.append(step.values.get("reconstruction")))
    assert losses[-1] < 0.01  # the loss looks perfect, which is the trap
    assert "coherence_weight" in caught.value.cure


def test_the_default_stays_healthy_and_sees_a_foreign_patch():
    gauges = fit({}).gauges(batch([4, 5]))
    assert gauges["effective_prototypes"] > 3
    assert gauges["prototype_cosine"] < 0.9
    assert gauges["fused_spread"] == pytest.approx(1, abs=1e-4)
    assert gauges["foreign_patch_ratio"] > 5


def test_every_loss_is_logged_every_step():
    seen = []
    fit({}, report=lambda step: seen.append(dict(step.values)) if step.task == "train" else None)
    assert len(seen) == 200
    wanted = {"loss", "reconstruction", "coherence", "consistency", "entropy", "effective_prototypes"}
    assert wanted <= set(seen[0])
    assert seen[-1]["reconstruction"] < 0.2 * seen[0]["reconstruction"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_and_scores(dtype):
    sample = batch([4])
    method = fit({}, dtype=dtype, epochs=40)
    full = fit({}, epochs=40)
    assert all(value.dtype == torch.float32 for value in method.state().values())
    assert torch.isfinite(method.score(sample).map).all()
    assert float(method.score(sample).image) == pytest.approx(float(full.score(sample).image), rel=0.5)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"fused_spread": 0.01}, "fused_spread"),
        ({"effective_prototypes": 1.0}, "one prototype"),
        ({"prototype_cosine": 0.999}, "one point"),
    ],
)
def test_the_watch_waits_and_then_names_the_gauge(values, told):
    watch = CollapseWatch(12, patience=3)
    for step in range(2):
        watch.look(HEALTHY | values, step)
    watch.look(HEALTHY, 2)
    for step in range(2):
        watch.look(HEALTHY | values, step)
    with pytest.raises(CollapseError, match=told):
        watch.look(HEALTHY | values, 3)


def test_a_single_prototype_is_no_collapse():
    watch = CollapseWatch(1, patience=1)
    watch.look(HEALTHY | {"effective_prototypes": 1.0}, 1)
