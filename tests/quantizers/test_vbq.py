"""VBQ: the knapsack against brute force, its code, and its allocation of bits."""

from itertools import product

import numpy as np
import pytest
import torch

from deephash.affinity.label import Label
from deephash.codes import pack
from deephash.hashers.storage import describe, rebuild
from deephash.quantizers.bit_allocations.base import BitAllocation
from deephash.quantizers.bit_allocations.knapsack import Knapsack, allocate_bits
from deephash.quantizers.npq import NPQ
from deephash.quantizers.threshold_searches.exact_search import ExactSearch
from deephash.quantizers.vbq import VBQ
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError


def labelled(n=240, k=6, seed=0):
    """Projections of which the first tells six classes apart, the second two, and the others none."""
    z = torch.randn(n, k, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(n) % 6
    z[:, 0] = 10 * labels + z[:, 0]
    z[:, 1:2] += 10 * (labels % 2)[:, None]
    return z, labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [0, 1, 4, 7, 12])
def test_allocation_is_the_best_of_all(seed, budget):
    worth = np.random.default_rng(seed).random((4, 4))
    every = [choice for choice in product(range(4), repeat=4) if sum(choice) == budget]
    best = max(sum(worth[j, bits] for j, bits in enumerate(choice)) for choice in every)
    found = allocate_bits(worth, budget)
    assert found.sum() == budget
    assert worth[range(4), found].sum() == pytest.approx(best, abs=1e-12)


def test_refuses_a_budget_that_dimensions_cannot_hold():
    with pytest.raises(InvalidInputError, match="budget=9 bits; expected 0 to 8 for 2 dimensions of at most 4 bits"):
        allocate_bits(np.zeros((2, 5)), 9)


@pytest.mark.parametrize("bits", [1, 2, 6])
@pytest.mark.parametrize("most_bits", [1, 4])
def test_budget_is_spent_to_the_last_bit(bits, most_bits):
    z, labels = labelled(k=bits)
    quantizer = VBQ(bits, most_bits).fit(z, affinity=Label().supervise(z, labels))
    assert int(quantizer.allocation.sum()) == bits == quantizer.distance.code_bits
    assert int(quantizer.allocation.max()) <= most_bits


def test_bits_go_where_neighbours_are_kept():
    z, labels = labelled()
    quantizer = VBQ(6, search=ExactSearch()).fit(z, affinity=Label().supervise(z, labels))
    assert int(quantizer.allocation[0]) >= 3
    assert int((quantizer.allocation == 0).sum()) >= 2


def test_allocation_has_the_largest_total_of_npq_s_f1():
    """By a plain count of every allocation, its thresholds those of NPQ."""
    z, labels = labelled(n=60, k=4)
    upper = torch.ones(60, 60, dtype=torch.bool).triu(1)
    same = (labels[:, None] == labels)[upper]
    affinity = Label().supervise(z, labels)
    worth = np.empty((4, 5))
    for j in range(4):
        for bits in range(5):
            regions = torch.zeros(60, dtype=torch.int64)
            if bits:
                npq = NPQ(bits, 2**bits - 1, ExactSearch(), f1_weight=1.0).fit(z[:, j : j + 1], affinity=affinity)
                regions = (z[:, j : j + 1] >= npq.thresholds).sum(1)
            together = (regions[:, None] == regions)[upper]
            worth[j, bits] = 2 * int((together & same).sum()) / int(together.sum() + same.sum())
    every = [choice for choice in product(range(5), repeat=4) if sum(choice) == 4]
    best = max(sum(worth[j, b] for j, b in enumerate(choice)) for choice in every)
    allocation = VBQ(4, search=ExactSearch()).fit(z, affinity=affinity).allocation
    assert worth[range(4), allocation].sum() == pytest.approx(best, abs=1e-12)


def test_distance_of_codes_is_the_difference_of_regions():
    z, labels = labelled()
    quantizer = VBQ(6).fit(z, affinity=Label().supervise(z, labels))
    expected = torch.zeros(len(z), len(z), dtype=torch.int64)
    for j, bits in enumerate(quantizer.allocation.tolist()):
        regions = (z[:, j, None] >= quantizer.thresholds[j, : 2**bits - 1]).sum(1)
        expected += (regions[:, None] - regions).abs()
    codes = pack(quantizer.quantize(z))
    distances, ids = TorchEngine().search(codes, codes, quantizer.distance, len(z))
    assert len(set(quantizer.allocation.tolist())) > 2
    assert torch.equal(distances, expected.gather(1, ids))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"most_bits": 0}, "most_bits=0; expected a whole number of at least 1"),
        ({"most_bits": 9}, "most_bits=9 exceeds 8, the most bits a projection can have"),
        ({"pairs_sample": 2.5}, "pairs_sample=2.5; expected a whole number of at least 1"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        VBQ(8, **arguments)


def test_refuses_training_items_without_pairs():
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InvalidInputError, match="no two of 5 training items are neighbours, so VBQ has no pairs"):
        VBQ(2).fit(z, affinity=Label().supervise(z, torch.arange(5)))


def test_a_hasher_saved_without_an_allocator_loads_with_the_knapsack():
    z, labels = labelled()
    quantizer = VBQ(6).fit(z, affinity=Label().supervise(z, labels))
    description = describe(quantizer)
    assert description["arguments"].pop("allocator")["name"] == "knapsack"
    loaded = rebuild(description, VBQ)
    loaded.load_state_dict(quantizer.state_dict())
    assert isinstance(loaded.allocator, Knapsack)
    assert torch.equal(loaded.quantize(z), quantizer.quantize(z))


class FirstDimensions(BitAllocation):
    """As many bits as there are for one dimension after the other."""

    def allocate(self, options, budget, generator):
        most = options.worth.shape[1] - 1
        spent = torch.arange(len(options.worth)) * most
        self.seen = options
        return (budget - spent).clamp(0, most)


def test_the_allocator_is_told_what_each_choice_does():
    z, labels = labelled(n=60)
    affinity = Label().supervise(z, labels)
    quantizer = VBQ(6, 4, ExactSearch(), allocator=FirstDimensions()).fit(z, affinity=affinity)
    assert quantizer.allocation.tolist() == [4, 2, 0, 0, 0, 0]
    seen = quantizer.allocator.seen
    assert torch.equal(seen.neighbours, (labels[:, None] == labels).fill_diagonal_(False))
    for j, bits in enumerate(quantizer.allocation.tolist()):
        reached = (z[:, j, None] >= quantizer.thresholds[j, : 2**bits - 1]).sum(1)
        assert torch.equal(seen.regions[:, j, bits].long(), reached)
        upper = torch.ones(60, 60, dtype=torch.bool).triu(1)
        together = (reached[:, None] == reached)[upper]
        same = seen.neighbours[upper]
        f1 = 2 * int((together & same).sum()) / int(together.sum() + same.sum())
        assert float(seen.worth[j, bits]) == pytest.approx(f1)
