"""Precision, recall and F1 at k and within r, against counting in plain NumPy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.metrics import precision_recall
from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError


@st.composite
def rankings(draw, most=7):
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(lambda sizes: 1 <= sum(sizes) <= most))
    return sizes, [draw(st.integers(0, n)) for n in sizes]


@given(rankings())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_at_k_equal_the_mean_over_all_orders(ranking):
    total, relevant = ranking
    counts, found = DistanceCounts(torch.tensor([total]), torch.tensor([relevant])), sum(relevant)
    groups = ([1] * r + [0] * (n - r) for n, r in zip(total, relevant, strict=True))
    choices = [sorted(set(itertools.permutations(group))) for group in groups]
    orders = np.array([list(itertools.chain(*parts)) for parts in itertools.product(*choices)])
    for k in range(1, sum(total) + 1):
        hits = orders[:, :k].sum(1)
        values = [
            f(counts, k) for f in (precision_recall.precision_at, precision_recall.recall_at, precision_recall.f1_at)
        ]
        if found == 0:
            assert all(value.isnan().all() for value in values)
            continue
        expected = [np.mean(hits / k), np.mean(hits / found), np.mean(2 * hits / (k + found))]
        assert [float(value) for value in values] == pytest.approx(expected, abs=1e-15)


@given(rankings(most=20))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_within_r_count_the_ball(ranking):
    total, relevant = ranking
    counts, found = DistanceCounts(torch.tensor([total]), torch.tensor([relevant])), sum(relevant)
    for radius in range(len(total)):
        items, hits = sum(total[: radius + 1]), sum(relevant[: radius + 1])
        values = [
            precision_recall.precision_within(counts, radius),
            precision_recall.recall_within(counts, radius),
            precision_recall.f1_within(counts, radius),
        ]
        if found == 0:
            assert all(value.isnan().all() for value in values)
            continue
        expected = [hits / items if items else 0.0, hits / found, 2 * hits / (items + found)]
        assert [float(value) for value in values] == pytest.approx(expected, abs=1e-15)


def test_f1_is_the_harmonic_mean():
    counts = DistanceCounts(torch.tensor([[4, 6, 10]]), torch.tensor([[3, 1, 1]]))
    for p, r, f1 in (
        (
            precision_recall.precision_at(counts, 4),
            precision_recall.recall_at(counts, 4),
            precision_recall.f1_at(counts, 4),
        ),
        tuple(getattr(precision_recall, f"{name}_within")(counts, 1) for name in ("precision", "recall", "f1")),
    ):
        assert torch.allclose(f1, 2 * p * r / (p + r), rtol=1e-14)


def test_an_empty_ball_is_a_failed_look_up():
    counts = DistanceCounts(torch.tensor([[0, 0, 5], [2, 0, 3]]), torch.tensor([[0, 0, 2], [1, 0, 0]]))
    assert precision_recall.precision_within(counts, 1).tolist() == [0.0, 0.5]
    assert precision_recall.f1_within(counts, 1).tolist() == [0.0, 2 / 3]


@pytest.mark.parametrize(
    ("radius", "message"),
    [
        (-1, "radius=-1; expected a whole number of at least 0."),
        (1.5, "radius=1.5; expected a whole number of at least 0."),
        (3, "radius=3 exceeds 2, the largest distance of these codes; lower it."),
    ],
)
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_bad_radii_are_refused(name, radius, message):
    counts = DistanceCounts(torch.tensor([[1, 3, 0]]), torch.tensor([[1, 0, 0]]))
    with pytest.raises(InvalidInputError) as error:
        getattr(precision_recall, f"{name}_within")(counts, radius)
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_bad_cutoffs_are_refused(name):
    counts = DistanceCounts(torch.tensor([[1, 3, 0]]), torch.tensor([[1, 0, 0]]))
    with pytest.raises(InvalidInputError, match=r"^k=5 exceeds the 4 items that are ranked; lower k\.$"):
        getattr(precision_recall, f"{name}_at")(counts, 5)
    with pytest.raises(InvalidInputError, match=r"^k=0; expected a whole number of at least 1\.$"):
        getattr(precision_recall, f"{name}_at")(counts, 0)
