"""Bits by Gumbel-softmax: its measure against plain loops, the budget, and dimensions that repeat each other."""

from itertools import product

import pytest
import torch

from deephash.affinity.label import Label
from deephash.hashers.hasher import Hasher
from deephash.projections.lsh import LSH
from deephash.quantizers.bit_allocations.base import BitOptions
from deephash.quantizers.bit_allocations.gumbel import Gumbel, code_distances, sample_pairs
from deephash.quantizers.bit_allocations.knapsack import Knapsack, allocate_bits
from deephash.quantizers.vbq import VBQ
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def options_of(regions, labels):
    """Options whose worth is the F1 of each dimension by itself."""
    neighbours = (labels[:, None] == labels).fill_diagonal_(False)
    together = (regions[:, None] == regions[None]).permute(2, 3, 0, 1).triu(1)
    found = (together & neighbours).sum((2, 3))
    worth = 2 * found.double() / (together.sum((2, 3)) + neighbours.sum() / 2)
    return BitOptions(worth, regions, neighbours)


def random_options(k=5, most=3, items=60, seed=0):
    """Regions that tell four classes apart, each dimension in its own degree."""
    labels = torch.arange(items) % 4
    values = torch.randn(items, k, generator=generator(seed)) + labels[:, None] * torch.linspace(2, 0, k)
    regions = torch.zeros(items, k, most + 1, dtype=torch.int16)
    for q in range(1, most + 1):
        edges = values.quantile(torch.linspace(0, 1, 2**q + 1)[1:-1], 0)
        regions[:, :, q] = (values[..., None] >= edges.T).sum(-1).short()
    return options_of(regions, labels)


def repeating_options():
    """Two dimensions that say the same, and a third, worth less by itself, that says what they do not."""
    first, second = torch.arange(80) % 2, torch.arange(80) // 2 % 2
    # In a tenth of the items the third is wrong.
    third = torch.where(torch.arange(80) % 10 == 0, 1 - second, second)
    regions = torch.stack([first, first, third], 1)[..., None].repeat(1, 1, 2).short()
    regions[..., 0] = 0
    return options_of(regions, first + 2 * second)


def test_distances_are_the_sum_of_what_is_chosen():
    added = torch.randint(0, 9, (6, 3, 4), generator=generator()).float()
    bits = torch.tensor([2, 0, 3])
    expected = [sum(int(added[p, j, bits[j]]) for j in range(3)) for p in range(6)]
    assert code_distances(added, bits).tolist() == expected


@pytest.mark.parametrize("count", [5, 10_000])
def test_pairs_are_of_both_kinds_and_stand_for_all(count):
    neighbours = random_options().neighbours
    pairs, kinds, weights = sample_pairs(neighbours, count, generator())
    assert bool((pairs[:, 0] < pairs[:, 1]).all())
    assert len(pairs.unique(dim=0)) == len(pairs)
    assert torch.equal(neighbours[pairs[:, 0], pairs[:, 1]], kinds)
    upper = torch.ones(60, 60, dtype=torch.bool).triu(1)
    for kind in (True, False):
        there = int(((neighbours == kind) & upper).sum())
        assert int((kinds == kind).sum()) == min(count, there)
        assert float(weights[kinds == kind].sum()) == pytest.approx(there, rel=1e-5)


@pytest.mark.parametrize("budget", [1, 5, 9, 15])
def test_budget_is_spent_to_the_last_bit(budget):
    bits = Gumbel(10).allocate(random_options(), budget, generator())
    assert int(bits.sum()) == budget
    assert int(bits.min()) >= 0
    assert int(bits.max()) <= 3


def test_knapsack_is_the_best_sum_of_worths():
    options = random_options()
    expected = allocate_bits(options.worth.numpy(), 5)
    assert Knapsack().allocate(options, 5, generator()).tolist() == expected.tolist()


def test_a_dimension_that_repeats_another_gets_no_bit():
    options = repeating_options()
    assert Knapsack().allocate(options, 2, generator()).tolist() == [1, 1, 0]
    for seed in range(3):
        # Two that are worth the same part by chance alone, which takes its time.
        bits = Gumbel(400).allocate(options, 2, generator(seed)).tolist()
        assert bits[2] == 1
        assert sum(bits[:2]) == 1


def precision_of(options, bits):
    """Average precision of all pairs in the order of their distances, by a loop over distances."""
    upper = torch.ones_like(options.neighbours).triu(1)
    chosen = options.regions[:, torch.arange(len(bits)), torch.as_tensor(bits)].int()
    distances = (chosen[:, None] - chosen).abs().sum(2)[upper]
    kinds = options.neighbours[upper]
    area = before = hits = 0.0
    for distance in sorted(set(distances.tolist())):
        n, r = int((distances == distance).sum()), int((kinds & (distances == distance)).sum())
        area += r * (hits + r / 2) / (before + n / 2)
        before, hits = before + n, hits + r
    return area / hits


@pytest.mark.parametrize("seed", range(3))
def test_its_code_is_no_worse_than_the_knapsack_s_and_near_the_best(seed):
    options = random_options(k=4, seed=seed)
    every = [choice for choice in product(range(4), repeat=4) if sum(choice) == 4]
    precisions = sorted((precision_of(options, choice) for choice in every), reverse=True)
    found, start = (
        precision_of(options, allocation.allocate(options, 4, generator())) for allocation in (Gumbel(), Knapsack())
    )
    assert found >= start
    assert found >= precisions[len(every) // 5]


def test_it_repeats_itself_for_one_generator():
    options = random_options()
    assert torch.equal(*(Gumbel(20).allocate(options, 6, generator(4)) for _ in range(2)))


def test_pairs_that_are_all_neighbours_are_no_obstacle():
    options = random_options()
    alike = BitOptions(options.worth, options.regions, torch.ones_like(options.neighbours).fill_diagonal_(False))
    assert int(Gumbel(3).allocate(alike, 5, generator()).sum()) == 5


def test_it_is_saved_with_the_quantizer(tmp_path):
    features = torch.randn(60, 8, generator=generator())
    hasher = Hasher(LSH(8, 6), VBQ(6, allocator=Gumbel(5, 0.5)))
    hasher.fit(features, labels=torch.arange(60) % 3, affinity=Label()).save(tmp_path)
    loaded = Hasher.load(tmp_path)
    assert (loaded.quantizer.allocator.steps, loaded.quantizer.allocator.penalty) == (5, 0.5)
    assert torch.equal(loaded.encode(features), hasher.encode(features))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0; expected a whole number of at least 1"),
        ({"penalty": 0}, "penalty=0; expected a finite number above 0"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        Gumbel(**arguments)
