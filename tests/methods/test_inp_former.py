import pytest
import torch

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.core.model import initialise
from uipad_cli.methods.inp_former import (
    INPFormerMethod,
    INPFormerOptions,
    PrototypeBlock,
    coherence_loss,
    rebuilding_loss,
)
from uipad_cli.records import Batch, silent

SIZE, WIDTH = 112, 64


def batch(seed, count=2):
    generator = torch.Generator().manual_seed(seed)
    rgb, geometry = torch.rand(2, count, 3, SIZE, SIZE, generator=generator)
    return Batch(rgb, geometry, torch.ones(count, SIZE, SIZE, dtype=torch.bool))


def method(seed=0, dtype=torch.float32, **options):
    quick = {"blocks": 2, "training": {"epochs": 20, "batch": 4, "warmup_steps": 5}}
    merged = INPFormerOptions.model_validate({**quick, **options})
    return INPFormerMethod(build_encoder("tiny", SIZE), merged, Compute(torch.device("cpu"), dtype), seed)


@pytest.fixture
def block():
    """A decoder block whose queries are the tokens themselves, and whose keys are the prototypes themselves."""
    torch.manual_seed(0)
    made = PrototypeBlock(WIDTH, heads=1)
    made.apply(initialise)
    with torch.no_grad():
        made.attention.query.weight.copy_(torch.eye(WIDTH))
        made.attention.key_value.weight[:WIDTH] = torch.eye(WIDTH)
        made.attention.key_value.bias.normal_()
        made.attention.key_value.bias[:WIDTH] = 0
        made.attention.project.bias.normal_()
    return made


