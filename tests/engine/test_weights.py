import pickle
import socket
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from uipad_cli.core import backbone
from uipad_cli.data.framing import Framing
from uipad_cli.engine import weights
from uipad_cli.errors import UsageError, WeightsError

SIZE = 56


@pytest.fixture
def state():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return {key: torch.rand_like(value) for key, value in backbone.new_tiny(SIZE).state_dict().items()}


def test_a_safetensors_and_a_pth_file_give_the_same_encoder(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    torch.save({"model": state}, tmp_path / "a.pth")
    loaded = [weights.load_encoder("tiny", tmp_path / name, SIZE) for name in ("a.safetensors", "a.pth")]
    for one in loaded:
        assert one.source.startswith("file sha256:")
        assert torch.equal(one.encoder.vit.blocks[2].mlp.fc1.weight, state["blocks.2.mlp.fc1.weight"])


def test_without_a_file_tiny_takes_the_weights_in_the_package():
    loaded = weights.load_encoder("tiny", None, SIZE)
    assert loaded.source == f"embedded sha256:{weights.check_embedded()['sha256']}"
    inside = safetensors.torch.load_file(weights.EMBEDDED)
    assert torch.equal(loaded.encoder.vit.blocks[2].mlp.fc1.weight, inside["blocks.2.mlp.fc1.weight"].float())


def test_the_weights_in_the_package_are_small():
    inside = safetensors.torch.load_file(weights.EMBEDDED)
    assert sum(value.numel() for value in inside.values()) <= 6_000_000
    assert weights.EMBEDDED.stat().st_size <= 12 * 2**20
    assert {value.dtype for value in inside.values()} == {torch.float16}


def test_damaged_weights_in_the_package_are_refused(tmp_path, monkeypatch):
    for place in (weights.EMBEDDED, weights.EMBEDDED_CARD):
        (tmp_path / place.name).write_bytes(place.read_bytes())
    with (tmp_path / "tiny.safetensors").open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"oops")
    monkeypatch.setattr(weights, "EMBEDDED", tmp_path / "tiny.safetensors")
    monkeypatch.setattr(weights, "EMBEDDED_CARD", tmp_path / "tiny.json")
    with pytest.raises(WeightsError, match="damaged") as caught:
        weights.load_encoder("tiny", None, SIZE)
    assert caught.value.exit_code == 4
    (tmp_path / "tiny.json").unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load_encoder("tiny", None, SIZE)


@pytest.mark.parametrize(("name", "source"), [("gabor", "hand-made"), ("tiny-random", "fixed seed, untrained")])
def test_what_takes_no_weights(tmp_path, name, source):
    loaded = weights.load_encoder(name, None, SIZE)
    assert loaded.source == source
    with pytest.raises(UsageError, match=f"{name} takes no weights"):
        weights.load_encoder(name, tmp_path / "a.safetensors", SIZE)


def test_tiny_random_is_tiny_as_it_begins():
    control = weights.load_encoder("tiny-random", None, SIZE).encoder
    begun = backbone.build_encoder("tiny", SIZE)
    assert all(torch.equal(value, control.state_dict()[key]) for key, value in begun.state_dict().items())


@pytest.mark.parametrize("key", ["blocks.0.norm.weight", "blocks.2.near.conv.weight", "patch_embed.proj.bias"])
def test_a_missing_key_is_named(tmp_path, state, key):
    del state[key]
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError) as caught:
        weights.load_encoder("tiny", tmp_path / "a.safetensors", SIZE)
    assert f"missing: {key}" in caught.value.message
    assert caught.value.exit_code == 4


def test_weights_that_are_not_finite_are_refused(tmp_path, state):
    state["blocks.1.mlp.fc1.bias"][3] = float("nan")
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"blocks\.1\.mlp\.fc1\.bias holds NaN"):
        weights.load_encoder("tiny", tmp_path / "a.safetensors", SIZE)


class Gadget:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_with_a_payload_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "ran"
    torch.save({"model": Gadget(str(trace))}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="nothing of it was run"):
        weights.load_encoder("tiny", tmp_path / "evil.pth", SIZE)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.safetensors", b"not tensors"), ("a.pth", b"not a zip"), ("b.safetensors", b""), ("c.pth", b"")],
)
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        weights.load_encoder("tiny", tmp_path / name, SIZE)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"a": 1},
        {1: torch.zeros(2)},
        {"a": torch.zeros(2, 2).to_sparse()},
        {"a": torch.zeros(2, dtype=torch.cfloat)},
    ],
)
def test_other_things_than_tensors_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="other than named tensors"):
        weights.read_weights(tmp_path / "a.pth")


