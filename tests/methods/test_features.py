import numpy as np
import pytest
import torch
from textures import SIZE, batch

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.engine.checkpoint import method_class
from uipad_cli.methods import METHODS
from uipad_cli.methods.features import Features, encode_all, encoder_key
from uipad_cli.records import silent

CPU = torch.device("cpu")
GOOD = [batch([0, 1]), batch([2])]
TRAINING = {"blocks": 2, "training": {"steps": 8, "batch": 4, "warmup_steps": 2}}


class Reader:
    """Features that are read anew each time, as those on disk."""

    def __init__(self, features):
        self.features = features

    def __getitem__(self, look):
        return self.features[look].copy()


class Memory(dict):
    """A shelf in memory."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def find(self, key):
        self.asked.append(key)
        return self.get(key)

    def keep(self, key, features):
        self[key] = Reader(features)
        return self[key]


def fitted(name, shelf=None, batches=GOOD, encoder=None):
    kind = method_class(name)
    options = kind.Options.model_validate(TRAINING if kind.trains else {"sample": 200})
    method = kind(encoder or build_encoder("tiny", SIZE), options, Compute(CPU), seed=0)
    method.fit(batches, silent, shelf=shelf)
    return method


@pytest.mark.parametrize("name", METHODS)
def test_a_shelf_changes_nothing_and_spares_the_encoder_the_second_time(name, monkeypatch):
    shelf = Memory()
    plain, first = fitted(name), fitted(name, shelf)
    assert len(shelf) == 3
    encoder = build_encoder("tiny", SIZE)
    encoded = []
    group_means = encoder.group_means
    monkeypatch.setattr(encoder, "group_means", lambda *asked: encoded.append(1) or group_means(*asked))
    again = fitted(name, shelf, encoder=encoder)
    spared = len(encoded)
    for method in (first, again):
        assert all(torch.equal(value, method.state()[key]) for key, value in plain.state().items())
    encoded.clear()
    fitted(name, Memory(), encoder=encoder)
    assert spared < len(encoded)


def test_only_what_is_missing_is_encoded():
    shelf, seen = Memory(), []
    encoder = build_encoder("tiny", SIZE)

    def encode(one):
        seen.append(len(one))
        return torch.stack((encoder.group_means(one.rgb, 2), encoder.group_means(one.geometry, 2)), dim=1)

    whole = encode_all(GOOD, encode, encoder, silent, phases=1, kind="x", shelf=shelf)
    assert seen == [2, 1]
    del shelf[shelf.asked[1]]
    seen.clear()
    again = encode_all(GOOD, encode, encoder, silent, phases=1, kind="x", shelf=shelf)
    assert seen == [1]
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    seen.clear()
    encode_all(GOOD, encode, encoder, silent, phases=1, kind="another", shelf=shelf)
    assert seen == [2, 1]


def test_the_key_knows_the_weights_and_the_grid():
    keys = {encoder_key(build_encoder(name, size)) for name in ("tiny", "gabor") for size in (56, 112)}
    assert len(keys) == 4
    assert encoder_key(build_encoder("tiny", 56)) in keys


@pytest.mark.parametrize("kind", [np.array, Reader])
def test_rows_places_and_changes(kind):
    made = np.random.default_rng(0).normal(size=(3, 2, 2, 2, 6, 3)).astype(np.float16)  # three parts, two looks each
    kept = [kind(one) for one in made]
    order = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]
    whole = torch.stack([torch.from_numpy(made[part, look].copy()) for part, look in order]).float()
    features = Features([(kept[part], look) for part, look in order], [part for part, _ in order], CPU)
    assert (len(features), features.shape, features.places) == (5, (2, 2, 6, 3), 30)
    assert torch.equal(features[torch.tensor([3, 0])], whole[[3, 0]])
    drawn = torch.tensor([0, 5, 6, 13, 29])
    expected = torch.stack([whole[place // 6, :, :, place % 6] for place in drawn.tolist()])
    assert torch.equal(features.at(drawn), expected)
    assert torch.equal(features.at(drawn, slice(1, 2)), expected[:, 1:])
    features.change(lambda row: row * 3 - 1)
    assert torch.equal(features[torch.arange(5)], (whole * 3 - 1).half().float())
    assert torch.equal(torch.cat(list(features)), (whole * 3 - 1).half().float())
