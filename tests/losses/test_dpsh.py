"""DPSH: against a loop over pairs, and what its likelihood prefers."""

import math

import pytest
import torch

from deephash.functional.pair_likelihood import pair_likelihood
from deephash.losses.batch import TrainingBatch
from deephash.losses.dpsh import DPSH
from deephash.validation import InvalidInputError


def random_batch(n=9, length=6):
    generator = torch.Generator().manual_seed(0)
    codes = 1.8 * torch.rand(n, length, generator=generator, dtype=torch.float64) - 0.9
    labels = torch.arange(n) % 3
    return TrainingBatch(codes, codes, codes, torch.arange(n), neighbours=labels[:, None] == labels)


def test_it_is_the_loop_s():
    batch = random_batch()
    codes, likelihood, quantisation = batch.codes.tolist(), [], []
    for i, u in enumerate(codes):
        quantisation += [(a - (1 if a >= 0 else -1)) ** 2 for a in u]
        for j, v in enumerate(codes):
            if i != j:
                theta = sum(a * b for a, b in zip(u, v, strict=True)) / 2
                likelihood.append(math.log(1 + math.exp(theta)) - theta * bool(batch.neighbours[i, j]))
    expected = sum(likelihood) / len(likelihood), sum(quantisation) / len(quantisation)
    assert float(DPSH(eta=0)(batch)) == pytest.approx(expected[0])
    assert float(DPSH(eta=3)(batch)) == pytest.approx(expected[0] + 3 * expected[1])


def test_long_codes_do_not_overflow():
    codes = torch.ones(2, 1024).mul(torch.tensor([[1.0], [-1.0]]))
    itself = torch.eye(2, dtype=torch.bool)
    assert float(pair_likelihood(codes, ~itself, ~itself)) == 512
    assert float(pair_likelihood(codes, itself, ~itself)) == 0


def test_one_item_has_its_quantisation_error_alone():
    batch = random_batch(1)
    assert float(DPSH(eta=2)(batch)) == pytest.approx(2 * float((1 - batch.codes.abs()).square().mean()))


@pytest.mark.parametrize("eta", [-1, float("nan"), "much"])
def test_weight_is_checked(eta):
    with pytest.raises(InvalidInputError, match="eta="):
        DPSH(eta)
