"""Tie-aware AP against the mean over all orders, against exact fractions, and at sizes beyond any list."""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from deephash.metrics.average_precision import (
    _average_precision_of_tensors,
    average_precision,
    average_precision_at,
    average_precision_at_over_hits,
    average_precision_at_over_relevant,
)
from deephash.metrics.harmonic import rank_sum
from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError

DENOMINATORS = {
    average_precision_at: lambda k, relevant, hits: min(k, relevant),
    average_precision_at_over_relevant: lambda k, relevant, hits: relevant,
    average_precision_at_over_hits: lambda k, relevant, hits: hits,
}


def counts_of(total, relevant):
    return DistanceCounts(torch.tensor(total), torch.tensor(relevant))


def list_ap(order, k, denominator):
    """AP@k of one order of items, as printed in textbooks."""
    hits, precisions = 0, Fraction(0)
    for rank, relevant in enumerate(order[:k], start=1):
        if relevant:
            hits += 1
            precisions += Fraction(hits, rank)
    divisor = denominator(k, sum(order), hits)
    return precisions / divisor if divisor else Fraction(0)


def all_orders(total, relevant):
    """Every distinct order of the items that keeps distances rising; all are equally likely."""
    groups = ([1] * r + [0] * (n - r) for n, r in zip(total, relevant, strict=True))
    choices = [sorted(set(itertools.permutations(group))) for group in groups]
    return [list(itertools.chain(*parts)) for parts in itertools.product(*choices)]


@st.composite
def short_rankings(draw):
    """Up to 7 items at up to 5 distances, some distances empty; at least one item."""
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(lambda sizes: 1 <= sum(sizes) <= 7))
    return sizes, [draw(st.integers(0, n)) for n in sizes]


@given(short_rankings())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_equals_the_mean_over_all_orders(ranking):
    total, relevant = ranking
    counts, items = counts_of([total], [relevant]), sum(total)
    if sum(relevant) == 0:
        assert average_precision(counts).isnan().all()
        for metric in DENOMINATORS:
            assert metric(counts, items).isnan().all()
        return
    orders = all_orders(total, relevant)
    for metric, denominator in DENOMINATORS.items():
        for k in range(1, items + 1):
            expected = sum(list_ap(order, k, denominator) for order in orders) / len(orders)
            assert float(metric(counts, k)) == pytest.approx(float(expected), abs=5e-16)
    expected = sum(list_ap(order, items, DENOMINATORS[average_precision_at]) for order in orders) / len(orders)
    assert float(average_precision(counts)) == pytest.approx(float(expected), abs=5e-16)


def test_known_values():
    # One relevant item tied with one other: rank 1 or 2, (1 + 1/2) / 2.
    assert float(average_precision(counts_of([[2]], [[1]]))) == 0.75
    assert float(average_precision(counts_of([[1, 2]], [[1, 1]]))) == pytest.approx((1 + (2 / 2 + 2 / 3) / 2) / 2)
    assert average_precision(counts_of([[0, 3], [1, 2]], [[0, 3], [1, 2]])).tolist() == [1.0, 1.0]


def test_without_ties_equals_scikit_learn():
    rng = np.random.default_rng(0)
    relevant = rng.random(300) < 0.2
    counts = counts_of(np.ones((1, 300), np.int64).tolist(), [relevant.astype(np.int64).tolist()])
    expected = average_precision_score(relevant, -np.arange(300.0))
    assert float(average_precision(counts)) == pytest.approx(expected, abs=1e-14)


def exact_expectation(total, relevant, k, form):
    """Expected AP@k by exact fractions, rank by rank, the cut group by the hypergeometric law of its hits."""
    gains, before, found = Fraction(0), 0, 0
    for n, r in zip(total, relevant, strict=True):
        taken = min(n, k - before)
        if taken < n or before + n == k:
            break
        if n:
            step = Fraction(r - 1, n - 1) if n > 1 else 0
            gains += Fraction(r, n) * sum((found + 1 + (i - 1) * step) / (before + i) for i in range(1, n + 1))
        before, found = before + n, found + r
    value = Fraction(0)
    for h in range(max(0, taken + r - n), min(taken, r) + 1):
        chance = Fraction(math.comb(r, h) * math.comb(n - r, taken - h), math.comb(n, taken))
        step = Fraction(h - 1, taken - 1) if taken > 1 else 0
        inside = Fraction(h, taken) * sum((found + 1 + (i - 1) * step) / (before + i) for i in range(1, taken + 1))
        divisor = DENOMINATORS[form](k, sum(relevant), found + h)
        value += chance * (gains + inside) / divisor if divisor else 0
    return float(value)


@pytest.mark.parametrize("k", [1, 30, 150, 199, 260, 290])
@pytest.mark.parametrize("form", DENOMINATORS)
def test_longer_rankings_equal_exact_fractions(form, k):
    total, relevant = [0, 3, 0, 47, 150, 90], [0, 1, 0, 0, 70, 4]
    expected = exact_expectation(total, relevant, k, form)
    assert float(form(counts_of([total], [relevant]), k)) == pytest.approx(expected, rel=1e-13)


def harmonic(m):
    """H(m) to 40 digits, from 60 terms up to 60 and Euler and Maclaurin's series beyond."""
    if m <= 60:
        return sum((Decimal(1) / i for i in range(1, m + 1)), Decimal(0))
    x = Decimal(m)
    gamma = Decimal("0.57721566490153286060651209008240243104215933593992")
    bernoulli = [Fraction(b) for b in ("1/6", "-1/30", "1/42", "-1/30", "5/66", "-691/2730", "7/6", "-3617/510")]
    bernoulli += [Fraction(b) for b in ("43867/798", "-174611/330", "854513/138", "-236364091/2730")]
    terms = (Decimal(b.numerator) / b.denominator / (2 * j * x ** (2 * j)) for j, b in enumerate(bernoulli, 1))
    return x.ln() + gamma + 1 / (2 * x) - sum(terms)


