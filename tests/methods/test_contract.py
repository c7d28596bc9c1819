"""One contract for every registered method, on small pictures with a planted defect."""

import importlib
from typing import get_args

import pytest
import torch
from textures import SIZE, batch

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.methods import METHODS
from uipad_cli.records import Batch, Voice, silent

QUICK = {
    "uipad": {"blocks": 2, "training": {"steps": 40, "batch": 4, "warmup_steps": 5}, "blur": 2.0},
    "patchcore": {"sample": 500},
    "inp_former": {"blocks": 2, "training": {"epochs": 40, "batch": 4, "warmup_steps": 5}, "blur": 2.0},
}


GOOD = [batch([0, 1]), batch([2, 3])]


def build(name, *, seed=0):
    module, _, attribute = METHODS[name].partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    options = kind.Options.model_validate(QUICK.get(name, {}))
    return kind(build_encoder("tiny", SIZE), options, Compute(torch.device("cpu")), seed)


@pytest.fixture(scope="module", params=list(METHODS))
def fitted(request):
    method = build(request.param)
    method.fit(GOOD, silent)
    return request.param, method


def test_scores_have_the_shape_of_the_batch_and_are_finite(fitted):
    scores = fitted[1].score(GOOD[0])
    assert scores.map.shape == (2, SIZE, SIZE)
    assert scores.image.shape == (2,)
    assert scores.map.dtype == scores.image.dtype == torch.float32
    assert torch.isfinite(scores.map).all()


def test_a_planted_defect_scores_higher_and_in_the_right_place(fitted):
    good = fitted[1].score(batch([7, 8]))
    bad = fitted[1].score(batch([7, 8], planted=True))
    assert (bad.image > good.image).all()
    for found in bad.map:
        row, column = divmod(int(found.argmax()), SIZE)
        assert 63 <= row < 105
        assert 7 <= column < 49


def test_a_pair_scores_the_same_alone_and_in_company(fitted):
    pair = batch([4, 5, 6])
    together = fitted[1].score(pair)
    for place in range(3):
        one = slice(place, place + 1)
        alone = fitted[1].score(Batch(pair.rgb[one], pair.geometry[one], pair.valid[one]))
        assert torch.equal(alone.map[0], together.map[place])
        assert torch.equal(alone.image[0], together.image[place])


def test_voices_are_maps_of_the_tokens_and_do_not_depend_on_company(fitted):
    method, pair = fitted[1], batch([4, 5])
    voices = method.score(pair).voices
    one = Batch(pair.rgb[1:], pair.geometry[1:], pair.valid[1:])
    assert set(voices) <= set(get_args(Voice))
    assert len(voices) != 1  # a lone voice tells nothing
    for voice, said in voices.items():
        assert said.shape == (2, *method.encoder.grid)
        assert torch.isfinite(said).all()
        assert torch.equal(method.score(one).voices[voice][0], said[1])


def test_scoring_twice_gives_the_same(fitted):
    assert torch.equal(fitted[1].score(GOOD[1]).map, fitted[1].score(GOOD[1]).map)


def test_the_same_seed_gives_the_same_method_and_another_does_not(fitted):
    name, method = fitted
    again = build(name)
    torch.manual_seed(99)
    again.fit(GOOD, silent)
    assert torch.equal(again.score(GOOD[0]).map, method.score(GOOD[0]).map)
    if method.state():
        other = build(name, seed=1)
        other.fit(GOOD, silent)
        assert any(not torch.equal(value, other.state()[key]) for key, value in method.state().items())


def test_state_and_restore_give_the_identical_map(fitted):
    name, method = fitted
    copy = build(name, seed=5)
    copy.restore(method.state())
    assert torch.equal(copy.score(GOOD[0]).map, method.score(GOOD[0]).map)


def test_a_state_that_does_not_fit_is_refused(fitted):
    name, method = fitted
    state = method.state()
    state.pop(next(iter(state)))
    with pytest.raises(ValueError, match="missing"):
        build(name).restore(state)


def test_gauges_are_finite(fitted):
    gauges = fitted[1].gauges(GOOD[0])
    assert gauges
    assert all(torch.isfinite(torch.tensor(value)) for value in gauges.values())


def test_an_interrupted_fit_resumes_to_the_same_weights(fitted):
    name, method = fitted
    kept = {}

    def stop_at_step_15(progress):
        if progress.training_state is not None and progress.done == 15:
            kept.update(progress.training_state())
            raise KeyboardInterrupt

    broken = build(name)
    try:
        broken.fit(GOOD, stop_at_step_15)
    except KeyboardInterrupt:
        resumed = build(name)
        resumed.fit(GOOD, silent, resume=kept)
        expected, found = method.state(), resumed.state()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    else:
        assert not kept, "the method reported a training state but could not be stopped"
