"""CSQ: cross-entropy with centres, bit by bit."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.csq import CSQ, centre_cross_entropy, log_cosh
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    n = len(codes)
    return TrainingBatch(codes, codes, codes, torch.arange(n), labels)


def codes_of(n, length, seed=0):
    return 1.8 * torch.rand(n, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.9


def test_loss_is_its_definition():
    loss = CSQ(8, 3, torch.Generator().manual_seed(1), quantization_weight=0.3, least_probability=0.02)
    codes, labels = codes_of(6, 8), torch.tensor([0, 1, 2, 2, 1, 0])
    total = 0.0
    for u, label in zip(codes.tolist(), labels.tolist(), strict=True):
        for value, centre in zip(u, loss.centres[label].tolist(), strict=True):
            p = 0.02 + 0.96 * (value + 1) / 2
            c = (centre + 1) / 2
            total += -c * math.log(p) - (1 - c) * math.log(1 - p)
            total += 0.3 * math.log(math.cosh(abs(value) - 1))
    assert float(loss(batch_of(codes, labels))) == pytest.approx(total / 48, abs=1e-6)


def test_cross_entropy_becomes_the_papers():
    codes = codes_of(5, 4)
    centres = torch.where(codes_of(5, 4, seed=1) > 0, 1.0, -1.0).double()
    expected = torch.nn.functional.binary_cross_entropy((codes + 1) / 2, (centres + 1) / 2, reduction="none")
    assert torch.allclose(centre_cross_entropy(codes, centres, 1e-12), expected)


def test_centres_are_the_minimum():
    loss = CSQ(16, 10)
    labels = torch.arange(10)
    best = float(loss(batch_of(loss.centres, labels)))
    for bit in range(16):
        flipped = loss.centres.clone()
        flipped[:, bit] *= -1
        assert float(loss(batch_of(flipped, labels))) > best
    assert best == pytest.approx(-math.log(0.99), abs=1e-6)


def test_hard_bits_have_finite_slopes_towards_their_centre():
    loss = CSQ(16, 10)
    codes = torch.where(codes_of(10, 16) > 0, 1.0, -1.0).requires_grad_()
    loss(batch_of(codes, torch.arange(10))).backward()
    assert torch.equal(-codes.grad.sign(), loss.centres)
    assert float(codes.grad.abs().max()) < 1


def test_items_without_labels_count_nothing():
    loss = CSQ(8, 4)
    codes, labels = codes_of(4, 8), torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 1]]).bool()
    kept = [0, 2, 3]
    assert torch.allclose(loss(batch_of(codes, labels)), loss(batch_of(codes[kept], labels[kept])))
    assert float(loss(batch_of(codes, torch.zeros_like(labels)))) == 0


def test_log_cosh():
    values = torch.tensor([-500.0, -1.0, 0.0, 0.3, 800.0], dtype=torch.float64)
    expected = [500 - math.log(2), math.log(math.cosh(1)), 0.0, math.log(math.cosh(0.3)), 800 - math.log(2)]
    assert log_cosh(values).tolist() == pytest.approx(expected, abs=1e-12)


def test_bad_settings_are_refused():
    for value, expected in ((0, "finite number above 0"), (0.5, "number below 0.5")):
        with pytest.raises(InvalidInputError, match=f"least_probability={value}; expected a {expected}"):
            CSQ(8, 4, least_probability=value)
    with pytest.raises(InvalidInputError, match="quantization_weight=-1; expected a number of at least 0"):
        CSQ(8, 4, quantization_weight=-1)
