"""How the order of systems that one measure gives agrees with another's, and how sure a difference is."""

import numpy as np
from numpy.typing import NDArray

from deephash.satisfaction.rank_biased_overlap import rank_biased_overlap
from deephash.validation import InvalidInputError

Values = NDArray[np.float64]


def kendall_taus(one: Values, other: Values) -> Values:
    """Kendall's τ-b of two measures of the same systems, for each of m queries or samples.

    Args:
        one: (s, m), a measure of s systems.
        other: (s, m), another.

    Returns:
        (m,); NaN where one of them is constant.
    """
    first, second = np.triu_indices(len(one), 1)
    signs, others = (np.sign(values[first] - values[second]) for values in (one, other))
    pairs = np.abs(signs).sum(0) * np.abs(others).sum(0)
    taus: Values = np.where(pairs > 0, (signs * others).sum(0) / np.sqrt(np.maximum(pairs, 1)), np.nan)
    return taus


def kendall_tau(one: Values, other: Values) -> float:
    """Kendall's τ-b of two measures of the same systems (s,); NaN where one of them is constant."""
    return float(kendall_taus(one[:, None], other[:, None])[0])


def order_overlap(one: Values, other: Values, persistence: float = 0.9) -> float:
    """Rank-biased overlap of the orders, best first, that two measures give; equals keep their places."""
    best_first = [np.argsort(-values, kind="stable").tolist() for values in (one, other)]
    return rank_biased_overlap(best_first[0], best_first[1], persistence)


def tau_interval(one: Values, other: Values, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of τ between means over queries; queries are drawn, the same for both measures.

    Args:
        one: (s, q), a measure of each system on each query.
        other: (s, q), another.
        resamples: sets of q queries.
        rng: of the draws.
    """
    queries = one.shape[1]
    # How often each query is drawn.
    drawn = rng.multinomial(queries, np.full(queries, 1 / queries), resamples).T / queries
    taus = kendall_taus(one @ drawn, other @ drawn)
    low, high = np.nanquantile(taus, [0.025, 0.975])
    return float(low), float(high)


def per_query_tau(one: Values, other: Values) -> float:
    """Mean over queries of τ between two measures of the systems on that query, (s, q) each.

    Queries on which a measure is the same for all systems say nothing and are left out; NaN where all are.
    """
    taus = kendall_taus(one, other)
    taus = taus[~np.isnan(taus)]
    return float(taus.mean()) if len(taus) else float("nan")


def randomisation_p(differences: Values, flips: int, rng: np.random.Generator, block: int = 256) -> Values:
    """Two-sided p of paired randomisation tests: how often random signs give a sum as far from 0 (Fisher 1935).

    Args:
        differences: (pairs, q), of two systems' values on each query.
        flips: draws of signs, the same for all pairs; the smallest p is 1 / (flips + 1).
        rng: of the signs.
        block: draws held at a time.

    Returns:
        (pairs,).
    """
    observed = np.abs(differences.sum(1))
    # Sums of the same numbers in another order differ in their last digits.
    tolerance = 1e-12 * np.abs(differences).sum(1)
    reached = np.zeros(len(differences), np.int64)
    for start in range(0, flips, block):
        signs = rng.choice([-1.0, 1.0], (differences.shape[1], min(block, flips - start)))
        reached += (np.abs(differences @ signs) >= (observed - tolerance)[:, None]).sum(1)
    return (reached + 1) / (flips + 1)


def needed_gain(gains: Values, shares: Values, wanted: float = 0.9) -> float:
    """The smallest gain from which on the share of users who prefer the better system is at least `wanted`.

    The share is taken as never falling with the gain (isotonic regression), which evens out single pairs.

    Args:
        gains: (pairs,), how much better one system is than the other by a metric, at least 0.
        shares: (pairs,), users who prefer that system.
        wanted: share of users.

    Returns:
        The gain; infinity where no gain seen is enough.

    Raises:
        InvalidInputError: gains below 0, or not one share for each.
    """
    from sklearn.isotonic import IsotonicRegression

    if gains.shape != shares.shape or gains.ndim != 1 or (gains < 0).any():
        raise InvalidInputError(f"gains {gains.shape} and shares {shares.shape}; expected as many, gains from 0.")
    order = np.argsort(gains)
    fitted = IsotonicRegression().fit(gains, shares).predict(gains[order])
    enough = np.flatnonzero(fitted >= wanted)
    return float(gains[order][enough[0]]) if len(enough) else float("inf")


def preferring_users(
    better: NDArray[np.bool_], other: NDArray[np.bool_], queries: int, users: int, rng: np.random.Generator
) -> float:
    """Share of users who like one system more, each by how many of some queries it satisfied; equals count half.

    Args:
        better: bool (q, m), whether a session with the system was satisfied, m sessions of each query.
        other: bool (q, m), of the other system.
        queries: that a user asks of each before choosing.
        users: to draw.
        rng: of queries and sessions.
    """
    rows = rng.integers(0, better.shape[0], (users, queries))
    one, two = (rng.integers(0, better.shape[1], (users, queries)) for _ in range(2))
    difference = better[rows, one].sum(1) - other[rows, two].astype(np.int64).sum(1)
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
