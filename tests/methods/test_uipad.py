from pathlib import Path

import pytest
import torch
import yaml

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.methods.base import CollapseError
from uipad_cli.methods.collapse import CollapseWatch
from uipad_cli.methods.uipad import UIPADMethod
from uipad_cli.methods.uipad_options import UIPADOptions
from uipad_cli.records import Batch, Progress, silent

SIZE = 112
HEALTHY = {"fused_spread": 1.0, "effective_prototypes": 5.0, "prototype_cosine": 0.1}


def batch(seeds):
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    waves = 0.5 + 0.2 * torch.sin(rows / 4) + 0.2 * torch.cos(columns / 5)
    noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    rgb = (waves + 0.02 * noise).clamp(0, 1)
    return Batch(rgb, rgb.flip(1), torch.ones(len(seeds), SIZE, SIZE, dtype=torch.bool))


def told_at(step, values):
    return Progress("train", step, 100, values=values)


def fit(options, *, dtype=torch.float32, report=silent, steps=200):
    quick = {"blocks": 2, "training": {"steps": steps, "batch": 4, "warmup_steps": 20}}
    return fit_exactly({**options, **quick}, dtype, report)


def fit_exactly(options, dtype, report):
    merged = UIPADOptions.model_validate(options)
    method = UIPADMethod(build_encoder("tiny", SIZE), merged, Compute(torch.device("cpu"), dtype), seed=0)
    method.fit([batch([0, 1]), batch([2, 3])], report)
    return method


def test_the_printed_text_collapses_and_the_gauges_say_so():
    path = Path(__file__).parents[2] / "configs" / "ablations" / "literal.yaml"
    literal = yaml.safe_load(path.read_text())["options"]
    losses = []
    with pytest.raises(CollapseError, match=r"effective_prototypes|fused_spread") as caught:
        fit_exactly(literal, torch.float32, lambda step: losses.append(step.values.get("reconstruction")))
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
    assert seen[-1]["reconstruction"] < 0.6 * seen[0]["reconstruction"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_and_scores(dtype):
    sample = batch([4])
    method = fit({}, dtype=dtype, steps=40)
    full = fit({}, steps=40)
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
    heard = []
    watch = CollapseWatch(12, 100, heard.append, patience=3)
    for step in range(2):
        watch.look(told_at(step, HEALTHY | values))
    watch.look(told_at(2, HEALTHY))
    for step in range(2):
        watch.look(told_at(step, HEALTHY | values))
    with pytest.raises(CollapseError, match=told):
        watch.look(told_at(3, HEALTHY | values))
    assert len(heard) == 6


def test_a_single_prototype_is_no_collapse():
    watch = CollapseWatch(1, 100, silent, patience=1)
    watch.look(told_at(1, HEALTHY | {"effective_prototypes": 1.0}))


def other(image, seed):
    return image.roll(11, dims=-1) + 0.3 * torch.rand(image.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("known", ["rgb", "geometry"])
def test_a_missing_modality_is_not_looked_at(known):
    method = fit({}, steps=40)
    pair = batch([4])
    blank = {"rgb": pair.rgb, "geometry": pair.geometry} | {
        name: torch.zeros_like(pair.rgb) for name in ("rgb", "geometry") if name != known
    }
    alone = method.score(Batch(pair.rgb, pair.geometry, pair.valid, known))
    without = method.score(Batch(blank["rgb"], blank["geometry"], pair.valid, known))
    assert torch.equal(alone.map, without.map)
    spoiled = {**blank, known: other(blank[known], 1)}
    worse = method.score(Batch(spoiled["rgb"], spoiled["geometry"], pair.valid, known))
    assert (worse.image > 1.2 * alone.image).all()


def test_the_parts_learned_from_score_about_one_and_others_not_far_above():
    method = fit({})
    assert 0.8 < float(method.score(batch([0, 1])).map.mean()) < 1.3
    assert 1 < float(method.score(batch([4, 5])).map.mean()) < 3


def test_a_memory_tells_a_patch_that_no_good_part_has_in_either_image():
    with_memory, without = fit({"memory": 200, "dropout": 0.0}, steps=30), fit({"memory": 0, "dropout": 0.0}, steps=30)
    assert all(100 < len(one.bank) <= 200 for one in with_memory.memories.values())
    assert not without.memories
    pair = batch([4])
    for other_image in ("rgb", "geometry"):
        images = {"rgb": pair.rgb.clone(), "geometry": pair.geometry.clone()}
        images[other_image][:, :, 42:70, 42:70] = other(pair.rgb, 3)[:, :, 42:70, 42:70]
        strange = Batch(images["rgb"], images["geometry"], pair.valid)
        rise = [
            float((one.score(strange).map - one.score(pair).map)[0, 49:63, 49:63].mean())
            for one in (with_memory, without)
        ]
        assert rise[0] > 0.5
        assert rise[0] != rise[1]


def test_a_state_with_another_number_of_patches_is_taken_over():
    small = fit({"memory": 100}, steps=2)
    large = fit({"memory": 150}, steps=2)
    large.restore(small.state())
    assert torch.equal(large.score(batch([4])).map, small.score(batch([4])).map)
    with pytest.raises(ValueError, match="memories"):
        large.restore({name: value for name, value in small.state().items() if "bank" not in name})


@pytest.mark.parametrize(
    "reading",
    [
        {"query": "own"},
        {"query": "own", "target": "fused"},
        {"query": "own", "target": "prototypes", "features": "plain", "distance": "cosine"},
        {"features": "centred", "distance": "cosine"},
        {"features": "plain", "distance": "cosine"},
        {"fusion": "mlp"},
        {"attention": "relu", "residual": False, "refine": "none"},
        {"refine": "private"},
        {"comparison": "single"},
        {"comparison": "single", "score": "cosine", "features": "plain", "distance": "cosine"},
        {"score": "whitened"},
        {"score": "cosine", "features": "plain", "distance": "cosine"},
        {"assignment": "straight", "consistency_weight": 1.0},
        {"assignment": "balanced"},
        {"score": "prototypes", "features": "centred", "distance": "cosine"},
        {"gather": False, "coherence_weight": 0.0},
        {"dropout": 0.0, "phases": 1},
        {"memory": 0},
    ],
    ids=lambda reading: "-".join(f"{key}={value}" for key, value in reading.items()),
)
def test_every_reading_trains_and_scores_a_strange_part_higher(reading):
    method = fit(reading, steps=30)
    pair = batch([4])
    strange = Batch(other(pair.rgb, 1), other(pair.geometry, 2), pair.valid)
    assert float(method.score(strange).image) > float(method.score(pair).image)
    assert torch.equal(method.score(batch([5, 4, 6])).map[1], method.score(pair).map[0])
