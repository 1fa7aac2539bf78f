"""Soft regions: their sum, their limit, which is the objective that searches maximise, and their gradients."""

import itertools
import math

import numpy as np
import pytest
import torch

from deephash.quantizers.neighbourhood_objective import neighbourhood_objective
from deephash.quantizers.soft_regions import soft_explained_variance, soft_f1, soft_regions


def random_line(seed, n=30, thresholds=3):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n)
    neighbours = np.triu(rng.random((n, n)) < 0.3, 1)
    cuts = np.sort(rng.choice(np.arange(1, n), thresholds, replace=False))
    return torch.from_numpy(values), torch.from_numpy(neighbours | neighbours.T), torch.from_numpy(cuts)


def test_membership_is_a_difference_of_sigmoids():
    values, thresholds = [-1.0, 0.2, 2.0], [-0.5, 0.1, 1.0]
    given = torch.tensor([thresholds[2], thresholds[0], thresholds[1]])
    membership = soft_regions(torch.tensor(values), given, 0.3)
    for i, value in enumerate(values):
        reached = [1.0, *(1 / (1 + math.exp(-(value - threshold) / 0.3)) for threshold in thresholds), 0.0]
        expected = [above - below for above, below in itertools.pairwise(reached)]
        assert membership[i].tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(membership.sum(-1), torch.ones(3))


@pytest.mark.parametrize("seed", range(5))
def test_its_limit_is_the_objective_of_hard_regions(seed):
    values, neighbours, cuts = random_line(seed)
    for f1_weight in (1.0, 0.6):
        objective = neighbourhood_objective(values, neighbours, f1_weight)
        thresholds = objective.thresholds(cuts, len(cuts))
        membership = soft_regions(values, thresholds, 1e-7)
        reached = f1_weight * soft_f1(membership, neighbours)
        reached = reached + (1 - f1_weight) * soft_explained_variance(values, membership)
        assert float(reached) == pytest.approx(float(objective(cuts[None])), abs=1e-9)


def test_soft_f1_is_its_definition():
    values, neighbours, _ = random_line(7, n=9)
    membership = soft_regions(values, torch.tensor([-0.5, 0.4], dtype=torch.float64), 0.5)
    found = together = pairs = 0.0
    for i, j in itertools.combinations(range(9), 2):
        overlap = sum(float(membership[i, r] * membership[j, r]) for r in range(3))
        together += overlap
        found += overlap * bool(neighbours[i, j])
        pairs += bool(neighbours[i, j])
    with_own = neighbours | torch.eye(9, dtype=torch.bool)
    for given in (neighbours, with_own):
        before = given.clone()
        assert float(soft_f1(membership, given)) == pytest.approx(2 * found / (together + pairs), abs=1e-12)
        assert torch.equal(given, before)


def test_dimensions_do_not_depend_on_each_other():
    lines = [random_line(seed) for seed in range(4)]
    neighbours = lines[0][1]
    values = torch.stack([line[0] for line in lines])
    thresholds = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    temperature = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    together = soft_regions(values, thresholds, temperature)
    for j in range(4):
        alone = soft_regions(values[j], thresholds[j], float(temperature[j]))
        assert torch.allclose(together[j], alone)
        assert torch.allclose(soft_f1(together, neighbours)[j], soft_f1(alone, neighbours))
        explained = soft_explained_variance(values, together)
        assert torch.allclose(explained[j], soft_explained_variance(values[j], alone))


def test_a_threshold_at_infinity_is_none():
    values, neighbours, _ = random_line(1)
    fewer = torch.tensor([-0.2, 0.6], dtype=torch.float64, requires_grad=True)
    padded = torch.cat([fewer, torch.full((2,), torch.inf, dtype=torch.float64)])
    gradients = []
    for thresholds in (fewer, padded):
        f1 = soft_f1(soft_regions(values, thresholds, 0.2), neighbours)
        gradients.append(torch.autograd.grad(f1, fewer)[0])
    assert torch.equal(gradients[0], gradients[1])
    assert bool(gradients[0].abs().min() > 0)


def test_gradients():
    values, neighbours, _ = random_line(2, n=8)
    thresholds = torch.tensor([-0.4, 0.5], dtype=torch.float64, requires_grad=True)
    values.requires_grad_()

    def objective(values, thresholds):
        membership = soft_regions(values, thresholds, 0.4)
        return soft_f1(membership, neighbours), soft_explained_variance(values, membership)

    assert torch.autograd.gradcheck(objective, (values, thresholds))


@pytest.mark.parametrize("values", [[0.3], [0.1] * 7, [-50.0, 40.0]])
def test_degenerate_lines_have_finite_values_and_gradients(values):
    values = torch.tensor(values, requires_grad=True)
    thresholds = torch.tensor([0.0, 0.0, 5.0], requires_grad=True)
    neighbours = torch.eye(len(values), dtype=torch.bool)
    membership = soft_regions(values, thresholds, 1e-3)
    f1, explained = soft_f1(membership, neighbours), soft_explained_variance(values, membership)
    assert f1.item() == 0, "there is no pair of neighbours"
    assert explained.item() == pytest.approx(float(len(values.unique()) > 1))
    (f1 + explained).backward()
    assert bool(values.grad.isfinite().all())
    assert bool(thresholds.grad.isfinite().all())
