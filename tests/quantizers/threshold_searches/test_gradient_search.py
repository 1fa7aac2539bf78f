"""The gradient search: soft J against its definition, the climb, and the optimum by brute force."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from deephash.affinity.epsilon_ball import EpsilonBall
from deephash.affinity.label import Label
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.projections.lsh import LSH
from deephash.quantizers.neighbourhood_objective import neighbourhood_objective
from deephash.quantizers.npq import NPQ
from deephash.quantizers.soft_regions import soft_explained_variance, soft_f1, soft_regions
from deephash.quantizers.threshold_searches.evolutionary_search import EvolutionarySearch
from deephash.quantizers.threshold_searches.exact_search import ExactSearch
from deephash.quantizers.threshold_searches.gradient_search import (
    GradientSearch,
    climb,
    group_pairs,
    settle,
    soft_objective,
)
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def dimension(seed, n=60, step=0.0):
    """Values, some of them equal where `step` rounds them, and random neighbours, likelier among near values."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n)
    if step:
        values = np.round(values / step) * step
    chance = np.exp(-np.abs(values[:, None] - values) / 0.5)
    neighbours = np.triu(rng.random((n, n)) < chance, 1)
    return torch.from_numpy(values), torch.from_numpy(neighbours | neighbours.T)


def score(objective, cuts):
    return float(objective(cuts[None]))


@pytest.mark.parametrize("groups", [3, 7, 1000])
@pytest.mark.parametrize("step", [0.0, 0.3])
def test_groups_hold_the_pairs_between_them(groups, step):
    values, neighbours = dimension(0, step=step)
    objective = neighbourhood_objective(values, neighbours)
    pairs = group_pairs(objective, groups)
    distinct = sorted(set(values.tolist()))
    count = min(groups, len(distinct))
    assert len(pairs.places) == count
    edges = [round(g * len(distinct) / count) for g in range(count + 1)]
    members = [[i for i, v in enumerate(values.tolist()) if v in distinct[a:b]] for a, b in pairwise(edges)]
    for a in range(count):
        assert float(pairs.places[a]) == pytest.approx((edges[a] + edges[a + 1]) / 2 / len(distinct))
        assert float(pairs.items[a]) == len(members[a])
        expected = sum(float(values[i]) - float(values.mean()) for i in members[a])
        assert float(pairs.sums[a]) == pytest.approx(expected, abs=1e-12)
        for b in range(count):
            assert float(pairs.neighbours[a, b]) == sum(bool(neighbours[i, j]) for i in members[a] for j in members[b])


@pytest.mark.parametrize("f1_weight", [1.0, 0.6, 0.0])
def test_soft_objective_of_single_values_is_that_of_soft_regions(f1_weight):
    values, neighbours = dimension(1, n=40)
    order = values.argsort()
    values, neighbours = values[order], neighbours[order][:, order]
    objective = neighbourhood_objective(values, neighbours, f1_weight)
    thresholds = torch.tensor([[-1.0, 0.2, 0.9], [0.1, 0.1, 2.0]], dtype=torch.float64)
    membership = soft_regions(values.expand(2, -1), thresholds, 0.3)
    expected = f1_weight * soft_f1(membership, neighbours)
    expected += (1 - f1_weight) * soft_explained_variance(values.expand(2, -1), membership)
    found = soft_objective(objective, group_pairs(objective, 1000), membership)
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("f1_weight", [1.0, 0.7])
def test_cold_soft_objective_is_the_hard_one(f1_weight):
    values, neighbours = dimension(2, step=0.1)
    objective = neighbourhood_objective(values, neighbours, f1_weight)
    pairs = group_pairs(objective, 1000)
    cuts = torch.tensor([[5, 11, 20], [1, 2, 25]])
    membership = soft_regions(pairs.places.expand(2, -1), cuts / len(objective.distinct), 1e-6)
    assert torch.allclose(soft_objective(objective, pairs, membership), objective(cuts), atol=1e-9)


def test_gradient_of_the_soft_objective():
    values, neighbours = dimension(3, n=20)
    objective = neighbourhood_objective(values, neighbours, 0.7)
    pairs = group_pairs(objective, 10)
    places = torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t: soft_objective(objective, pairs, soft_regions(pairs.places[None], t, 0.1)), places
    )


