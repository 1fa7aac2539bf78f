"""Balanced and uncorrelated bits."""

import numpy as np
import pytest
import torch

from deephash.losses.balance import Balance
from deephash.losses.batch import TrainingBatch
from deephash.losses.decorrelation import Decorrelation
from deephash.validation import InvalidInputError


def batch_of(codes, projections=None):
    return TrainingBatch(codes, codes if projections is None else projections, codes, torch.arange(len(codes)))


def sample(n, k, seed=0):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ALL_CODES = torch.tensor([[1.0 if i >> j & 1 else -1.0 for j in range(4)] for i in range(16)])


def test_balance_is_the_squared_mean_of_bits():
    codes = (sample(30, 5) + 0.5).tanh()
    expected = np.mean([np.mean(codes[:, j].numpy()) ** 2 for j in range(5)])
    assert float(Balance()(batch_of(codes))) == pytest.approx(expected)
    assert float(Balance()(batch_of(ALL_CODES))) == 0
    assert float(Balance()(batch_of(torch.ones(3, 4)))) == 1


@pytest.mark.parametrize("of", ["codes", "projections"])
def test_decorrelation_is_the_squared_correlation_of_pairs(of):
    values = sample(30, 5) @ sample(5, 5, 1)
    other = sample(30, 5, 2)
    matrix = np.corrcoef(values.numpy().T)
    expected = np.mean([matrix[i, j] ** 2 for i in range(5) for j in range(5) if i != j])
    batch = batch_of(values, other) if of == "codes" else batch_of(other, values)
    assert float(Decorrelation(of)(batch)) == pytest.approx(expected, abs=1e-5)


def test_independent_bits_are_uncorrelated_and_copies_are_not():
    assert float(Decorrelation()(batch_of(ALL_CODES))) == pytest.approx(0, abs=1e-10)
    copies = ALL_CODES[:, :1] * torch.tensor([1.0, -1.0, 1.0])
    assert float(Decorrelation()(batch_of(copies))) == pytest.approx(1, abs=1e-4)


def test_a_constant_bit_has_no_correlation():
    codes = torch.cat([ALL_CODES, torch.full((16, 1), 0.1)], 1).requires_grad_()
    value = Decorrelation()(batch_of(codes))
    assert value.item() == pytest.approx(0, abs=1e-10)
    value.backward()
    assert bool(codes.grad.isfinite().all())
    for lone in (ALL_CODES[:1], ALL_CODES[:, :1]):
        assert float(Decorrelation()(batch_of(lone))) == 0


def test_other_words_are_refused():
    with pytest.raises(InvalidInputError, match="of='bits'; expected one of: codes, projections"):
        Decorrelation("bits")