def test_more_numbers_than_a_file_has_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").stat().st_size < 10_000
    with pytest.raises(WeightsError, match="more numbers than it has"):
        weights.read_weights(tmp_path / "a.pth")


def test_tensors_that_share_their_numbers_are_read(tmp_path):
    kept = torch.arange(100_000.0).reshape(100, 1000)
    torch.save({"a": kept, "b": kept[:50], "c": kept.T[:400]}, tmp_path / "a.pth")
    found = weights.read_weights(tmp_path / "a.pth")
    assert torch.equal(found["a"], kept)
    assert torch.equal(found["b"], kept[:50])
    assert torch.equal(found["c"], kept.T[:400])


def test_numbers_that_no_backbone_has_are_refused(tmp_path, state):
    state["blocks.1.mlp.fc1.bias"] = state["blocks.1.mlp.fc1.bias"].to(torch.float8_e4m3fn)
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="float8"):
        weights.load_encoder("tiny", tmp_path / "a.safetensors", SIZE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.pth: no such"):
        weights.load_encoder("tiny", tmp_path / "gone.pth", SIZE)


def test_offline_without_weights_names_both_ways_out(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(weights, "cached_weights", lambda repository: None)
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(WeightsError) as caught:
        weights.load_encoder("dinov2-small", None, SIZE)
    assert "vit_small_patch14_dinov2" in caught.value.message
    assert "--weights FILE" in caught.value.cure
    assert "connect to the network" in caught.value.cure


def test_a_download_that_fails_is_a_clear_error(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("503 Service Unavailable\nlong trace")

    monkeypatch.setattr(weights, "cached_weights", lambda repository: None)
    monkeypatch.setattr(weights, "hub_answers", lambda: True)
    monkeypatch.setattr(weights.huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match="503 Service Unavailable") as caught:
        weights.load_encoder("dinov2-small", None, SIZE)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("there", [True, False])
def test_of_a_hub_only_safetensors_are_taken(tmp_path, monkeypatch, there):
    asked = []

    def download(repository, name):
        asked.append(name)
        (tmp_path / name).write_bytes(pickle.dumps(Gadget(str(tmp_path / "ran"))))
        return str(tmp_path / name)

    monkeypatch.setattr(weights, "hub_answers", lambda: True)
    monkeypatch.setattr(weights.huggingface_hub, "hf_hub_download", download)
    cached = Path(download("", "model.safetensors")) if there else None
    monkeypatch.setattr(weights, "cached_weights", lambda repository: cached)
    with pytest.raises(WeightsError, match="did not come"):
        weights.load_encoder("dinov2-small", None, SIZE)
    assert asked == ["model.safetensors"]
    assert not (tmp_path / "ran").exists()


def test_hub_weights_that_are_on_this_machine_need_no_network(tmp_path, monkeypatch):
    source = timm.create_model("vit_small_patch14_dinov2", img_size=SIZE)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(weights, "cached_weights", lambda repository: tmp_path / "model.safetensors")
    monkeypatch.setattr(weights, "hub_answers", lambda: pytest.fail("the network was asked"))
    loaded = weights.load_encoder("dinov2-small", None, SIZE)
    assert loaded.source == "hub timm/vit_small_patch14_dinov2.lvd142m"
    assert torch.equal(loaded.encoder.vit.blocks[5].mlp.fc1.weight, source.blocks[5].mlp.fc1.weight)


def test_an_unknown_backbone_names_near_ones():
    with pytest.raises(UsageError) as caught:
        weights.load_encoder("dinov2-bse", None, SIZE)
    assert "dinov2-base" in caught.value.cure


@pytest.mark.parametrize(("backbone_name", "crop"), [("tiny", 392), ("gabor", 392), ("vit_tiny_patch16_224", 384)])
def test_the_crop_is_whole_patches(backbone_name, crop):
    assert weights.fit_framing(Framing(), backbone_name) == Framing(crop=crop)
