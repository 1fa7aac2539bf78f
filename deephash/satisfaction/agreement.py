"""Agreement between the orders that measures give to systems, and the significance of differences."""

import numpy as np
from numpy.typing import NDArray

from deephash.satisfaction.rank_biased_overlap import rank_biased_overlap
from deephash.validation import InvalidInputError

Values = NDArray[np.float64]


def kendall_taus(first: Values, second: Values) -> Values:
    """Return Kendall's τ-b of two measures of the same systems, for each of m queries or samples.

    Args:
        first: (s, m), a measure of s systems.
        second: (s, m), another measure.

    Returns:
        (m,); NaN where a measure is constant.
    """
    rows, columns = np.triu_indices(len(first), 1)
    signs, second_signs = (np.sign(values[rows] - values[columns]) for values in (first, second))
    pairs = np.abs(signs).sum(0) * np.abs(second_signs).sum(0)
    taus: Values = np.where(pairs > 0, (signs * second_signs).sum(0) / np.sqrt(np.maximum(pairs, 1)), np.nan)
    return taus


def kendall_tau(first: Values, second: Values) -> float:
    """Return Kendall's τ-b of two measures of the same systems (s,); NaN if a measure is constant."""
    return float(kendall_taus(first[:, None], second[:, None])[0])


def order_overlap(first: Values, second: Values, persistence: float = 0.9) -> float:
    """Return the rank-biased overlap of the orders, best first, that two measures give. Ties keep their order."""
    best_first = [np.argsort(-values, kind="stable").tolist() for values in (first, second)]
    return rank_biased_overlap(best_first[0], best_first[1], persistence)


def per_query_tau(first: Values, second: Values) -> float:
    """Return Kendall's τ between two measures of s systems, (s, q) each, averaged over q queries.

    Queries on which a measure is equal for all systems are left out; the result is NaN if all are.
    """
    taus = kendall_taus(first, second)
    taus = taus[~np.isnan(taus)]
    return float(taus.mean()) if len(taus) else float("nan")


def randomisation_p(differences: Values, flips: int, rng: np.random.Generator, block: int = 256) -> Values:
    """Return two-sided p-values of paired randomisation tests by random signs (Fisher 1935).

    Args:
        differences: (pairs, q), differences between two systems on each query.
        flips: number of draws of signs, the same for all pairs; the smallest p-value is 1 / (flips + 1).
        rng: generator of the signs.
        block: draws per block.

    Returns:
        (pairs,).
    """
    observed = np.abs(differences.sum(1))
    # Sums in another order differ in their last digits.
    tolerance = 1e-12 * np.abs(differences).sum(1)
    reached = np.zeros(len(differences), np.int64)
    for start in range(0, flips, block):
        signs = rng.choice([-1.0, 1.0], (differences.shape[1], min(block, flips - start)))
        reached += (np.abs(differences @ signs) >= (observed - tolerance)[:, None]).sum(1)
    return (reached + 1) / (flips + 1)


def needed_gain(gains: Values, shares: Values, wanted: float = 0.9) -> float:
    """Return the smallest gain from which on at least a `wanted` share of users prefers the better system.

    Isotonic regression, in which the share never falls as the gain grows, smooths the shares of single pairs.

    Args:
        gains: (pairs,), gains of one system over the other by a metric, at least 0.
        shares: (pairs,), shares of users who prefer that system.
        wanted: share of users.

    Returns:
        The gain; infinity if no observed gain is enough.

    Raises:
        InvalidInputError: a gain is below 0, or there is not one share per gain.
    """
    from sklearn.isotonic import IsotonicRegression

    if gains.shape != shares.shape or gains.ndim != 1 or (gains < 0).any():
        raise InvalidInputError(
            f"gains {gains.shape} and shares {shares.shape}; expected one share per gain, and gains from 0."
        )
    order = np.argsort(gains)
    fitted = IsotonicRegression().fit(gains, shares).predict(gains[order])
    enough = np.flatnonzero(fitted >= wanted)
    return float(gains[order][enough[0]]) if len(enough) else float("inf")


def preferring_users(
    better: NDArray[np.bool_], other: NDArray[np.bool_], queries: int, users: int, rng: np.random.Generator
) -> float:
    """Return the share of users who prefer one system, by the number of satisfying queries; ties count half.

    Args:
        better: bool (q, m), whether sessions with the system were satisfied, m sessions per query.
        other: bool (q, m), of the other system.
        queries: number of queries per system before a user chooses.
        users: number of users to draw.
        rng: generator of queries and sessions.
    """
    rows = rng.integers(0, better.shape[0], (users, queries))
    sessions, other_sessions = (rng.integers(0, better.shape[1], (users, queries)) for _ in range(2))
    difference = better[rows, sessions].sum(1) - other[rows, other_sessions].astype(np.int64).sum(1)
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