def patterns(*rows):
    """Tokens [1,n,D] of mean 0 and deviation 1: square waves, orthogonal where their halving differs."""
    places = torch.arange(WIDTH)
    return torch.stack([1.0 - 2.0 * (places // 2**row % 2) for row in rows])[None]


@torch.no_grad()
def test_a_token_that_no_prototype_resembles_leaves_nothing_of_itself(block):
    prototypes = patterns(0, 1)
    # turned a little away from both: were they exactly orthogonal, rounding could still make a weight above zero
    strangers = patterns(2, 3) - 0.1 * prototypes.sum(dim=1, keepdim=True)
    bias = block.attention.project.bias
    assert torch.equal(block.attention(strangers, prototypes), bias.expand(1, 2, WIDTH))
    first, second = block(strangers, prototypes)[0]
    assert torch.equal(first, second)
    expected = bias + block.feed_forward(block.feed_forward_norm(bias))
    assert torch.allclose(first, expected, atol=1e-6)


@torch.no_grad()
def test_a_token_gets_as_much_of_a_prototype_as_it_resembles_it(block):
    prototypes = patterns(0, 1)
    value = (prototypes @ block.attention.key_value.weight[WIDTH:].T + block.attention.key_value.bias[WIDTH:])[0]
    tokens = 2 * patterns(0) + patterns(2)  # cosine 2/√5 with the first, 0 with the second
    block.attention.scale.fill_(3.0)
    mixed = block.attention.project(3 * 2 / 5**0.5 * value[0])
    found = block.attention(block.norm(tokens), block.norm(prototypes))
    assert torch.allclose(found[0, 0], mixed, atol=1e-4)


@pytest.mark.parametrize("mining", [1.0, 3.0])
def test_mining_multiplies_gradients_by_the_distance_over_its_mean(mining):
    torch.manual_seed(0)
    start, target = torch.randn(3, 2, 5, 8), torch.randn(3, 2, 5, 8)
    start[0, 0, 0] = target[0, 0, 0]  # rebuilt without fault: nothing left to learn there
    plain, mined = start.clone().requires_grad_(), start.clone().requires_grad_()
    losses = rebuilding_loss(plain, target, 0.0), rebuilding_loss(mined, target, mining)
    assert torch.equal(losses[0], losses[1])  # the gradient alone is changed
    for loss in losses:
        loss.backward()
    distance = 1 - torch.cosine_similarity(start, target, dim=-1)
    for group in range(2):
        factor = (distance[:, group] / distance[:, group].mean()) ** mining
        assert torch.allclose(mined.grad[:, group], plain.grad[:, group] * factor[..., None], rtol=1e-4, atol=1e-9)
    assert mined.grad[0, 0, 0].abs().max() < 1e-9


def test_the_loss_compares_whole_maps_and_leaves_the_encoder_alone():
    torch.manual_seed(0)
    rebuilt, target = torch.randn(2, 2, 5, 8, requires_grad=True), torch.randn(2, 2, 5, 8, requires_grad=True)
    loss = rebuilding_loss(rebuilt, target, 3.0)
    cosines = [
        torch.dot(rebuilt[b, g].flatten(), target[b, g].flatten()) / rebuilt[b, g].norm() / target[b, g].norm()
        for b in range(2)
        for g in range(2)
    ]
    assert float(loss.detach()) == pytest.approx(1 - float(sum(cosines).detach()) / 4, abs=1e-5)
    loss.backward()
    assert target.grad is None


def test_a_faultless_reconstruction_gives_no_gradient_that_is_not_a_number():
    target = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    rebuilt = target.clone().requires_grad_()
    rebuilding_loss(rebuilt, target, 2.5).backward()
    assert torch.isfinite(rebuilt.grad).all()


def test_coherence_asks_for_one_near_prototype_only():
    prototypes = torch.eye(4)[None, :2]
    assert float(coherence_loss(torch.eye(4)[None, :2], prototypes)) == pytest.approx(0)
    assert float(coherence_loss(torch.eye(4)[None], prototypes)) == pytest.approx(0.5)


@pytest.mark.parametrize(("modalities", "seen"), [("rgb", {"rgb"}), ("geometry", {"geometry"}), ("late", None)])
def test_each_choice_looks_at_its_images_only(modalities, seen):
    judge = method(modalities=modalities)
    one, other = batch(0), batch(1)
    before = judge.score(one).map
    new_rgb = judge.score(Batch(other.rgb, one.geometry, one.valid)).map
    new_geometry = judge.score(Batch(one.rgb, other.geometry, one.valid)).map
    looked_at = seen or {"rgb", "geometry"}
    assert torch.equal(new_rgb, before) is ("rgb" not in looked_at)
    assert torch.equal(new_geometry, before) is ("geometry" not in looked_at)
    assert {name.split(".")[0] for name in judge.state()} == looked_at


def test_late_is_the_mean_of_the_two_maps():
    late, sample = method(), batch(0)
    alone = {}
    for name in ("rgb", "geometry"):
        judge = method(seed=1, modalities=name)
        judge.restore({key: value for key, value in late.state().items() if key.startswith(f"{name}.")})
        alone[name] = judge.score(sample).map
    assert not torch.allclose(alone["rgb"], alone["geometry"], atol=1e-3)
    assert torch.allclose(late.score(sample).map, (alone["rgb"] + alone["geometry"]) / 2, atol=1e-5)


def test_every_step_is_logged_and_more_looks_are_more_samples():
    steps = []
    judge = method(phases=2)
    judge.fit([batch(0)], lambda progress: steps.append(progress) if progress.task == "train" else None)
    assert len(steps) == 2 * 20  # two pairs, four looks each, batches of four
    assert {"loss", "reconstruction", "coherence", "effective_prototypes"} <= set(steps[0].values)
    assert steps[-1].values["reconstruction"] < 0.5 * steps[0].values["reconstruction"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_and_scores(dtype):
    judge, full = method(dtype=dtype), method()
    for fitted in (judge, full):
        fitted.fit([batch(0)], silent)
    assert all(value.dtype == torch.float32 for value in judge.state().values())
    assert torch.allclose(judge.score(batch(1)).image, full.score(batch(1)).image, rtol=0.2)
