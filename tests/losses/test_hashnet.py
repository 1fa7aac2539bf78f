"""HashNet's loss: against a loop over pairs, its balance of the two kinds, and its steepness."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.hashnet import HashNet
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), neighbours=labels[:, None] == labels)


def random_codes(n=10, length=6):
    return 1.8 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.9


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_it_is_the_paper_s_weighted_sum(alpha):
    codes, labels = random_codes(), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 4])
    steepness = 10 / 6 if alpha is None else alpha
    pairs = [(i, j) for i in range(10) for j in range(10) if i != j]
    similar = sum(bool(labels[i] == labels[j]) for i, j in pairs)
    expected = 0.0
    for i, j in pairs:
        s = int(labels[i] == labels[j])
        weight = len(pairs) / similar if s else len(pairs) / (len(pairs) - similar)
        product = steepness * float(codes[i] @ codes[j])
        expected += weight * (math.log(1 + math.exp(product)) - s * product)
    assert float(HashNet(alpha)(batch_of(codes, labels))) == pytest.approx(expected / len(pairs))


def test_both_kinds_weigh_the_same_whatever_their_numbers():
    corner = torch.ones(12, 4, dtype=torch.float64)
    few = torch.tensor([0, 0, *range(1, 11)])
    # All codes are equal, so neighbours cost log(1 + e^-10) and the others log(1 + e^10), each kind once.
    expected = math.log1p(math.exp(-10)) + math.log1p(math.exp(10))
    assert float(HashNet()(batch_of(corner, few))) == pytest.approx(expected)
    assert float(HashNet()(batch_of(corner, torch.arange(12) % 2))) == pytest.approx(expected)


def test_a_kind_that_is_absent_adds_nothing():
    codes = torch.ones(5, 4, dtype=torch.float64)
    assert float(HashNet()(batch_of(codes, torch.zeros(5)))) == pytest.approx(math.log1p(math.exp(-10)))
    assert float(HashNet()(batch_of(codes, torch.arange(5)))) == pytest.approx(math.log1p(math.exp(10)))
    assert float(HashNet()(batch_of(codes[:1], torch.zeros(1)))) == 0


@pytest.mark.parametrize("alpha", [0, -1, float("inf"), "steep"])
def test_steepness_is_checked(alpha):
    with pytest.raises(InvalidInputError, match="alpha="):
        HashNet(alpha)
