"""Whether a metric's gain on a query goes with what participants say of it."""

from dataclasses import dataclass
from typing import final

import numpy as np

RESAMPLES = 1_000


@final
@dataclass(frozen=True)
class Agreement:
    """A metric beside judgements, over queries.

    Args:
        metric: first less second run, of each query.
        judged: preference, the mean of 1 for the first run, -1 for the second and 0 for neither; or rating, the mean
            difference of ratings.
        queries: that have both.
        tau: Kendall's tau-b; None where either is the same for all queries.
        interval: 95 %, by resampling queries.
    """

    metric: str
    judged: str
    queries: int
    tau: float | None
    interval: tuple[float, float] | None


def agreement(
    metric: str, judged: str, gains: np.ndarray, judgements: np.ndarray, draw: np.random.Generator
) -> Agreement:
    """Kendall's tau-b over queries, with its interval.

    Args:
        metric: its name.
        judged: what the judgements are.
        gains: of the metric, float64 (n,); NaN where a query has none.
        judgements: means by query, float64 (n,).
        draw: of the resamples.
    """
    there = np.isfinite(gains)
    # Sums in another order are no difference of queries.
    one, other = (order_signs(values[there].round(12)) for values in (gains, judgements))
    size = int(there.sum())
    tau = float(weighted_tau(one, other, np.ones((1, size)))[0]) if size else np.nan
    if not np.isfinite(tau):
        return Agreement(metric, judged, size, None, None)
    weights = draw.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(np.float64)
    resampled = weighted_tau(one, other, weights)
    low, high = np.quantile(resampled[np.isfinite(resampled)], (0.025, 0.975))
    return Agreement(metric, judged, size, tau, (float(low), float(high)))


def order_signs(values: np.ndarray) -> np.ndarray:
    """Which of each two values is larger: 1, -1, or 0 where they are tied; float64 (n, n)."""
    return np.asarray(np.sign(values[:, None] - values[None]))


def weighted_tau(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of samples that hold each query some times.

    Args:
        one: as `order_signs` gives them, (n, n).
        other: of the other values.
        weights: how often each sample holds each query, (B, n).

    Returns:
        float64 (B,); NaN where a sample's values are all tied.
    """
    concordant, untied, other_untied = (
        np.einsum("bn,bn->b", weights @ pairs, weights) for pairs in (one * other, one * one, other * other)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(concordant / np.sqrt(untied * other_untied))
