"""NPQ's objective as a loss: its limit, and gradients that find the thresholds of the search."""

import pytest
import torch

from deephash.affinity.label import Label
from deephash.losses.batch import TrainingBatch
from deephash.losses.npq_objective import NPQObjective
from deephash.quantizers.neighbourhood_objective import neighbourhood_objective
from deephash.quantizers.npq import NPQ
from deephash.quantizers.sbq import SBQ
from deephash.quantizers.threshold_searches.exact_search import ExactSearch
from deephash.quantizers.vbq import VBQ
from deephash.validation import InvalidInputError


def grouped(seed=0, n=80):
    """Values of four classes that overlap, on three dimensions; which items share a class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    centres = torch.stack([torch.randperm(4, generator=generator) for _ in range(3)], 1)
    return 2.0 * centres[labels] + 0.4 * torch.randn(n, 3, generator=generator), labels


def batch_of(z, neighbours, quantizer):
    return TrainingBatch(z, z, z, torch.arange(len(z)), neighbours=neighbours, quantizer=quantizer)


@pytest.mark.parametrize("f1_weight", [1.0, 0.7])
def test_at_a_low_temperature_it_is_what_npq_maximises(f1_weight):
    z, labels = grouped()
    pairs = Label().supervise(z, labels)
    quantizer = NPQ(6, search=ExactSearch(), f1_weight=f1_weight).fit(z, affinity=pairs)
    neighbours = pairs.among(torch.arange(80))
    reached = []
    for j in range(3):
        objective = neighbourhood_objective(z[:, j], neighbours, f1_weight)
        reached.append(float(objective(quantizer.search.best_cuts(objective, 3, torch.Generator())[None])))
    loss = NPQObjective(f1_weight, temperature=1e-6)
    assert loss(batch_of(z.double(), neighbours, quantizer)).item() == pytest.approx(1 - sum(reached) / 3, abs=1e-5)


def test_gradients_move_thresholds_towards_the_best():
    z, labels = grouped()
    pairs = Label().supervise(z, labels)
    neighbours = pairs.among(torch.arange(80))
    quantizer = NPQ(6).fit(z, affinity=pairs).calibrate(z)
    with torch.no_grad():
        quantizer.thresholds.copy_(torch.tensor([[1.6, 3.5, 5.7]] * 3))
    batch = batch_of(z, neighbours, quantizer)
    hard = NPQObjective(temperature=1e-6)
    before = hard(batch).item()
    optimizer = torch.optim.Adam([quantizer.thresholds], 0.02)
    for _ in range(100):
        optimizer.zero_grad()
        NPQObjective()(batch).backward()
        optimizer.step()
    best = NPQ(6, search=ExactSearch()).fit(z, affinity=pairs)
    goal = hard(batch_of(z, neighbours, best)).item()
    assert before - goal > 0.1
    assert hard(batch).item() - goal < 0.1 * (before - goal)


@pytest.mark.parametrize("quantizer", [None, SBQ(3), VBQ(3)])
def test_any_quantizer_with_thresholds_will_do(quantizer):
    z, labels = grouped()
    neighbours = Label().supervise(z, labels).among(torch.arange(80))
    z.requires_grad_()
    value = NPQObjective()(batch_of(z, neighbours, quantizer))
    assert 0 < value.item() < 1
    value.backward()
    assert bool((z.grad.abs().sum(0) > 0).all())
    if quantizer is not None:
        assert bool(quantizer.thresholds.grad.isfinite().all())


def test_without_pairs_or_variance_there_is_nothing_to_lose():
    z = torch.full((6, 3), 0.1, requires_grad=True)
    value = NPQObjective(0.5)(batch_of(z, torch.eye(6, dtype=torch.bool), SBQ(3)))
    assert value.item() == 0
    value.backward()
    assert not z.grad.any()


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="f1_weight=2; expected a number from 0 to 1"):
        NPQObjective(f1_weight=2)
    with pytest.raises(InvalidInputError, match="temperature=0; expected a finite number above 0"):
        NPQObjective(temperature=0)
