"""The supervised contrastive loss, anchor by anchor."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.supcon import SupCon
from deephash.validation import InvalidInputError


def batch_of(codes, neighbours):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), neighbours=neighbours)


def codes_of(n, length):
    return 2 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1


def test_loss_is_its_definition():
    codes, labels = codes_of(9, 6), torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3])
    neighbours = labels[:, None] == labels
    terms = []
    for i in range(9):
        others = [j for j in range(9) if j != i]
        similarity = {j: float(codes[i] @ codes[j]) / 6 / 0.2 for j in others}
        total = math.log(sum(math.exp(similarity[j]) for j in others))
        positives = [j for j in others if neighbours[i, j]]
        if positives:
            terms.append(sum(total - similarity[j] for j in positives) / len(positives))
    assert len(terms) == 8, "the item without a neighbour is no anchor"
    assert float(SupCon(0.2)(batch_of(codes, neighbours))) == pytest.approx(sum(terms) / 8)


def test_its_minimum_is_one_code_a_class_half_the_bits_apart():
    words = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1]])
    labels = torch.arange(8) % 2
    neighbours = labels[:, None] == labels
    at_words = float(SupCon(0.1)(batch_of(words[labels], neighbours)))
    assert at_words == pytest.approx(math.log(3 + 4 * math.exp(-10)), abs=1e-5)
    together = float(SupCon(0.1)(batch_of(words[labels * 0], neighbours)))
    assert together == pytest.approx(math.log(7), abs=1e-5)
    assert together > at_words


def test_near_strangers_are_pushed_harder_than_far_ones():
    codes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, -1], [-1, -1, -1, 1]]).requires_grad_()
    neighbours = torch.eye(4, dtype=torch.bool)
    neighbours[0, 1] = neighbours[1, 0] = True
    SupCon(0.5)(batch_of(codes, neighbours)).backward()
    near, far = codes.grad[2].norm(), codes.grad[3].norm()
    assert near > 5 * far > 0


def test_without_neighbours_it_is_0():
    for n in (1, 5):
        codes = codes_of(n, 4).requires_grad_()
        value = SupCon()(batch_of(codes, torch.eye(n, dtype=torch.bool)))
        assert value.item() == 0
        value.backward()
        assert not codes.grad.any()


def test_bad_temperatures_are_refused():
    with pytest.raises(InvalidInputError, match="temperature=0; expected a finite number above 0"):
        SupCon(0)