def test_climbing_raises_the_hard_objective():
    before, after = [], []
    for seed in range(5):
        objective = neighbourhood_objective(*dimension(seed, n=300))
        places = torch.rand(4, 3, generator=generator(seed), dtype=torch.float64).sort(1).values
        reached = climb(objective, group_pairs(objective, 128), places, 50)
        assert bool((reached.diff(dim=1) >= 0).all())
        assert bool(((reached >= 0) & (reached <= 1)).all())
        for kept, shares in ((before, places), (after, reached)):
            cuts = (shares * objective.cuts).long().clamp(1, objective.cuts).sort(1).values
            kept.append(float(objective(cuts).mean()))
    assert all(high > low for low, high in zip(before, after, strict=True))


def test_settled_cuts_cannot_be_bettered_one_by_one():
    objective = neighbourhood_objective(*dimension(4))
    start = torch.tensor([3, 20, 40])
    cuts = settle(objective, start)
    best = score(objective, cuts)
    assert best > score(objective, start)
    for t in range(3):
        for place in range(1, objective.cuts + 1):
            moved = cuts.clone()
            moved[t] = place
            low, high = (cuts[t - 1] if t else 0), (cuts[t + 1] if t < 2 else objective.cuts + 1)
            if low < place < high:
                assert score(objective, moved) <= best + 1e-12


@pytest.mark.parametrize("step", [0.0, 0.2])
def test_it_comes_to_the_optimum(step):
    shares = []
    for seed in range(4):
        for f1_weight in (1.0, 0.5):
            objective = neighbourhood_objective(*dimension(seed, n=30, step=step), f1_weight)
            for count in (1, 2, 3):
                every = torch.tensor(list(combinations(range(1, objective.cuts + 1), count)))
                cuts = GradientSearch().best_cuts(objective, count, generator())
                assert len(set(cuts.tolist())) == count
                assert cuts.tolist() == sorted(cuts.tolist())
                share = score(objective, cuts) / float(objective(every).max())
                assert share > (1 - 1e-12 if count == 1 else 0.95)
                shares.append(share)
    assert sum(share > 1 - 1e-9 for share in shares) > 0.75 * len(shares)


def test_it_is_above_the_evolutionary_search_and_near_the_exact_one():
    for count in (3, 7):
        for seed in range(3):
            objective = neighbourhood_objective(*dimension(seed, n=400))
            found, evolved, best = (
                score(objective, search.best_cuts(objective, count, generator(seed)))
                for search in (GradientSearch(), EvolutionarySearch(), ExactSearch())
            )
            assert found >= evolved
            assert 0.98 * best <= found <= best + 1e-12


def test_it_repeats_itself_for_one_generator():
    objective = neighbourhood_objective(*dimension(5, n=100))
    found = [GradientSearch(4, 10).best_cuts(objective, 7, generator(3)) for _ in range(2)]
    assert torch.equal(*found)
    assert GradientSearch(1, 1).best_cuts(objective, 7, generator()).shape == (7,)


def test_npq_is_fitted_by_it_and_saved_with_it(tmp_path):
    features = torch.randn(80, 6, generator=generator())
    hasher = Hasher(LSH(6, 3), NPQ(6, search=GradientSearch(3, 5)))
    hasher.fit(features, labels=torch.arange(80) % 4, affinity=Label()).save(tmp_path)
    loaded = Hasher.load(tmp_path)
    assert (loaded.quantizer.search.starts, loaded.quantizer.search.steps) == (3, 5)
    assert torch.equal(loaded.encode(features), hasher.encode(features))


@pytest.mark.parametrize("name", ["starts", "steps"])
def test_refuses_a_search_of_no_size(name):
    with pytest.raises(InvalidInputError, match=f"{name}=0; expected a whole number of at least 1"):
        GradientSearch(**{name: 0})


@pytest.mark.data
def test_it_beats_the_evolutionary_search_on_real_projections(cifar10_gist):
    features = cifar10_gist[0][torch.randperm(60_000, generator=generator())][:2000]
    neighbours = EpsilonBall(sample=500).fit(features, None).supervise(features, None).among(torch.arange(2000)).clone()
    projections = ITQ(512, 16).fit(features)(features)
    for j in range(4):
        objective = neighbourhood_objective(projections[:, j].detach(), neighbours)
        for count in (3, 15):
            found, evolved, best = (
                score(objective, search.best_cuts(objective, count, generator()))
                for search in (GradientSearch(), EvolutionarySearch(), ExactSearch())
            )
            assert evolved < found <= best + 1e-12
            assert found > (0.998 if count == 3 else 0.97) * best
