import itertools

import pytest
import torch

from uipad_cli.methods.base import CollapseError, hash_seed
from uipad_cli.methods.descent import Descent, descend
from uipad_cli.records import silent


def test_the_rate_warms_up_and_then_falls_to_its_end():
    settings = Descent(epochs=10, warmup_steps=100)
    rates = [settings.rate(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == rates[100] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)
    assert all(left >= right for left, right in itertools.pairwise(rates[100:]))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"epochs": 20}, 20 * 5),
        ({"epochs": 20, "least_steps": 99}, 20 * 5),
        ({"epochs": 20, "least_steps": 300}, 300),
        ({"epochs": 20, "least_steps": 300, "steps": 7}, 7),
    ],
)
def test_many_samples_are_seen_so_many_times_and_few_for_so_many_steps(settings, steps):
    assert Descent(batch=8, **settings).total_steps(40) == steps


def test_a_short_run_warms_up_in_a_quarter():
    settings = Descent(warmup_steps=100)
    assert settings.rate(10, 40) == pytest.approx(1e-3)


def test_every_sample_is_seen_once_an_epoch_in_an_order_of_its_own():
    seen = []
    network = torch.nn.Linear(1, 1)

    def loss_of_step(indices, generator):
        seen.append(indices.tolist())
        return network(torch.ones(1, 1)).sum(), {}

    descend(network, loss_of_step, Descent(epochs=3, batch=4), samples=10, seed=1, report=silent)
    assert [len(step) for step in seen] == [4] * 6  # ten samples: two whole batches, the rest waits for its turn
    epochs = [seen[0] + seen[1], seen[2] + seen[3], seen[4] + seen[5]]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_loss_that_is_no_number_stops_the_training():
    network = torch.nn.Linear(1, 1)

    def loss_of_step(indices, generator):
        return network(torch.ones(1, 1)).sum() * float("nan"), {}

    with pytest.raises(CollapseError, match="step 1 of 200"):
        descend(network, loss_of_step, Descent(batch=4), samples=4, seed=0, report=silent)


def test_seeds_of_neighbours_are_unrelated():
    seeds = {hash_seed(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
