"""Kept in half the precision: the same verdicts within what that gives away, for every method and backbone."""

import pytest
import torch
from textures import SIZE, batch

from uipad_cli.core import memory
from uipad_cli.core.backbone import build_encoder, group_means
from uipad_cli.core.compute import Compute
from uipad_cli.engine.checkpoint import method_class
from uipad_cli.methods import METHODS
from uipad_cli.methods.scorer import runner
from uipad_cli.methods.uipad import UIPADMethod
from uipad_cli.methods.uipad_options import UIPADOptions
from uipad_cli.records import silent

CPU = torch.device("cpu")
BF16 = Compute(CPU, torch.bfloat16)
TRAINING = {"blocks": 2, "training": {"steps": 30, "batch": 4, "warmup_steps": 5}}


def built(name, encoder=None, **options):
    kind = method_class(name)
    chosen = kind.Options.model_validate({**(TRAINING if kind.trains else {"sample": 500}), **options})
    return kind(encoder or build_encoder("tiny", SIZE), chosen, Compute(CPU), seed=0)


@pytest.fixture(scope="module", params=list(METHODS))
def fitted(request):
    method = built(request.param)
    method.fit([batch([0, 1, 2, 3])], silent)
    return request.param, method


def test_bf16_says_nearly_the_same_and_takes_half_the_room(fitted):
    name, whole = fitted
    light = built(name)
    light.restore(whole.state())
    light.lighten(BF16)
    for known in (None, *whole.alone):
        expected, found = (one.score(batch([4, 5], known=known)) for one in (whole, light))
        span = float(expected.map.max() - expected.map.min())
        assert 0 < (expected.map - found.map).abs().mean() < 0.05 * span
        assert torch.allclose(expected.image, found.image, rtol=0.05)
        assert found.map.dtype == torch.float32
        assert set(expected.voices) == set(found.voices)
    weights = [sum(one.nbytes for one in method.encoder.parameters()) for method in (whole, light)]
    assert weights[1] < 0.51 * weights[0]


def test_float32_is_only_moved(fitted):
    name, whole = fitted
    same = built(name)
    same.restore(whole.state())
    same.lighten(Compute(CPU))
    assert torch.equal(whole.score(batch([4])).map, same.score(batch([4])).map)
    assert same.state().keys() == whole.state().keys()


@pytest.mark.parametrize("spread", [1, 5, 50])
def test_more_neighbours_than_the_short_list_has(spread):
    patches = torch.nn.functional.normalize(torch.randn(1500, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    asked = torch.nn.functional.normalize(torch.randn(70, 24, generator=torch.Generator().manual_seed(1)), dim=1)
    expected, places = memory.nearest(asked, patches, spread)
    found, others = memory.Shorthand.of(patches, CPU).nearest(asked, patches, spread)
    assert torch.allclose(expected[:, 0], found[:, 0], atol=1e-5)
    assert torch.allclose(expected, found, atol=0.02)
    assert (places[:, 0] == others[:, 0]).all()


@pytest.mark.parametrize("columns", [40, 64 * 9, 64 * 9 + 17])
def test_the_highest_of_groups_are_the_highest_of_all(columns):
    values = torch.randn(30, columns, generator=torch.Generator().manual_seed(columns))
    expected, found = values.topk(5, dim=1), memory.highest_of(values, 5)
    assert torch.equal(expected.values, found[0])
    assert torch.equal(values.gather(1, found[1]), found[0])


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_dinov2", "vit_small_patch16_18x2_224", "vit_tiny_patch16_224", "gabor"]
)
def test_every_kind_of_backbone_can_be_lightened(name):
    size = 224 if "16" in name else 112
    encoder = build_encoder(name, size)
    for module in encoder.vit.modules():
        if type(module).__name__ == "LayerScale":
            module.gamma.data.uniform_(0.1, 0.5)
    images = torch.rand(2, 3, size, size)
    expected = encoder.group_means(images, 2)
    assert torch.equal(expected, group_means(encoder(images), 2))
    encoder.lighten(torch.float32)  # what is folded changes nothing but rounding
    assert torch.allclose(expected, encoder.group_means(images, 2), atol=1e-3 * float(expected.abs().max()))
    encoder.lighten(torch.bfloat16)
    found = encoder.group_means(images, 2)
    assert found.dtype == torch.float32
    assert (expected - found).abs().mean() < 0.05 * expected.abs().mean()


def test_a_pretended_method_scores_as_one_of_that_size():
    for name in METHODS:
        method = built(name)
        method.pretend(3)
        assert torch.isfinite(method.score(batch([4])).map).all()
    kind = method_class("patchcore")
    method = kind(build_encoder("tiny", SIZE), kind.Options(phases=1, coreset=0.1, sample=0), Compute(CPU), 0)
    method.pretend(3)
    places = 3 * (SIZE // 14) ** 2
    assert [len(bank.patches) for bank in method.banks] == [round(0.1 * places)]


def test_what_nobody_looks_at_is_not_kept_and_older_states_load():
    method = built("uipad")
    method.fit([batch([0, 1, 2, 3])], silent)
    state = method.state()
    assert not any("decoder.1.refine" in name or "decoder.1.guided_norm" in name for name in state)
    older = state | {"network.image_decoder.1.guided_norm.weight": torch.ones(192)}
    again = built("uipad")
    again.restore(older)
    assert torch.equal(again.score(batch([4])).map, method.score(batch([4])).map)
    with pytest.raises(ValueError, match="unexpected"):
        again.restore(state | {"network.else": torch.ones(1)})


def test_a_training_that_an_older_program_stopped_goes_on():
    kept = {}

    def stop(progress):
        if progress.training_state is not None and progress.done == 10:
            kept.update(progress.training_state())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built("uipad").fit([batch([0, 1, 2, 3])], stop)
    kept["network/image_decoder.1.guided_norm.weight"] = torch.ones(192)
    whole, resumed = built("uipad"), built("uipad")
    whole.fit([batch([0, 1, 2, 3])], silent)
    resumed.fit([batch([0, 1, 2, 3])], silent, resume=kept)
    assert all(torch.equal(value, resumed.state()[name]) for name, value in whole.state().items())


def test_scoring_is_recorded_on_cuda_alone():
    method = UIPADMethod(build_encoder("tiny", SIZE), UIPADOptions(), Compute(CPU), 0)
    assert method.run is method.graph()


def test_what_comes_first_and_what_comes_often_is_compiled(monkeypatch):
    scorer = torch.nn.Identity()
    seen = []
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda rgb, *_: seen.append(len(rgb)))
    monkeypatch.setattr(scorer, "forward", lambda *_: None)
    run = runner(scorer, Compute(CPU, compiled=True))
    for size in (7, 8, 8, 3, 8, 7, 8, 3):
        run(torch.zeros(size, 3, 2, 2), torch.zeros(size, 3, 2, 2), None)
    assert seen == [7, 8, 7, 8]
