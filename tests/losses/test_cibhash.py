"""CIBHash: both terms against loops, what the contrast prefers, and hard codes."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.cibhash import MIN_PROBABILITY, CIBHash, cross_entropy_of_views, divergence_of_views
from deephash.validation import InvalidInputError


def views(n=5, length=6):
    generator = torch.Generator().manual_seed(0)
    return [1.8 * torch.rand(n, length, generator=generator, dtype=torch.float64) - 0.9 for _ in range(2)]


def test_the_contrast_is_the_loop_s():
    first, second = views()
    codes = [*first, *second]
    costs = []
    for i in range(10):
        scores = [math.exp(float(codes[i] @ codes[j]) / 6 / 0.4) for j in range(10)]
        costs.append(-math.log(scores[(i + 5) % 10] / (sum(scores) - scores[i])))
    assert float(cross_entropy_of_views(first, second, 0.4)) == pytest.approx(sum(costs) / 10)


def test_the_divergence_is_the_loop_s():
    first, second = views()
    total = 0.0
    for u, v in zip(first.flatten().tolist(), second.flatten().tolist(), strict=True):
        p, q = (MIN_PROBABILITY + (1 - 2 * MIN_PROBABILITY) * (1 + code) / 2 for code in (u, v))
        for a, b in ((p, q), (q, p)):
            total += (a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))) / 2
    assert float(divergence_of_views(first, second)) == pytest.approx(total / 5)
    assert float(divergence_of_views(first, first)) == 0


def test_the_loss_adds_them_and_does_not_depend_on_which_view_is_first():
    first, second = views()
    batch = TrainingBatch(first, first, first, torch.arange(5), second_codes=second)
    other = TrainingBatch(second, second, second, torch.arange(5), second_codes=first)
    expected = float(cross_entropy_of_views(first, second, 0.3) + 2 * divergence_of_views(first, second))
    assert float(CIBHash(beta=2)(batch)) == pytest.approx(expected)
    assert float(CIBHash(beta=2)(other)) == pytest.approx(expected)


def test_views_alike_and_items_apart_cost_least():
    corners = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1], [1, -1, 1, -1]])
    matched = cross_entropy_of_views(corners, corners, 0.3)
    mixed = cross_entropy_of_views(corners, corners[[1, 2, 0]], 0.3)
    collapsed = cross_entropy_of_views(corners[[0, 0, 0]], corners[[0, 0, 0]], 0.3)
    assert matched < collapsed < mixed
    assert float(collapsed) == pytest.approx(math.log(5))


def test_hard_bits_that_differ_cost_a_finite_amount():
    ones = torch.ones(2, 8)
    value = float(divergence_of_views(ones, -ones))
    assert value == pytest.approx(8 * (1 - 2 * MIN_PROBABILITY) * math.log(1 / MIN_PROBABILITY - 1), rel=1e-5)


def test_one_item_has_nothing_to_be_told_from():
    first, second = views(1)
    assert float(cross_entropy_of_views(first, second, 0.3)) == 0


@pytest.mark.parametrize(("settings", "message"), [({"temperature": 0}, "temperature=0"), ({"beta": -1}, "beta=-1")])
def test_settings_are_checked(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        CIBHash(**settings)
