"""DTSH: against a loop over triplets, its margin in bits, and blocks of triplets."""

import math

import pytest
import torch

from deephash.losses import dtsh
from deephash.losses.batch import TrainingBatch
from deephash.losses.dtsh import DTSH, triplet_likelihood
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), neighbours=labels[:, None] == labels)


def random_codes(n=9, length=6):
    return 1.8 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.9


@pytest.mark.parametrize("margin", [None, 0, 1.5])
def test_it_is_the_loop_s(margin):
    codes, labels = random_codes(), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    costs, alpha = [], 0.75 if margin is None else margin
    for q in range(9):
        for i in range(9):
            for j in range(9):
                if i != q and labels[i] == labels[q] and labels[j] != labels[q]:
                    difference = float(codes[q] @ codes[i] - codes[q] @ codes[j]) / 2 - alpha
                    costs.append(math.log(1 + math.exp(difference)) - difference)
    quantisation = float((codes - codes.sign()).square().mean())
    expected = sum(costs) / len(costs) + 2 * quantisation
    assert float(DTSH(margin, eta=2)(batch_of(codes, labels))) == pytest.approx(expected)


def test_the_margin_is_in_bits():
    codes = torch.ones(3, 8, dtype=torch.float64)
    codes[2, :4] = -1
    # The neighbour lies 4 bits nearer than the other item, which is the margin: an even chance.
    value = triplet_likelihood(codes, torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool(), 4)
    assert float(value) == pytest.approx(math.log(2))


def test_blocks_give_the_value_and_gradient_of_the_whole(monkeypatch):
    labels = torch.arange(9) % 3
    results = []
    for triplets in (1 << 20, 30, 1):
        monkeypatch.setattr(dtsh, "BLOCK_TRIPLETS", triplets)
        codes = random_codes().requires_grad_()
        value = DTSH()(batch_of(codes, labels))
        value.backward()
        results.append((value.detach(), codes.grad))
    for value, gradient in results[1:]:
        assert torch.allclose(value, results[0][0])
        assert torch.allclose(gradient, results[0][1])


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [1, 1, 1]])
def test_without_triplets_the_quantisation_error_is_left(labels):
    codes = random_codes(len(labels))
    expected = float((codes.abs() - 1).square().mean())
    assert float(DTSH()(batch_of(codes, torch.tensor(labels)))) == pytest.approx(expected)


@pytest.mark.parametrize(("settings", "message"), [({"margin": -1}, "margin=-1"), ({"eta": -0.1}, "eta=-0.1")])
def test_settings_are_checked(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        DTSH(**settings)
