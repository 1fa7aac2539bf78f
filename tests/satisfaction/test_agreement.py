"""Agreement of orders and certainty of differences: against SciPy, exact enumeration and planted answers."""

import itertools

import numpy as np
import pytest
from scipy import stats

from deephash.satisfaction.agreement import (
    kendall_tau,
    kendall_taus,
    needed_gain,
    order_overlap,
    per_query_tau,
    preferring_users,
    randomisation_p,
)
from deephash.validation import InvalidInputError


def test_randomisation_p_is_the_share_of_all_signs():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.4, 1, (5, 9))
    signs = np.array(list(itertools.product([-1, 1], repeat=9)))
    exact = (np.abs(differences @ signs.T) >= np.abs(differences.sum(1))[:, None] - 1e-12).mean(1)
    found = randomisation_p(differences, 40_000, np.random.default_rng(1))
    assert found == pytest.approx(exact, abs=0.01)
    theirs = stats.permutation_test((differences[0],), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert found[0] == pytest.approx(theirs, abs=0.01)
    assert (randomisation_p(np.zeros((2, 5)), 99, rng) == 1).all()


def test_tau_and_overlap_of_orders():
    one, other = np.array([0.1, 0.5, 0.3, 0.9]), np.array([1.0, 3.0, 2.0, 4.0])
    assert kendall_tau(one, other) == 1
    assert kendall_tau(one, -other) == -1
    assert order_overlap(one, other) == pytest.approx(1)
    assert order_overlap(one, -other) < 0.8


def test_taus_equal_scipy_with_ties_and_without():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, (9, 30)).astype(float), rng.normal(size=(9, 30))
    one[:, 0] = 1
    expected = [stats.kendalltau(a, b).statistic for a, b in zip(one.T, other.T, strict=True)]
    assert kendall_taus(one, other) == pytest.approx(expected, abs=1e-14, nan_ok=True)
    assert np.isnan(kendall_taus(one, other)[0])


def test_per_query_tau_leaves_out_queries_that_say_nothing():
    one = np.array([[1.0, 1, 3], [1, 2, 2], [1, 3, 1]])
    assert per_query_tau(one, one) == 1
    other = np.array([[5.0, 1, 3], [6, 1, 2], [7, 1, 3]])
    assert per_query_tau(one, other) == pytest.approx(kendall_tau(one[:, 2], other[:, 2]))
    assert np.isnan(per_query_tau(np.ones((3, 2)), one[:, :2]))


def test_needed_gain_finds_a_planted_threshold():
    rng = np.random.default_rng(0)
    gains = rng.uniform(0, 1, 4000)
    shares = np.clip(0.5 + gains, 0, 1) + rng.normal(0, 0.05, 4000)
    assert needed_gain(gains, shares) == pytest.approx(0.4, abs=0.04)
    assert needed_gain(gains, np.full(4000, 0.6)) == np.inf
    with pytest.raises(InvalidInputError, match="gains from 0"):
        needed_gain(-gains, shares)


def test_preferring_users():
    """Satisfied .7 of the time against .5: among 10 queries each, the binomial's answer."""
    rng = np.random.default_rng(0)
    better, other = rng.random((500, 40)) < 0.7, rng.random((500, 40)) < 0.5
    one, two = (stats.binom(10, satisfied.mean()).pmf(np.arange(11)) for satisfied in (better, other))
    joint = np.outer(one, two)
    expected = np.tril(joint, -1).sum() + 0.5 * np.trace(joint)
    assert preferring_users(better, other, 10, 40_000, rng) == pytest.approx(expected, abs=0.01)
    assert preferring_users(better, better, 10, 40_000, rng) == pytest.approx(0.5, abs=0.01)
