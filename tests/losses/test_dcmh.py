"""DCMH: against loops over pairs across views, shared bits and balance."""

import math
from dataclasses import replace

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.dcmh import DCMH, bit_balance, shared_bits
from deephash.validation import InvalidInputError


def random_batch(items=5, length=6):
    """Each item's image, then each one's text but the last's."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.arange(items), torch.arange(items - 1)])
    views = torch.cat([torch.zeros(items), torch.ones(items - 1)]).long()
    codes = 1.8 * torch.rand(len(rows), length, generator=generator, dtype=torch.float64) - 0.9
    labels = (torch.arange(items) % 3)[rows]
    neighbours = labels[:, None] == labels
    return TrainingBatch(codes, codes, codes, rows, neighbours=neighbours, rows=rows, views=views)


def sign(value):
    return 1 if value >= 0 else -1


def test_it_is_the_loop_s():
    batch = random_batch()
    images, texts = batch.codes[:5].tolist(), batch.codes[5:].tolist()
    likelihood, quantisation = [], []
    for i, f in enumerate(images):
        for j, g in enumerate(texts):
            theta = sum(a * b for a, b in zip(f, g, strict=True)) / 2
            # A pair's own image and text are neighbours too.
            likelihood.append(math.log(1 + math.exp(theta)) - theta * (i % 3 == j % 3))
    for i, f in enumerate(images):
        g = texts[i] if i < len(texts) else [0.0] * 6
        bits = [sign(a + b) for a, b in zip(f, g, strict=True)]
        quantisation += [(a - b) ** 2 for a, b in zip(f, bits, strict=True)]
        if i < len(texts):
            quantisation += [(a - b) ** 2 for a, b in zip(g, bits, strict=True)]
    balance = sum((sum(column) / len(view)) ** 2 for view in (images, texts) for column in zip(*view, strict=True))
    expected = sum(likelihood) / len(likelihood), sum(quantisation) / len(quantisation), balance
    assert float(DCMH(gamma=0, eta=0)(batch)) == pytest.approx(expected[0])
    assert float(DCMH(gamma=3, eta=0)(batch)) == pytest.approx(expected[0] + 3 * expected[1])
    assert float(DCMH(gamma=0, eta=2)(batch)) == pytest.approx(expected[0] + 2 * expected[2])


def test_pairs_within_a_view_do_not_count():
    batch = random_batch()
    other = replace(batch, neighbours=torch.where(batch.across, batch.neighbours, ~batch.neighbours))
    assert torch.equal(DCMH()(batch), DCMH()(other))


def test_a_pair_shares_the_signs_of_its_sum_and_zero_is_one():
    codes = torch.tensor([[0.5, -0.2, 0.0], [-0.6, 0.1, 0.0], [0.3, -0.4, 0.1]])
    bits = shared_bits(codes, torch.tensor([4, 4, 1]))
    assert bits.tolist() == [[-1, -1, 1], [-1, -1, 1], [1, -1, 1]]
    assert bit_balance(codes.new_ones(3, 2), torch.tensor([1, 1, 1])) == 2


def test_descent_brings_the_codes_of_a_pair_together():
    batch = random_batch(items=9, length=8)
    codes = batch.codes.clone().requires_grad_()
    optimizer = torch.optim.SGD([codes], lr=5.0)
    for _ in range(60):
        optimizer.zero_grad()
        DCMH()(replace(batch, codes=codes.tanh())).backward()
        optimizer.step()
    agreement = ((codes[:8] >= 0) == (codes[9:] >= 0)).double().mean()
    before = ((batch.codes[:8] >= 0) == (batch.codes[9:] >= 0)).double().mean()
    assert before < 0.6
    assert agreement > 0.9


@pytest.mark.parametrize("name", ["gamma", "eta"])
@pytest.mark.parametrize("value", [-1, float("nan"), "much"])
def test_weights_are_checked(name, value):
    with pytest.raises(InvalidInputError, match=f"{name}="):
        DCMH(**{name: value})
