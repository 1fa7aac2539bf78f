"""The fit of inner products: against KSH's own objective, and its extreme values."""

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.inner_product import InnerProduct


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), neighbours=labels[:, None] == labels)


def test_it_is_the_loop_s():
    codes = 2 * torch.rand(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    labels = torch.arange(7) % 3
    errors = []
    for i in range(7):
        for j in range(7):
            if i != j:
                wanted = 1 if labels[i] == labels[j] else -1
                errors.append((float(codes[i] @ codes[j]) / 5 - wanted) ** 2)
    assert float(InnerProduct()(batch_of(codes, labels))) == pytest.approx(sum(errors) / len(errors))


def test_of_bits_it_is_ksh_s_objective_over_pairs_of_different_items():
    codes = (torch.rand(12, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5).sign()
    labels = torch.arange(12) % 4
    wanted = 2.0 * (labels[:, None] == labels) - 1
    # An item's product with itself is 1, as wanted, so the sum over all pairs is that over different ones.
    objective = float((codes @ codes.T / 16 - wanted).square().sum())
    assert float(InnerProduct()(batch_of(codes, labels))) == pytest.approx(objective / (12 * 11))


def test_two_opposite_classes_fit_and_three_cannot():
    corner = torch.ones(1, 8)
    two = torch.cat([corner, corner, -corner, -corner])
    assert float(InnerProduct()(batch_of(two, torch.tensor([0, 0, 1, 1])))) == 0
    assert float(InnerProduct()(batch_of(two, torch.tensor([0, 1, 0, 1])))) > 2
    assert float(InnerProduct()(batch_of(two[:1], torch.zeros(1)))) == 0