@pytest.mark.parametrize("before", [0, 1, 7, 63, 127, 128, 129, 300, 5_000, 59_000, 10**6, 10**9])
def test_sums_over_ranks_keep_their_digits(before):
    with localcontext() as context:
        context.prec = 60
        for count in (1, 2, 3, 17, 63, 64, 65, 500, 20_000, 10**9):
            for first in (0, 1, 40, before + 1):
                for step in (0.0, 2.0**-20, 0.25, 1.0):
                    difference = harmonic(before + count) - harmonic(before)
                    exact = (first - Decimal(step) * (before + 1)) * difference + Decimal(step) * count
                    N, n, a, s = (torch.tensor([value], dtype=torch.float64) for value in (before, count, first, step))
                    assert float(rank_sum(N, n, a, s)) == pytest.approx(float(exact), rel=2e-13, abs=1e-40)


def test_a_billion_items_keep_twelve_digits():
    total, relevant = [3, 10**6, 10**9, 5, 10**4, 2], [0, 10, 10**3, 5, 10**4, 1]
    with localcontext() as context:
        context.prec = 60
        gains, before, found = Decimal(0), 0, 0
        for n, r in zip(total, relevant, strict=True):
            step = Decimal(max(r - 1, 0)) / max(n - 1, 1)
            difference = harmonic(before + n) - harmonic(before)
            gains += Decimal(r) / n * ((found + 1 - step * (before + 1)) * difference + step * n)
            before, found = before + n, found + r
        expected = float(gains / found)
    assert float(average_precision(counts_of([total], [relevant]))) == pytest.approx(expected, rel=1e-12)


def test_cut_through_a_huge_group_keeps_its_digits():
    # The hits of 10**6 draws from 10**9 items are all but Poisson, at mean 20: E[1/(1+h)] = (1 - e^-20) / 20.
    counts = counts_of([[1, 10**9]], [[1, 20_000]])
    k = 10**6 + 1
    hits = 20.0
    # Rank 1 is relevant and adds 1; a further hit, some half a million ranks below, adds 10 / 500,000 or so.
    poisson = [math.exp(-hits + h * math.log(hits) - math.lgamma(h + 1)) for h in range(200)]
    least = sum(p / (1 + h) for h, p in enumerate(poisson))
    value = float(average_precision_at_over_hits(counts, k))
    assert value == pytest.approx(least, rel=1e-3)
    assert value > least


def test_more_queries_than_a_block_are_scored_each_alone():
    generator = torch.Generator().manual_seed(3)
    total = torch.randint(0, 50, (3000, 33), generator=generator)
    total[:, :4] = 0
    total[7] = 0
    total[7, 20] = 900
    relevant = (total * torch.rand(total.shape, generator=generator) ** 3).long()
    for metric in (average_precision, lambda c: average_precision_at_over_hits(c, 300)):
        together = metric(DistanceCounts(total, relevant))
        chosen = [0, 7, 991, 992, 993, 2999]
        alone = torch.cat([metric(DistanceCounts(total[i : i + 1], relevant[i : i + 1])) for i in chosen])
        assert torch.equal(together[chosen], alone)
        assert together.dtype == torch.float64


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(1, 70), st.sampled_from([1, 40, 3000, 10**7]))
def test_compiled_equals_tensors(seed, queries, bins, largest):
    """Groups that are early, short, late or delicate, empty distances, and queries without relevant items."""
    rng = np.random.default_rng(seed)
    total = rng.integers(0, largest + 1, (queries, bins)) * (rng.random((queries, bins)) < 0.7)
    total[:, 0] += 1
    share = rng.choice([0.0, 0.001, 0.5, 1.0], (queries, 1))
    counts = DistanceCounts(torch.from_numpy(total), torch.from_numpy(rng.binomial(total, share)))
    torch.testing.assert_close(
        average_precision(counts), _average_precision_of_tensors(counts), rtol=1e-12, atol=0, equal_nan=True
    )


def test_no_queries_give_no_values():
    empty = DistanceCounts(torch.zeros(0, 9, dtype=torch.int64), torch.zeros(0, 9, dtype=torch.int64))
    assert average_precision(empty).shape == (0,)
    for metric in DENOMINATORS:
        assert metric(empty, 5).shape == (0,)


def test_denominators_differ_as_stated():
    counts = counts_of([[1] * 6], [[1, 0, 0, 0, 1, 1]])
    assert float(average_precision_at_over_hits(counts, 2)) == 1.0
    assert float(average_precision_at(counts, 2)) == 0.5
    assert float(average_precision_at_over_relevant(counts, 2)) == pytest.approx(1 / 3)
    assert float(average_precision_at_over_hits(counts_of([[1] * 3], [[0, 0, 1]]), 2)) == 0.0


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (0, "k=0; expected a whole number of at least 1."),
        (-3, "k=-3; expected a whole number of at least 1."),
        (2.5, "k=2.5; expected a whole number of at least 1."),
        (True, "k=True; expected a whole number of at least 1."),
        (5, "k=5 exceeds the 4 items that are ranked; lower k."),
    ],
)
@pytest.mark.parametrize("metric", DENOMINATORS)
def test_bad_cutoffs_are_refused(metric, k, message):
    with pytest.raises(InvalidInputError) as error:
        metric(counts_of([[1, 3]], [[1, 0]]), k)
    assert str(error.value) == message
