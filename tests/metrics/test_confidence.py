"""Intervals and paired tests against their definitions."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from deephash.metrics.confidence import mean_interval, wilcoxon
from deephash.validation import InvalidInputError


def test_interval_by_hand():
    # t with 3 degrees of freedom at 97.5 %: 3.182446; s² of 1..4 is 5/3.
    interval = mean_interval([1.0, 2.0, 3.0, 4.0])
    half = 3.182446305 * math.sqrt(5 / 3) / 2
    assert (interval.mean, interval.runs) == (2.5, 4)
    assert interval.low == pytest.approx(2.5 - half)
    assert interval.high == pytest.approx(2.5 + half)
    assert interval.half_width == pytest.approx(half)


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.normal(3.0, 2.0, (2000, 5))
    intervals = [mean_interval(torch.from_numpy(draw)) for draw in draws]
    covered = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.015)
    assert all(mean_interval(draw, 0.5).high < interval.high for draw, interval in zip(draws, intervals, strict=True))


def test_wilcoxon_equals_counting_signs():
    first, second = [0.9, 0.5, 0.7, 0.4, 0.8], [0.6, 0.55, 0.5, 0.25, 0.4]
    differences = np.subtract(first, second)
    ranks = stats.rankdata(np.abs(differences))
    observed = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=5)
    ]
    outcome = wilcoxon(first, torch.tensor(second, dtype=torch.float64))
    assert outcome.statistic == observed
    assert outcome.p_value == pytest.approx(min(1.0, 2 * np.mean(np.array(sums) <= observed)))
    assert outcome.median_difference == pytest.approx(0.2)
    assert (outcome.pairs, outcome.ties) == (5, 0)


def test_wilcoxon_leaves_out_skipped_queries_and_ties():
    nan = math.nan
    first, second = [0.1, nan, 0.5, 0.4, 0.3, 0.9], [0.1, nan, 0.4, 0.2, 0.0, 0.5]
    outcome = wilcoxon(first, second)
    assert (outcome.pairs, outcome.ties) == (5, 1)
    assert outcome.p_value == pytest.approx(2 / 16)
    same = wilcoxon(first, first)
    assert (same.p_value, same.ties, same.median_difference) == (1.0, 5, 0.0)


def test_wilcoxon_over_many_queries_finds_a_small_gain():
    rng = np.random.default_rng(2)
    base = rng.random(1000)
    assert wilcoxon(base + rng.normal(0.01, 0.05, 1000), base).p_value < 1e-3
    assert wilcoxon(base + rng.normal(0.0, 0.05, 1000), base).p_value > 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([0.5]), "1 run gives no interval; expected at least 2, with different seeds."),
        (lambda: mean_interval([]), "0 runs give no interval; expected at least 2, with different seeds."),
        (lambda: mean_interval([0.5, math.nan]), "run 1 is not finite; leave out runs without a figure."),
        (lambda: mean_interval([1, 2], 95), "level=95; expected a number between 0 and 1, such as 0.95."),
        (lambda: mean_interval(np.ones((2, 2))), "runs have shape (2, 2); expected one axis, (n,)."),
        (
            lambda: wilcoxon([1, 2, 3], [1, 2]),
            "first has 3 values and second 2; a paired test needs one pair per query or run.",
        ),
        (
            lambda: wilcoxon([1, 2, math.nan], [1, 2, 3]),
            "pair 2 holds a value that is not finite; compare both methods on the same queries.",
        ),
        (lambda: wilcoxon([1], [2]), "a paired test of 1 pairs is meaningless; expected at least 2 queries or runs."),
        (
            lambda: wilcoxon([math.nan, 1], [math.nan, 2]),
            "a paired test of 1 pairs is meaningless; expected at least 2 queries or runs.",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InvalidInputError) as error:
        call()
    assert str(error.value) == message
