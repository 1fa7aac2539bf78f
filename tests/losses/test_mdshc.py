"""MDSHC: against loops for one and several labels, its minimum, and the distance of its centres."""

import math

import pytest
import torch

from deephash.functional.separated_codewords import gilbert_varshamov_distance, minimal_distance
from deephash.losses.batch import TrainingBatch
from deephash.losses.mdshc import MDSHC, centre_likelihood, closeness_of_neighbours
from deephash.validation import InvalidInputError

ITEMS, LENGTH, CLASSES = 6, 8, 3


def random_codes(seed=0, items=ITEMS):
    return 1.8 * torch.rand(items, LENGTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.9


def batch_of(codes, labels):
    indicators = torch.nn.functional.one_hot(labels, CLASSES) if labels.ndim == 1 else labels
    shared = indicators.double() @ indicators.double().T > 0
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), labels, neighbours=shared)


def cosine(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))


def looped(loss, codes, classes):
    centres, entries, pairs = loss.centres.tolist(), [], []
    for u, own in zip(codes.tolist(), classes, strict=True):
        scores = [math.exp(math.sqrt(LENGTH) * cosine(u, h)) for h in centres]
        shares = [score / sum(scores) for score in scores]
        if own:
            entries += [-math.log(p if c in own else 1 - p) for c, p in enumerate(shares)]
    for i, first in enumerate(classes):
        for j, second in enumerate(classes):
            if i != j and set(first) & set(second):
                pairs.append(math.log(1 + math.exp((1 - cosine(codes[i].tolist(), codes[j].tolist())) / 2)))
    bits = [(abs(value) - 1) ** 2 for value in codes.flatten().tolist()]
    return (
        sum(entries) / len(entries)
        + loss.pair_weight * sum(pairs) / max(1, len(pairs))
        + loss.quantization_weight * sum(bits) / len(bits)
    )


@pytest.mark.parametrize("settings", [{}, {"pair_weight": 0.3, "quantization_weight": 2}])
def test_it_is_the_loop_s(settings):
    loss = MDSHC(LENGTH, CLASSES, torch.Generator().manual_seed(1), **settings).double()
    codes, one = random_codes(), torch.tensor([0, 1, 2, 2, 1, 0])
    assert float(loss(batch_of(codes, one))) == pytest.approx(looped(loss, codes, [[c] for c in one.tolist()]))
    several = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 0], [0, 1, 1]]).bool()
    expected = looped(loss, codes, [row.nonzero()[:, 0].tolist() for row in several])
    assert float(loss(batch_of(codes, several))) == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "length"), [(10, 24), (100, 32), (10, 48)])
def test_its_centres_keep_the_distance_of_the_bound(classes, length):
    centres = MDSHC(length, classes).centres
    assert centres.shape == (classes, length)
    assert minimal_distance(centres) >= gilbert_varshamov_distance(classes, length)


def test_codes_at_their_centre_are_the_best_bits():
    loss = MDSHC(16, 10)
    labels = torch.arange(10)
    best = centre_likelihood(loss.centres, loss.centres, labels)
    for bit in range(16):
        flipped = loss.centres.clone()
        flipped[:, bit] *= -1
        assert float(centre_likelihood(flipped, loss.centres, labels)) > float(best)


def test_long_codes_at_their_centre_have_a_finite_cost_and_slope():
    centres = MDSHC(2048, 2).centres
    codes = centres.clone().requires_grad_()
    value = centre_likelihood(codes, centres, torch.arange(2))
    value.backward()
    assert 0 <= float(value.detach()) < 1e-6
    assert bool(codes.grad.isfinite().all())


def test_without_labels_or_neighbours_nothing_is_left():
    codes = random_codes(items=2)
    assert float(centre_likelihood(codes, torch.ones(CLASSES, LENGTH).double(), torch.zeros(2, CLASSES).bool())) == 0
    assert float(closeness_of_neighbours(codes, torch.eye(2).bool())) == 0


@pytest.mark.parametrize("name", ["pair_weight", "quantization_weight"])
def test_settings_are_checked(name):
    with pytest.raises(InvalidInputError, match=f"{name}=-1"):
        MDSHC(LENGTH, CLASSES, **{name: -1})
